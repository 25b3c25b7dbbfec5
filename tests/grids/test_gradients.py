# SPDX-License-Identifier: Apache-2.0
"""The gradients of every quanter against central differences in float64.

A straight-through gradient is the derivative of the quantizer whose rounding
error ``round(t) - t`` is held at its present value. That function is written
down here once, without the code under test, and differentiated numerically.
"""
import numpy as np
import paddle
import pytest

from paddle_mrecg.aware.quanters.abs_max import AbsMaxQuanter
from paddle_mrecg.aware.quanters.lsq import LSQQuanter
from paddle_mrecg.aware.quanters.lsq_plus import LSQPlusQuanter
from paddle_mrecg.strategies.symmetric_pact import SymmetricPACTQuanter
from paddle_mrecg.aware.quanters.tqt import TQTQuanter

EPSILON = 1e-6


def values(shape=(4, 3, 5, 5), seed=0, spread=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)


def run(quanter, x, weights):
    """Output, and gradients of ``sum(weights * y)`` by name, that of the input as ``x``."""
    tensor = paddle.to_tensor(x, stop_gradient=False)
    y = quanter(tensor)
    (y * paddle.to_tensor(weights)).sum().backward()
    found = {name: p.grad.numpy().astype(np.float64) for name, p in quanter.named_parameters()}
    return y.numpy(), dict(found, x=tensor.grad.numpy())


def straight_through(x, step, zero, qmin, qmax, after_rounding):
    """y as a function of (x, step, offset), rounding errors and the choice of inside
    held at their present values.
    """
    t0 = x / step + zero
    error = np.rint(t0) - t0
    decided = np.rint(t0) if after_rounding else t0
    below, above = decided < qmin, decided > qmax

    def y(x, step, offset):
        inner = x + error * step
        return np.where(below, qmin * step + offset, np.where(above, qmax * step + offset, inner))
    return y


def difference(function, at, index):
    shift = np.zeros_like(at)
    shift[index] = EPSILON
    return (function(at + shift) - function(at - shift)) / (2 * EPSILON)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", [LSQQuanter, TQTQuanter])
@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
def test_step_and_input(kind, bits, per_channel):
    layer = paddle.nn.Conv2D(3, 4, 5)
    quanter = kind(layer, role="weight", bits=bits, per_channel=per_channel)
    x, weights = values().astype(np.float64), values(seed=1)
    y, found = run(quanter, x.astype(np.float32), weights)
    step, spec = quanter.step().numpy().astype(np.float64), quanter.spec
    shape = [-1, 1, 1, 1] if per_channel else [1]
    tqt = kind is TQTQuanter
    exact = straight_through(x, step.reshape(shape), 0.0, spec.qmin, spec.qmax, after_rounding=tqt)
    # The step carries LSQ's factor, and for TQT the inner derivative of 2^v: step ln 2.
    per_step = x.size / quanter.channels
    factor = (step * np.log(2.0) if tqt else 1.0) / np.sqrt(per_step * spec.qmax)
    for channel in range(quanter.channels):
        def loss(s):
            return float((weights * exact(x, s.reshape(shape), 0.0)).sum())
        want = difference(loss, step, channel) * (factor[channel] if tqt else factor)
        got = found["log2_threshold" if tqt else "scale"][channel]
        assert got == pytest.approx(want, rel=2e-4, abs=2e-6)  # float32 sums of 300 values
    want_x = ((exact(x + EPSILON, step.reshape(shape), 0.0)
               - exact(x - EPSILON, step.reshape(shape), 0.0)) / (2 * EPSILON))
    np.testing.assert_allclose(found["x"], weights * want_x, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(y, exact(x, step.reshape(shape), 0.0), atol=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_offset(bits):
    quanter = LSQPlusQuanter(bits=bits)
    x, weights = values() + 1.0, values(seed=1)
    # starts from other values: some are clipped at either end
    quanter(paddle.to_tensor(values() + 0.8))
    y, found = run(quanter, x, weights)
    step, zero = (quanter.step().numpy().astype(np.float64),
                  quanter.zero_points().numpy().astype(np.float64))
    assert not quanter.symmetric and zero > 0
    top = 2**bits - 1
    exact = straight_through(x.astype(np.float64), step, zero, 0, top, after_rounding=False)
    factor = 1.0 / np.sqrt(x[0].size * top)
    # The offset is -z step: as the step moves, the paper holds the offset, this grid the integer z.
    want_step = (difference(lambda s: float((weights * exact(x, s, -zero * s)).sum()), step, 0)
                 * factor)
    want_offset = (difference(lambda o: float((weights * exact(x, step, o)).sum()), -zero * step, 0)
                   * factor)
    assert found["scale"][0] == pytest.approx(want_step, rel=2e-4, abs=1e-5)
    assert found["offset"][0] == pytest.approx(want_offset, rel=2e-4, abs=1e-5)
    np.testing.assert_allclose(y, exact(x, step, -zero * step), atol=2e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("negative", [True, False])
def test_alpha(bits, negative):
    quanter = SymmetricPACTQuanter(bits=bits)
    x, weights = values(), values(seed=1)
    x = x if negative else np.abs(x)
    quanter(paddle.to_tensor(0.5 * x))  # alpha starts at half the reach: both ends are clipped
    y, found = run(quanter, x, weights)
    alpha = float(quanter.alpha().item())
    outside = np.abs(x) > alpha
    assert outside.any() and quanter.signed == negative
    assert (found["alpha_shift"][0]
            == pytest.approx(float((weights * np.sign(x) * outside).sum()), rel=1e-5))
    np.testing.assert_array_equal(found["x"], weights * ~outside)
    clipped = np.clip(x, -alpha, alpha)
    np.testing.assert_allclose(y, np.rint(clipped / quanter.step().numpy())
                               * quanter.step().numpy(), atol=1e-6)


def test_abs_max_passes_every_gradient():
    quanter = AbsMaxQuanter(role="weight", bits=4)
    x, weights = values(), values(seed=1)
    y, found = run(quanter, x, weights)
    np.testing.assert_array_equal(found["x"], weights)  # nothing lies outside its own range
    assert np.abs(y - x).max() <= np.abs(x).max() / 7 / 2 * 1.0001


def test_a_step_below_zero_is_used_by_its_magnitude():
    quanter, x = LSQQuanter(bits=4, init="abs_max"), values()
    before = quanter(paddle.to_tensor(x)).numpy()
    positive = run(quanter, x, x)[1]["scale"][0]
    quanter.clear_gradients()
    quanter.scale.set_value(-quanter.scale.numpy())
    after, found = run(quanter, x, x)
    np.testing.assert_array_equal(before, after)
    assert found["scale"][0] == -positive != 0.0
