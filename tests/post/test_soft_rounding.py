# SPDX-License-Identifier: Apache-2.0
"""Soft rounding against its defining formulas written in plain autograd."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.errors import DataError
from paddle_mrecg.grids.affine import Encoding, QuantSpec, dequantize, quantize
from paddle_mrecg.grids.observers import weight_encoding
from paddle_mrecg.post.soft_rounding import SoftRounding

SPECS = [QuantSpec(bits, symmetric, symmetric, axis) for bits in (2, 3, 4, 8)
         for symmetric in (True, False)
         for axis in (None, 0, 1)]


def make(spec, seed=0, method="mse"):
    weight = np.random.default_rng(seed).normal(size=(6, 5, 3, 3)).astype(np.float32)
    return weight, SoftRounding(weight, weight_encoding(weight, spec, method))


def hard(rounding):
    """The weight rounded hard."""
    return dequantize(rounding.codes(), rounding.encoding)


def plain_soft(alpha, rounding, weight):
    """floor + h, clipped to the grid: AdaRound's equation 22 as it stands."""
    encoding = rounding.encoding
    scale = paddle.to_tensor(np.broadcast_to(encoding.along(encoding.scale, 4),
                                             weight.shape).copy())
    zero = paddle.to_tensor(np.broadcast_to(encoding.along(encoding.zero_point, 4),
                                            weight.shape).copy())
    floor = paddle.floor(paddle.to_tensor(weight) * (1.0 / scale)) + zero
    h = paddle.clip(paddle.nn.functional.sigmoid(alpha) * 1.2 - 0.1, 0.0, 1.0)
    return (paddle.clip(floor + h, encoding.spec.qmin, encoding.spec.qmax) - zero) * scale


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_starts_at_the_float_weight(spec):
    weight, rounding = make(spec)
    low, high = (rounding.encoding.along(end, 4) for end in rounding.encoding.range)
    step = rounding.encoding.along(rounding.encoding.scale, 4)
    error = np.abs(rounding.soft().numpy() - np.clip(weight, low, high)) / step
    assert error.max() < 1e-6 * max(1, 2**spec.bits / 8)  # float32 has no more digits at 8 bits
    assert np.array_equal(rounding.codes(), quantize(weight, rounding.encoding))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_codes_are_integers_of_the_grid_after_any_training(spec):
    weight, rounding = make(spec)
    noise = np.random.default_rng(1).normal(size=weight.shape) * 20
    rounding.load_alpha(noise)
    codes = rounding.codes()
    assert codes.dtype == np.int32
    assert spec.qmin <= codes.min() and codes.max() <= spec.qmax
    assert np.abs(codes - quantize(weight, rounding.encoding)).max() <= 1


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_value_and_gradient_equal_the_plain_formulas(spec):
    weight, rounding = make(spec)
    rng = np.random.default_rng(2)
    rounding.load_alpha(rng.normal(size=weight.shape) * 2)
    upstream = paddle.to_tensor(rng.normal(size=weight.shape).astype(np.float32))
    reference = rounding.alpha.detach()
    reference.stop_gradient = False
    expected = plain_soft(reference, rounding, weight)
    np.testing.assert_allclose(rounding.soft().numpy(), expected.numpy(), atol=2e-6)
    (expected * upstream).sum().backward()
    (rounding.soft() * upstream).sum().backward()
    np.testing.assert_allclose(rounding.alpha.grad.numpy(), reference.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("beta", [1.0, 2.0, 2.5, 7.3, 20.0])
def test_injected_rounding_term_has_the_gradient_of_the_regularizer(beta):
    weight, rounding = make(QuantSpec(3, True, True, 0))
    rng = np.random.default_rng(3)
    rounding.load_alpha(rng.normal(size=weight.shape) * 2)
    upstream = paddle.to_tensor(rng.normal(size=weight.shape).astype(np.float32))
    ((rounding.soft() * upstream).sum() + 0.3 * rounding.regularizer(beta)).backward()
    explicit = rounding.alpha.grad.numpy()
    rounding.alpha.clear_gradient()
    (rounding.soft(0.3, beta) * upstream).sum().backward()
    np.testing.assert_allclose(rounding.alpha.grad.numpy(), explicit, atol=2e-6)


def test_regularizer_is_adarounds_term_over_the_weights_that_have_a_choice():
    weight, rounding = make(QuantSpec(2, True, True, 0))
    h = np.clip(1.2 / (1 + np.exp(-rounding.alpha.numpy().astype(np.float64))) - 0.1, 0, 1)
    for beta in (2.0, 5.5, 20.0):
        expected = (1 - np.abs(2 * h - 1)**beta).sum()
        assert abs(float(rounding.regularizer(beta)) - expected) < 1e-4 * expected
    rounding.load_alpha(np.where(h > 0.5, 10.0, -10.0))
    assert float(rounding.regularizer(3.0)) == 0.0
    np.testing.assert_allclose(rounding.soft().numpy(), hard(rounding), atol=1e-6)


def test_regularizer_gradient_matches_finite_differences():
    rounding = SoftRounding(np.array([0.13, -0.31, 0.44], np.float32),
                            Encoding(QuantSpec(4, True, True), 0.5, 0))
    start = rounding.alpha.numpy()
    rounding.regularizer(4.0).backward()
    for k in range(3):
        ends = []
        for sign in (1, -1):
            moved = start.copy()
            moved[k] += sign * 1e-2
            rounding.load_alpha(moved)
            ends.append(float(rounding.regularizer(4.0)))
        assert abs((ends[0] - ends[1]) / 2e-2 - rounding.alpha.grad.numpy()[k]) < 2e-3


def test_weights_beyond_the_grid_are_never_trained():
    weight = np.array([5.0, -5.0, 0.3], np.float32)
    rounding = SoftRounding(weight, Encoding(QuantSpec(3, True, True), 0.5, 0))
    (rounding.soft(1.0, 3.0).sum() + rounding.regularizer(3.0)).backward()
    gradient = rounding.alpha.grad.numpy()
    assert gradient[0] == 0 and gradient[1] == 0 and gradient[2] != 0
    assert rounding.codes().tolist() == [3, -4, 1]


def test_training_with_adam_settles_on_codes_and_beats_nearest_rounding():
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(8, 16)).astype(np.float32)
    # correlated inputs, where the rounding errors of neighbours can cancel
    data = (rng.normal(size=(256, 4)) @ rng.normal(size=(4, 16))
            + 0.1 * rng.normal(size=(256, 16))).astype(np.float32)
    encoding = weight_encoding(weight, QuantSpec(3, True, True, 0), "min_max")
    rounding = SoftRounding(weight, encoding)
    x, target = paddle.to_tensor(data), paddle.to_tensor(data @ weight.T)
    adam = paddle.optimizer.Adam(1e-2, parameters=[rounding.alpha])
    for step in range(1000):
        beta = None if step < 200 else 20.0 - 18.0 * (step - 200) / 800
        output = paddle.matmul(x, rounding.soft(3.0, beta), transpose_y=True)
        paddle.square(output - target).sum(1).mean().backward()
        adam.step()
        adam.clear_grad()

    def error(w):
        return float(np.square(data @ w.T - target.numpy()).sum(1).mean())

    np.testing.assert_allclose(rounding.soft().numpy(), hard(rounding), atol=1e-3)
    assert (error(hard(rounding))
            < 0.5 * error(dequantize(quantize(weight, encoding), encoding)))


def test_warm_start_reproduces_the_state():
    weight, first = make(QuantSpec(4, True, True, 0))
    first.load_alpha(np.random.default_rng(5).normal(size=weight.shape))
    second = SoftRounding(weight, first.encoding)
    second.load_alpha(first.alpha.numpy())
    assert np.array_equal(first.soft().numpy(), second.soft().numpy())
    assert np.array_equal(first.codes(), second.codes())


@pytest.mark.parametrize("alpha", [np.zeros((2, 2)), np.full((6, 5, 3, 3), np.nan)])
def test_foreign_rounding_variables_are_refused(alpha):
    with pytest.raises(DataError, match="rounding variables"):
        make(QuantSpec(4, True, True, 0))[1].load_alpha(alpha)


def test_without_gradients():
    weight, rounding = make(QuantSpec(4, True, True, 0))
    with paddle.no_grad():
        assert rounding.soft().stop_gradient
