# SPDX-License-Identifier: Apache-2.0
"""The rewritten CPU operations: same values and gradients as Paddle's own,
gradients only where wanted.
"""
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddle_mrecg.graph.graph import Op
from paddle_mrecg.graph.ops import cpu, run_op


def tensor(*shape, trained=True):
    result = paddle.randn(shape)
    result.stop_gradient = not trained
    return result


def values_and_gradients(function, trained):
    """The result, and the gradients of a loss that weighs every element differently."""
    result = function()
    weights = paddle.linspace(-1.0, 1.0, result.size).reshape(result.shape)
    return [result, *paddle.grad(result, trained, weights)]


def assert_same(ours, plain, trained, rtol=1e-5):
    for a, b in zip(values_and_gradients(ours, trained), values_and_gradients(plain, trained)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol,
                                   atol=rtol * float(b.abs().max()))


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


@pytest.mark.parametrize("train_x, train_w", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("channels, out, kernel, padding, groups", [
    (6, 6, (3, 3), [1, 1], 6), (6, 6, (5, 5), [2, 2], 6), (6, 12, (3, 3), [0, 0], 6),
    (4, 8, (3, 3), [1, 1], 1),
    (4, 4, (1, 3), [0, 1], 1), (6, 9, (3, 5), [2, 1], 3)])
def test_convolution(train_x, train_w, channels, out, kernel, padding, groups):
    x, w = (tensor(2, channels, 9, 8, trained=train_x),
            tensor(out, channels // groups, *kernel, trained=train_w))
    trained = [t for t in (x, w) if not t.stop_gradient]
    assert_same(lambda: cpu.convolve(x, w, padding, groups),
                lambda: F.conv2d(x, w, None, 1, padding, 1, groups), trained)


def test_convolution_is_used_and_trains_through_further_ops():
    x, w = tensor(2, 6, 9, 8), tensor(6, 1, 3, 3)
    op = Op("depthwise_conv2d", {"Input": ["x"], "Filter": ["w"]}, {"Output": ["y"]},
            dict(groups=6, paddings=[1, 1]))
    assert cpu.gains_from_convolve(x, w, [1, 1], [1, 1], [1, 1], 6)
    run_op(op, {"x": x * 2.0, "w": w * 3.0})["y"].square().sum().backward()
    ours = x.grad.numpy(), w.grad.numpy()
    x.clear_grad(), w.clear_grad()
    F.conv2d(x * 2.0, w * 3.0, None, 1, 1, 1, 6).square().sum().backward()
    for a, b in zip(ours, (x.grad.numpy(), w.grad.numpy())):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("change",
                         [dict(stride=[2, 1]), dict(dilation=[1, 2]), dict(padding=[3, 1])])
def test_convolution_is_not_used_where_the_identity_does_not_hold(change):
    settings = dict(dict(stride=[1, 1], padding=[1, 1], dilation=[1, 1], groups=6), **change)
    assert not cpu.gains_from_convolve(tensor(2, 6, 9, 8), tensor(6, 1, 3, 3), **settings)


@pytest.mark.parametrize("channels", [1, 3, 8, 9, 100])
def test_channel_add_is_exact(channels):
    x, bias = tensor(2, channels, 5, 4), tensor(channels, trained=False)
    plain = x + bias.reshape([1, -1, 1, 1])
    np.testing.assert_array_equal(cpu.channel_add(x, bias).numpy(), plain.numpy())
    assert_same(lambda: cpu.channel_add(x, bias), lambda: x + bias.reshape([1, -1, 1, 1]), [x],
                rtol=0)


def test_channel_multiply():
    x, factor = tensor(2, 9, 5, 4), tensor(9, trained=False)
    assert_same(lambda: cpu.channel_multiply(x, factor), lambda: x * factor.reshape([1, -1, 1, 1]),
                [x], rtol=1e-6)


@pytest.mark.parametrize("with_weight", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_frozen_batch_norm(with_weight, with_bias):
    x, mean, variance = (tensor(2, 6, 5, 4), tensor(6, trained=False),
                         tensor(6, trained=False).square())
    weight, bias = (tensor(6, trained=False) if with_weight else None,
                    tensor(6, trained=False) if with_bias else None)
    assert_same(lambda: cpu.channel_affine(x, mean, variance, weight, bias, 1e-3),
                lambda: F.batch_norm(x, mean, variance, weight, bias, epsilon=1e-3), [x])


def test_batch_norm_parameters_can_be_trained():
    x, weight, bias = tensor(2, 6, 5, 4), tensor(6), tensor(6)
    zero, one = paddle.zeros([6]), paddle.ones([6])
    assert_same(lambda: cpu.channel_affine(x, zero, one, weight, bias),
                lambda: x * weight.reshape([1, -1, 1, 1]) + bias.reshape([1, -1, 1, 1]),
                [x, weight, bias], rtol=1e-4)


def test_trained_bias_gets_its_gradient():
    x, bias = tensor(2, 6, 5, 4), tensor(6)
    op = Op("elementwise_add", {"X": ["x"], "Y": ["b"]}, {"Out": ["y"]}, {"axis": 1})
    assert_same(lambda: run_op(op, {"x": x, "b": bias})["y"],
                lambda: x + bias.reshape([1, -1, 1, 1]), [x, bias])


@pytest.mark.parametrize("start, stop", [(0, 2), (2, 5), (4, 6), (0, 6)])
def test_slice(start, stop):
    x = tensor(2, 6, 5)
    assert_same(lambda: cpu.slice_axis(x, 1, start, stop), lambda: x[:, start:stop], [x], rtol=0)


def test_empty_slice():
    assert cpu.slice_axis(tensor(2, 6, 5), 1, 3, 3).shape == [2, 0, 5]


def test_repeat_pixels():
    x = tensor(2, 3, 4, 5)
    assert_same(lambda: cpu.repeat_pixels(x, 2, 4),
                lambda: F.interpolate(x, scale_factor=[2, 4], mode="nearest"), [x])


def test_pad():
    x = tensor(2, 3, 4, 5)
    assert_same(lambda: cpu.pad(x, [0, 0, 0, 0, 1, 2, 3, 4], 0.5),
                lambda: F.pad(x, [3, 4, 1, 2], value=0.5), [x], rtol=0)


@pytest.mark.parametrize("keep_dim", [True, False])
def test_mean_over_space(keep_dim):
    x = tensor(2, 3, 4, 5)
    op = Op("reduce_mean", {"X": ["x"]}, {"Out": ["y"]}, dict(dim=[2, 3], keep_dim=keep_dim))
    assert_same(lambda: run_op(op, {"x": x})["y"], lambda: x.mean([2, 3], keepdim=keep_dim), [x])


def test_nothing_is_recorded_without_gradients():
    x, w, b = tensor(2, 6, 9, 8), tensor(6, 1, 3, 3), tensor(6, trained=False)
    with paddle.no_grad():
        for result in (cpu.convolve(x, w, [1, 1], 6), cpu.channel_add(x, b),
                       cpu.channel_multiply(x, b)):
            assert result.stop_gradient
