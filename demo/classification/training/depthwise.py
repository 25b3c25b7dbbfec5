# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions as batched matrix products: up to 50 times faster on a CPU.

Paddle's CPU kernel calls one tiny matrix product per image *and* channel, forward and for both
gradients, and nearly all of its time goes into the calls and into spreading out the pixels. A
depthwise convolution is linear in the pixels of one channel, so a channel's filter can be written
out as a matrix T from a tile of input pixels to the tile of output pixels that they decide, and
applied to all tiles of all images at once:

    y[:, c] = x[:, c] T(w_c),  T(w_c)[input pixel, output pixel] = w_c[tap that joins them, else 0].

One product per channel, and the gradients are those of a matrix product. T is mostly zero where
tiles are large; where they are small they overlap by much: the plan takes the cheapest tile. What
is computed is the same up to the order of float32 sums.
"""

import contextlib
import functools
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.lib.stride_tricks import as_strided
from paddle.autograd import PyLayer

# What decides, measured with AVX-512. Of the matrices, in multiplications of a product: moving a
# pixel, and a row of a tile. Of Paddle's kernel, in the same: a call, and a tap of an output pixel.
MOVE, RUN = 25, 200
CALL, TAP = 30_000, 12


@contextlib.contextmanager
def fast_depthwise(enabled: bool = True):
    """Within this context, and on a CPU only, dynamic-graph depthwise convolutions take the
    fast way where it pays.

    All layers of the process are covered, including third-party ones, because they all end in one
    function of Paddle that is replaced and put back. Export outside of it.

    Args:
        enabled(bool, optional): False changes nothing. Default: True.
    """
    original = F.conv._conv_nd

    def convolve(x, weight, bias=None, stride=1, padding=0, padding_algorithm=None, dilation=1,
                 groups=1,
                 data_format="NCHW", *args, **kwargs):
        geometry = _geometry(x, weight, stride, padding, padding_algorithm, dilation, groups,
                             data_format)
        if geometry is None:
            return original(x, weight, bias, stride, padding, padding_algorithm, dilation, groups,
                            data_format,
                            *args, **kwargs)
        y = depthwise(x, weight, *geometry)
        return y if bias is None else y + bias.reshape([1, -1, 1, 1])

    if enabled and paddle.get_device() == "cpu":
        F.conv._conv_nd = convolve
    try:
        yield
    finally:
        F.conv._conv_nd = original


def depthwise(x: paddle.Tensor, weight: paddle.Tensor, stride, padding) -> paddle.Tensor:
    """A depthwise convolution as batched matrix products, on a CPU.

    Args:
        x(Tensor): [N, C, H, W], float32.
        weight(Tensor): [C, 1, kh, kw], float32.
        stride(tuple[int, int]): rows, columns.
        padding(tuple[int, int]): zeros above and below, left and right.

    Returns:
        Tensor: [N, C, H', W'].
    """
    return _Depthwise.apply(x, weight, _plan(tuple(x.shape[2:]), tuple(weight.shape[2:]), stride,
                                             padding))


def _geometry(x, weight, stride, padding, padding_algorithm, dilation, groups, data_format):
    """Stride and padding where the fast way applies and pays, else None."""
    if (not paddle.in_dynamic_mode() or x.ndim != 4 or data_format != "NCHW"
        or padding_algorithm not in (None, "EXPLICIT")
        or x.dtype != paddle.float32 or weight.dtype != paddle.float32):
        return None
    stride, dilation, padding = (_pair(value) for value in (stride, dilation, padding))
    if (groups == 1 or groups != x.shape[1] or weight.shape[0] != groups or dilation != (1, 1)
        or not stride or not padding):
        return None
    plan = _plan(tuple(x.shape[2:]), tuple(weight.shape[2:]), stride, padding)
    return (stride, padding) if plan is not None and plan.pays else None


def _pair(value):
    """(rows, columns), or None where it is not that simple."""
    if isinstance(value, int):
        return value, value
    return tuple(value) if len(value) == 2 and all(isinstance(v, int) for v in value) else None


class _Axis(NamedTuple):
    """How one axis is cut: ``count`` tiles of ``inner`` inputs, ``stride`` apart, that decide
    ``outer`` outputs each. ``before`` zeros are put in front of the ``size`` inputs; a whole axis
    gets none, its T knows the padding.
    """

    size: int
    out: int
    count: int
    inner: int
    outer: int
    stride: int
    before: int

    @property
    def padded(self) -> int:
        return self.inner + (self.count - 1) * self.stride


class _Plan(NamedTuple):
    rows: _Axis
    columns: _Axis
    taps: paddle.Tensor  # [kh*kw, inner pixels * outer pixels]: 1 where a tap joins them
    pays: bool


@functools.lru_cache(maxsize=None)
def _plan(size, kernel, stride, padding):
    """The cheapest cut, or None for a map without output."""
    cuts = [list(_cuts(*values)) for values in zip(size, kernel, stride, padding)]
    if not all(cuts):
        return None
    cost, rows, columns = min(((_cost(a, b), a, b) for a in cuts[0] for b in cuts[1]),
                              key=lambda found: found[0])
    joined = np.einsum("iya,jxb->ijyxab", *(_joined(*values) for values in
                                            zip((rows, columns), kernel, stride, padding)))
    taps = paddle.to_tensor(joined.reshape(kernel[0] * kernel[1], -1))
    direct = CALL + TAP * rows.out * columns.out * kernel[0] * kernel[1]
    return _Plan(rows, columns, taps, cost < direct)


def _cuts(size, kernel, stride, padding):
    """The whole axis, and its tiles of equal length."""
    out = (size + 2 * padding - kernel) // stride + 1
    if out < 1:
        return
    yield _Axis(size, out, 1, size, out, 0, 0)
    for outer in range(2, out):
        yield _Axis(size, out, -(-out // outer), (outer - 1) * stride + kernel, outer,
                    outer * stride, padding)


def _cost(rows, columns):
    inner, outer = rows.inner * columns.inner, rows.outer * columns.outer
    return rows.count * columns.count * (inner * outer + MOVE * (inner + outer)
                                         + RUN * (rows.inner + rows.outer))


def _joined(axis, kernel, stride, padding):
    """1 where a tap joins input and output of a tile, [taps, inner, outer]."""
    joined = np.zeros((kernel, axis.inner, axis.outer), np.float32)
    for tap, b in np.ndindex(kernel, axis.outer):
        at = b * stride + tap - (padding if axis.count == 1 else 0)
        if 0 <= at < axis.inner:
            joined[tap, at, b] = 1.0
    return joined


class _Depthwise(PyLayer):
    """``_Depthwise.apply(x, weight, plan)``. The pixels are moved by NumPy: several times faster
    than Paddle's transpositions.
    """

    @staticmethod
    def forward(ctx, x, weight, plan):
        rows, columns, (batch, channels) = plan.rows, plan.columns, x.shape[:2]
        tiles = paddle.to_tensor(_tiles(x.numpy(), plan))
        matrix = paddle.matmul(weight.reshape([channels, -1]), plan.taps).reshape(
            [channels, rows.inner * columns.inner, rows.outer * columns.outer])
        found = paddle.matmul(tiles, matrix).numpy().reshape(
            channels, batch, rows.count, columns.count, rows.outer, columns.outer)
        y = np.ascontiguousarray(found.transpose(1, 0, 2, 4, 3, 5)).reshape(
            batch, channels, rows.count * rows.outer, columns.count * columns.outer)
        ctx.save_for_backward(tiles, matrix)
        ctx.plan, ctx.shapes = plan, (x.shape, weight.shape)
        ctx.wanted = not x.stop_gradient, not weight.stop_gradient
        return paddle.to_tensor(np.ascontiguousarray(y[:, :, :rows.out, :columns.out]))

    @staticmethod
    def backward(ctx, grad):
        tiles, matrix = ctx.saved_tensor()
        plan, (x_shape, weight_shape) = ctx.plan, ctx.shapes
        rows, columns, (batch, channels) = plan.rows, plan.columns, x_shape[:2]
        whole = np.zeros((batch, channels, rows.count * rows.outer, columns.count * columns.outer),
                         np.float32)
        whole[:, :, :rows.out, :columns.out] = grad.numpy()
        whole = whole.reshape(batch, channels, rows.count, rows.outer, columns.count, columns.outer)
        outer = paddle.to_tensor(np.ascontiguousarray(whole.transpose(1, 0, 2, 4, 3, 5)).reshape(
            channels, -1, rows.outer * columns.outer))
        inputs = weights = None
        if ctx.wanted[0]:
            inner = paddle.matmul(outer, matrix, transpose_y=True).numpy()
            inputs = paddle.to_tensor(_overlapped(inner, plan, batch))
        if ctx.wanted[1]:  # not in last epochs of scales and shifts alone
            weights = paddle.matmul(paddle.matmul(tiles, outer, transpose_x=True).reshape(
                [channels, -1]), plan.taps, transpose_y=True).reshape(weight_shape)
        return inputs, weights


def _tiles(x, plan):
    """[N, C, H, W] to [C, N * tiles, pixels of a tile]."""
    rows, columns = plan.rows, plan.columns
    batch, channels = x.shape[:2]
    if rows.count == columns.count == 1:
        wide = x
    else:
        wide, middle = _padded(x.shape, plan)
        middle[...] = x
    n, c, h, w = wide.strides
    view = as_strided(wide, (channels, batch, rows.count, columns.count, rows.inner, columns.inner),
                      (c, n, h * rows.stride, w * columns.stride, h, w))
    return np.ascontiguousarray(view).reshape(channels, -1, rows.inner * columns.inner)


def _padded(shape, plan):
    """Zeros that hold ``shape`` with what the tiles need around it, and the place of ``shape``."""
    rows, columns = plan.rows, plan.columns
    height, width = (max(axis.padded, axis.before + axis.size) for axis in (rows, columns))
    wide = np.zeros((*shape[:2], height, width), np.float32)
    return wide, wide[:, :, rows.before:rows.before + rows.size,
                      columns.before:columns.before + columns.size]


def _overlapped(inner, plan, batch):
    """The sum of tiles where they overlap: the transpose of ``_tiles``, [N, C, H, W]."""
    rows, columns = plan.rows, plan.columns
    inner = inner.reshape(-1, batch, rows.count, columns.count, rows.inner, columns.inner)
    if rows.count == columns.count == 1:
        return np.ascontiguousarray(inner[:, :, 0, 0].transpose(1, 0, 2, 3))
    wide, middle = _padded((batch, inner.shape[0]), plan)
    n, c, h, w = wide.strides
    for top, bottom in _parts(rows):  # parts of one tile do not meet those of the next
        for left, right in _parts(columns):
            part = inner[..., top:bottom, left:right].transpose(1, 0, 2, 3, 4, 5)
            view = as_strided(wide[:, :, top:, left:], part.shape,
                              (n, c, h * rows.stride, w * columns.stride, h, w))
            view += part
    return np.ascontiguousarray(middle)


def _parts(axis):
    length = axis.stride or axis.inner
    return [(at, min(at + length, axis.inner)) for at in range(0, axis.inner, length)]
