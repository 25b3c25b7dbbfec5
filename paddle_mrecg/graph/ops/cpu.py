# SPDX-License-Identifier: Apache-2.0
"""Three operations whose CPU kernels have slow paths, rewritten with Paddle's fast ones.

tests/benchmarks/bench_ops.py prints what each brings on the machine at hand.
Elsewhere than on the CPU these functions call Paddle's kernels as they are.
"""
import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer


def channel_affine(x, mean, variance, weight=None, bias=None, epsilon=0.0, data_format="NCHW"):
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` per channel with frozen statistics.

    Batch norm in inference form is the one fast kernel with an operand per
    channel: broadcasting over the inner axes is many times slower. Its gradient kernel
    also sums up gradients of ``weight`` and ``bias``; constants do not want them.

    Args:
        x(Tensor): [N, C, ...] (or channels last); may need a gradient.
        mean, variance, weight, bias(Tensor): [C]; ``weight`` and ``bias`` may be None.
        epsilon(float, optional): added to the variance. Default: 0.0.
        data_format(str, optional): of ``x``. Default: NCHW.
    """
    wanted = any(t is not None and not t.stop_gradient for t in (mean, variance, weight, bias))
    if wanted or x.stop_gradient or not paddle.is_grad_enabled():
        return F.batch_norm(x, mean, variance, weight, bias, epsilon=epsilon, data_format=data_format)
    return _FrozenAffine.apply(x, mean, variance, weight, bias, epsilon, data_format)


def channel_add(x, bias):
    """[N, C, H, W] plus a constant [C]: exact, since 1 / sqrt(1 + 0) is 1."""
    zero, one = _unit_statistics(x.shape[1])
    if x.stop_gradient or not paddle.is_grad_enabled():
        return F.batch_norm(x, zero, one, None, bias, epsilon=0.0)
    return _FrozenAdd.apply(x, zero, one, bias)


def channel_multiply(x, weight):
    """[N, C, H, W] times a constant [C]."""
    zero, one = _unit_statistics(x.shape[1])
    return channel_affine(x, zero, one, weight)


_STATISTICS = {}


def _unit_statistics(channels):
    """Mean 0 and variance 1, made once per channel count."""
    if channels not in _STATISTICS:
        _STATISTICS[channels] = paddle.zeros([channels]), paddle.ones([channels])
    return _STATISTICS[channels]


class _FrozenAffine(PyLayer):
    @staticmethod
    def forward(ctx, x, mean, variance, weight, bias, epsilon, data_format):
        ctx.constants = (paddle.zeros_like(mean), variance, weight, None)
        ctx.options = dict(epsilon=epsilon, data_format=data_format)
        ctx.tensors = 3 + (weight is not None) + (bias is not None)
        return F.batch_norm(x, mean, variance, weight, bias, **ctx.options)

    @staticmethod
    def backward(ctx, grad):
        return (F.batch_norm(grad, *ctx.constants, **ctx.options),) + (None,) * (ctx.tensors - 1)


class _FrozenAdd(PyLayer):
    @staticmethod
    def forward(ctx, x, zero, one, bias):
        return F.batch_norm(x, zero, one, None, bias, epsilon=0.0)

    @staticmethod
    def backward(ctx, grad):
        return grad, None, None, None


def convolve(x, weight, padding, groups):
    """A stride-1 convolution [N, C, H, W] whose input gradient is a convolution too.

    Paddle's CPU kernel unfolds patches fast when the padding is 0 or 1 and
    slowly otherwise, and folds them back (the input's gradient) always slowly. So other paddings are written out,
    and the input's gradient is the convolution of the output's with the
    flipped kernels. The weight's gradient stays Paddle's.

    Args:
        x(Tensor): the input.
        weight(Tensor): [O, C / groups, kh, kw].
        padding(list[int]): [top and bottom, left and right], less than the kernel.
        groups(int): 1, or C = O (depthwise).
    """
    if x.stop_gradient or not paddle.is_grad_enabled():
        return _convolve(x, weight, padding, groups)
    if weight.stop_gradient:
        return _ConstantKernels.apply(x, weight, padding, groups)
    result = _convolve(x.detach(), weight, padding, groups)
    return _TrainedKernels.apply(x, result, weight.detach(), padding, groups)


def _convolve(x, weight, padding, groups):
    top, left = padding
    if (top, left) not in ((0, 0), (1, 1)):
        x, padding = F.pad(x, [left, left, top, top]), 0
    return F.conv2d(x, weight, None, 1, padding, 1, groups)


def _input_gradient(grad, weight, padding, groups):
    flipped = paddle.flip(weight, [2, 3])
    if groups == 1:
        flipped = flipped.transpose([1, 0, 2, 3])
    with paddle.no_grad():
        return _convolve(grad, flipped, [k - 1 - p for k, p in zip(weight.shape[2:], padding)], groups)


class _ConstantKernels(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, padding, groups):
        ctx.arguments = weight, padding, groups
        return _convolve(x, weight, padding, groups)

    @staticmethod
    def backward(ctx, grad):
        return _input_gradient(grad, *ctx.arguments), None


class _TrainedKernels(PyLayer):
    """Hands ``result`` on; its gradient goes back to it (Paddle's weight gradient) and, convolved, to ``x``.

    Paddle takes this for an in-place op, so that ``result`` itself gets the new history without a copy.
    """

    @staticmethod
    def forward(ctx, x, result, weight, padding, groups):
        ctx.arguments = weight, padding, groups
        return result

    @staticmethod
    def backward(ctx, grad):
        return _input_gradient(grad, *ctx.arguments), grad, None
