# SPDX-License-Identifier: Apache-2.0
"""The fused activation quantizer against numpy and the published gradients."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.grids.affine import Encoding, QuantSpec, fake_quantize
from paddle_mrecg.post.drop import DropMask, mix
from paddle_mrecg.post.activation_quantizer import ActivationQuantizer

ENCODINGS = [Encoding(QuantSpec(bits, True, True), 0.3, 0) for bits in (2, 4, 8)]
ENCODINGS += [Encoding(QuantSpec(bits, False, True), 0.3, 0) for bits in (2, 4, 8)]
ENCODINGS += [Encoding(QuantSpec(bits, False, False), 0.3, 1) for bits in (2, 4, 8)]


def values(encoding, seed=0):
    """Numbers within and beyond the grid, none near a kink."""
    low, high = (float(v) for v in encoding.range)
    x = np.random.default_rng(seed).uniform(low - 2, high + 2, size=(7, 5, 4)).astype(np.float32)
    place = x / encoding.scale
    return np.where(np.abs(place - np.floor(place) - 0.5) < 1e-2, x + 0.02 * encoding.scale,
                    x).astype(np.float32)


def run(quantizer, x, upstream, **kwargs):
    tensor = paddle.to_tensor(x, stop_gradient=False)
    y = quantizer(tensor, **kwargs)
    (y * paddle.to_tensor(upstream)).sum().backward()
    return y.numpy(), tensor.grad.numpy()


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: str(e.spec))
@pytest.mark.parametrize("learn", [False, True])
def test_forward_equals_the_numpy_quantizer(encoding, learn):
    x = values(encoding)
    y = ActivationQuantizer(encoding, learn=learn)(paddle.to_tensor(x)).numpy()
    np.testing.assert_allclose(y, fake_quantize(x, encoding), atol=1e-6)
    assert len(np.unique(y)) <= 2**encoding.spec.bits


def test_halves_go_to_the_even_code_on_every_version():
    quantizer = ActivationQuantizer(Encoding(QuantSpec(8, True, True), 0.5, 0))
    halves = np.arange(-127, 127).astype(np.float32) * 0.5 + 0.25
    y = quantizer(paddle.to_tensor(halves)).numpy()
    assert np.array_equal(y, fake_quantize(halves, quantizer.encoding()))
    assert np.array_equal(y / 0.5 % 2, np.zeros_like(y))


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: str(e.spec))
def test_lsq_gradients_are_the_published_ones(encoding):
    x = values(encoding)
    upstream = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    quantizer = ActivationQuantizer(encoding, learn=True)
    _, dx = run(quantizer, x, upstream)
    scale, zero, spec = float(encoding.scale), float(encoding.zero_point), encoding.spec
    place = x.astype(np.float64) / scale
    code = np.rint(place) + zero
    below, above = code < spec.qmin, code > spec.qmax
    expected = np.where(below, spec.qmin - zero,
                        np.where(above, spec.qmax - zero, np.rint(place) - place))
    assert below.any() and above.any()
    np.testing.assert_array_equal(dx, np.where(below | above, 0, upstream))
    total = (expected * upstream).sum()
    assert abs(quantizer.parameter.grad.item() - total) < 1e-4 * np.abs(expected * upstream).sum()


@pytest.mark.parametrize("spec", [QuantSpec(4, True, True, narrow=True), QuantSpec(8, True, True),
                                  QuantSpec(4, False, True)], ids=str)
def test_pact_gradient_is_one_outside_and_the_forward_derivative_there(spec):
    encoding = Encoding(spec, 0.1, 0)
    low, high = (float(v) for v in encoding.range)
    quantizer = ActivationQuantizer(encoding, learn=True, clip="symmetric_pact")
    assert quantizer.parameter.item() == pytest.approx(0.1 * spec.qmax)
    x = np.array([low - 1, low - 2, high + 1, high + 2, high + 3, 0.5 * high], np.float32)
    _, dx = run(quantizer, x, np.ones(6, np.float32))
    assert dx.tolist() == [0, 0, 0, 0, 0, 1]
    below = spec.qmin / spec.qmax  # -1 on a narrow grid
    assert quantizer.parameter.grad.item() == pytest.approx(3 + 2 * below, abs=1e-4)
    outside = paddle.to_tensor(x[:5])
    alpha, ends = quantizer.parameter.item(), []
    for sign in (1, -1):  # outside, the forward function is smooth: finite differences must agree
        quantizer.parameter.set_value(np.array([alpha + sign * 1e-2], np.float32))
        ends.append(float(quantizer(outside).sum()))
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(3 + 2 * below, abs=1e-3)


def test_pact_turns_a_grid_with_zero_point_into_a_symmetric_one_of_the_same_reach():
    quantizer = ActivationQuantizer(Encoding(QuantSpec(4, False, False), 0.1, 3), learn=True,
                                    clip="symmetric_pact")
    encoding = quantizer.encoding()
    assert encoding.spec.symmetric and encoding.spec.signed and float(encoding.zero_point) == 0
    assert float(encoding.range[1]) == pytest.approx(1.2)


def test_one_grid_for_training_and_for_use():
    encoding = Encoding(QuantSpec(8, True, True), 0.013, 0)
    quantizer = ActivationQuantizer(encoding, learn=True, clip="symmetric_pact")
    x = paddle.to_tensor(values(encoding))
    stored = Encoding.from_dict(quantizer.encoding().to_dict())
    np.testing.assert_array_equal(quantizer(x).numpy(), ActivationQuantizer(stored)(x).numpy())
    assert float(stored.scale) == pytest.approx(0.013)


def test_learned_scale_finds_the_range():
    rng = np.random.default_rng(2)
    x = paddle.to_tensor(rng.normal(size=(64, 64)).astype(np.float32))
    for clip in ("none", "symmetric_pact"):
        quantizer = ActivationQuantizer(Encoding(QuantSpec(3, True, True), 0.1, 0), learn=True,
                                        clip=clip)
        adam = paddle.optimizer.Adam(0.02, parameters=quantizer.parameters())
        first = float(paddle.square(quantizer(x) - x).mean())
        for _ in range(80):
            paddle.square(quantizer(x) - x).mean().backward()
            adam.step()
            adam.clear_grad()
        assert float(paddle.square(quantizer(x) - x).mean()) < 0.2 * first


def test_scale_stays_positive():
    quantizer = ActivationQuantizer(Encoding(QuantSpec(4, True, True), 0.1, 0), learn=True)
    quantizer.parameter.set_value(np.array([-0.2], np.float32))
    quantizer(paddle.ones([2]))
    assert float(quantizer.encoding().scale) == pytest.approx(0.2)
    assert quantizer.parameter.item() == pytest.approx(0.2)


def test_diverged_scale_is_reported():
    quantizer = ActivationQuantizer(Encoding(QuantSpec(4, True, True), 0.1, 0), learn=True)
    quantizer.parameter.set_value(np.array([np.nan], np.float32))
    with pytest.raises(DataError, match="learning rate"):
        quantizer.encoding()


def test_frozen_quantizer_passes_gradients_and_has_no_parameters():
    encoding = Encoding(QuantSpec(4, True, True), 0.1, 0)
    quantizer = ActivationQuantizer(encoding)
    _, dx = run(quantizer, np.array([0.3, 5.0], np.float32), np.array([2.0, 2.0], np.float32))
    assert dx.tolist() == [2.0, 0.0] and quantizer.parameters() == []


def test_only_the_scale_is_trained_when_the_input_needs_no_gradient():
    quantizer = ActivationQuantizer(Encoding(QuantSpec(4, True, True), 0.1, 0), learn=True,
                                    grad_scale=0.5)
    quantizer(paddle.to_tensor([5.0, -5.0, 5.0])).sum().backward()
    assert quantizer.parameter.grad.item() == pytest.approx(0.5 * (7 - 8 + 7))


def test_gradient_of_the_scale_through_paddle_grad():
    quantizer = ActivationQuantizer(Encoding(QuantSpec(4, True, True), 0.1, 0), learn=True)
    x = paddle.to_tensor([5.0, 0.3], stop_gradient=False)
    dx, ds = paddle.grad(quantizer(x * 1.0).sum(), [x, quantizer.parameter])
    assert dx.numpy().tolist() == [0.0, 1.0] and ds.item() == pytest.approx(7.0, abs=1e-4)


def test_without_gradients():
    quantizer = ActivationQuantizer(Encoding(QuantSpec(4, True, True), 0.1, 0), learn=True)
    with paddle.no_grad():
        assert quantizer(paddle.ones([3])).stop_gradient


def test_dropping_mixes_with_the_float_input_and_splits_the_gradient():
    encoding = Encoding(QuantSpec(2, True, True), 1.0, 0)
    drop = DropMask(0.5, seed=1)
    quantizer = ActivationQuantizer(encoding)
    x = np.random.default_rng(3).uniform(-4, 4, size=(50, 40)).astype(np.float32)
    other = x + 100.0
    y = quantizer(paddle.to_tensor(x), drop.draw(x.shape), paddle.to_tensor(other)).numpy()
    kept = np.abs(y) < 50
    np.testing.assert_allclose(y, np.where(kept, fake_quantize(x, encoding), other), atol=1e-4)
    assert 0.45 < kept.mean() < 0.55
    y, dx = run(quantizer, x, np.ones_like(x), mask=drop.draw(x.shape))
    quantized = np.abs(y - x) > 1e-6
    outside = (np.rint(x) < -2) | (np.rint(x) > 1)
    np.testing.assert_allclose(dx, np.where(quantized & outside, 0.0, 1.0), atol=1e-6)


@pytest.mark.parametrize("clip", ("none", "symmetric_pact"))
def test_gradients_under_dropping_equal_those_of_the_written_out_mix(clip):
    rng = np.random.default_rng(4)
    x, other, grad = (rng.uniform(-4, 4, size=(30, 40)).astype(np.float32) for _ in range(3))
    results = []
    for fused in (True, False):
        mask = DropMask(0.5, seed=1).draw(x.shape)
        quantizer = ActivationQuantizer(Encoding(QuantSpec(2, True, True), 1.0, 0), learn=True,
                                        clip=clip)
        tensors = [paddle.to_tensor(v, stop_gradient=False) for v in (x, other)]
        if fused:
            y = quantizer(tensors[0], mask, tensors[1])
        else:
            y = mix(quantizer(tensors[0]), tensors[1], mask)
        y.backward(paddle.to_tensor(grad))
        results.append([y.numpy()] + [t.grad.numpy() for t in (*tensors, quantizer.parameter)])
    for ours, plain in zip(*results):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="without axis"):
        ActivationQuantizer(Encoding(QuantSpec(4, True, True, axis=0), [0.1], [0]))
    with pytest.raises(ConfigError, match="relu6"):
        ActivationQuantizer(Encoding(QuantSpec(4, True, True), 0.1, 0), clip="relu6")
