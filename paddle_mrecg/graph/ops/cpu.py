# SPDX-License-Identifier: Apache-2.0
"""Operations whose CPU kernels have slow paths, rewritten with Paddle's fast ones.

tests/benchmarks/bench_ops.py prints what each brings on the machine at hand.
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
        return F.batch_norm(x, mean, variance, weight, bias, epsilon=epsilon,
                            data_format=data_format)
    return _FrozenAffine.apply(x, mean, variance, weight, bias, epsilon, data_format)


def channel_add(x, bias):
    """[N, C, H, W] plus a constant [C], rounded as ``x + bias`` is."""
    zero, one, unit = _unit_statistics(x.shape[1])
    if x.stop_gradient or not paddle.is_grad_enabled():
        return F.batch_norm(x, zero, one, unit, bias, epsilon=0.0)
    return _FrozenAdd.apply(x, zero, one, unit, bias)


def channel_multiply(x, weight):
    """[N, C, H, W] times a constant [C]."""
    zero, one, _ = _unit_statistics(x.shape[1])
    return channel_affine(x, zero, one, weight)


_STATISTICS = {}


def _unit_statistics(channels):
    """Mean 0, variance 1 and the weight that makes up for the kernel's 1 /
    sqrt(1), which may be 1 + 2^-23.
    """
    if channels not in _STATISTICS:
        with paddle.no_grad():
            zero, one = paddle.zeros([channels]), paddle.ones([channels])
            gain = F.batch_norm(paddle.ones([1, channels, 1, 1]), zero, one, epsilon=0.0)
            _STATISTICS[channels] = zero, one, (1.0 / gain).flatten()
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
    def forward(ctx, x, zero, one, unit, bias):
        return F.batch_norm(x, zero, one, unit, bias, epsilon=0.0)

    @staticmethod
    def backward(ctx, grad):
        return grad, None, None, None, None


def convolve(x, weight, padding, groups):
    """A stride-1 convolution [N, C, H, W] whose input gradient is a convolution too.

    Paddle's CPU kernel unfolds patches fast when the padding is 0 or 1 and
    slowly otherwise, and folds them back (the input's gradient) always slowly.
    So other paddings are written out, and the input's gradient is the
    convolution of the output's with the flipped kernels. The weight's gradient
    stays Paddle's.

    Args:
        x(Tensor): the input.
        weight(Tensor): [O, C / groups, kh, kw].
        padding(list[int]): [top and bottom, left and right], less than the kernel.
        groups(int): divides C and O.
    """
    if x.stop_gradient or not paddle.is_grad_enabled():
        return _convolve(x, weight, padding, groups)
    if weight.stop_gradient:
        return _ConstantKernels.apply(x, weight, padding, groups)
    result = _convolve(x.detach(), weight, padding, groups)
    return _TrainedKernels.apply(x, result, weight.detach(), padding, groups)


def gains_from_convolve(x, weight, stride, padding, dilation, groups):
    """True where ``convolve`` applies and is faster: stride 1, no dilation, more than
    one tap, not on small maps.

    Dense convolutions of small maps are bound by their matrix product, and transposing their many
    weights costs more than folding the patches.
    """
    out_channels, _, height, width = weight.shape
    if stride != [1, 1] or dilation != [1, 1] or height * width == 1 or not x.place.is_cpu_place():
        return False
    depthwise = groups == x.shape[1] == out_channels
    return (padding[0] < height and padding[1] < width
            and (depthwise or x.shape[2] * x.shape[3] >= _SMALL_MAP))


_SMALL_MAP = 400  # pixels; measured break-even between 14x14 (no gain) and 28x28


def _convolve(x, weight, padding, groups):
    top, left = padding
    if (top, left) not in ((0, 0), (1, 1)):
        x, padding = pad(x, [0, 0, 0, 0, top, top, left, left]), 0
    return F.conv2d(x, weight, None, 1, padding, 1, groups)


def _input_gradient(grad, weight, padding, groups):
    out_channels, in_channels, height, width = weight.shape
    grouped = paddle.flip(weight, [2, 3]).reshape([groups, -1, in_channels, height, width])
    flipped = grouped.transpose([0, 2, 1, 3, 4]).reshape([-1, out_channels // groups, height,
                                                          width])
    with paddle.no_grad():
        return _convolve(grad, flipped, [height - 1 - padding[0], width - 1 - padding[1]], groups)


class _ConstantKernels(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, padding, groups):
        ctx.arguments = weight, padding, groups
        return _convolve(x, weight, padding, groups)

    @staticmethod
    def backward(ctx, grad):
        return _input_gradient(grad, *ctx.arguments), None


class _TrainedKernels(PyLayer):
    """Hands ``result`` on; its gradient goes back to it (Paddle's weight gradient)
    and, convolved, to ``x``.

    Paddle takes this for an in-place op, so that ``result`` itself gets the
    new history without a copy.
    """

    @staticmethod
    def forward(ctx, x, result, weight, padding, groups):
        ctx.arguments = weight, padding, groups
        return result

    @staticmethod
    def backward(ctx, grad):
        return _input_gradient(grad, *ctx.arguments), grad, None


def pad(x, amounts, value=0.0):
    """Pad with a constant; the kernel that takes every dimension is
    several times faster than pad3d.

    Args:
        x(Tensor): any rank.
        amounts(list[int]): before and after, for the first dimension to the last.
        value(float, optional): the constant. Default: 0.0.
    """
    return F.pad(x, amounts, "constant", value)


def repeat_pixels(x, rows, columns):
    """Nearest upsampling of [N, C, H, W] by whole factors."""
    n, c, height, width = x.shape
    repeated = x.reshape([n, c, height, 1, width, 1]).expand([n, c, height, rows, width, columns])
    return repeated.reshape([n, c, height * rows, width * columns])


def slice_axis(x, axis, start, stop):
    """``x[..., start:stop, ...]``; the gradient of a split is a concat, that
    of a slice a slow padding.
    """
    size = x.shape[axis]
    if (x.stop_gradient or not paddle.is_grad_enabled() or not 0 <= start < stop <= size
        or stop - start == size):
        return paddle.slice(x, [axis], [start], [stop])
    sections = [part for part in (start, stop - start, size - stop) if part]
    return paddle.split(x, sections, axis)[1 if start else 0]
