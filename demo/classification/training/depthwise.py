# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions on small maps as batched matrix products: 5 to 80 times faster on a CPU.

Paddle's CPU kernel calls one tiny matrix product per image *and* channel, forward and for both
gradients; below 16x16 pixels nearly all of its time goes into the calls. A depthwise convolution is
linear in the pixels of one channel, so a channel's filter can be written out as a matrix T from
input to output pixels and applied to the whole batch at once:

    y[:, c] = x[:, c] T(w_c),  T(w_c)[input pixel, output pixel] = w_c[tap that joins them, else 0].

One product per channel, and the gradients are those of a matrix product. On large maps T
is large and mostly zero: those keep Paddle's kernel. What is computed is the same up to
the order of float32 sums.
"""

import contextlib

import numpy as np
import paddle
import paddle.nn.functional as F

# Entries of T up to which the products win: 16x16 to 8x8 pixels is 2 times faster,
# 16x16 to 16x16 no longer.
LARGEST_MATRIX = 20_000
_TAPS = {}


@contextlib.contextmanager
def fast_depthwise(enabled: bool = True):
    """Within this context, and on a CPU only, dynamic-graph depthwise convolutions on
    small maps take the fast way.

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
    """A depthwise convolution as one batched matrix product.

    Args:
        x(Tensor): [N, C, H, W].
        weight(Tensor): [C, 1, kh, kw].
        stride(tuple[int, int]): rows, columns.
        padding(tuple[int, int]): zeros above and below, left and right.

    Returns:
        Tensor: [N, C, H', W'].
    """
    batch, channels, height, width = x.shape
    taps, out = _taps((height, width), tuple(weight.shape[2:]), stride, padding)
    matrix = paddle.matmul(weight.reshape([channels, -1]),
                           taps).reshape([channels, height * width, out[0] * out[1]])
    pixels = x.reshape([batch, channels, height * width]).transpose([1, 0, 2])
    return paddle.matmul(pixels, matrix).transpose([1, 0, 2]).reshape([batch, channels, *out])


def _geometry(x, weight, stride, padding, padding_algorithm, dilation, groups, data_format):
    """Stride and padding where the fast way applies and pays, else None."""
    if (not paddle.in_dynamic_mode() or x.ndim != 4 or data_format != "NCHW"
        or padding_algorithm not in (None, "EXPLICIT")):
        return None
    stride, dilation, padding = (_pair(value) for value in (stride, dilation, padding))
    if (groups == 1 or groups != x.shape[1] or weight.shape[0] != groups or dilation != (1, 1)
        or not stride or not padding):
        return None
    inputs = x.shape[2] * x.shape[3]
    outputs = np.prod(_output_size(x.shape[2:], weight.shape[2:], stride, padding))
    return (stride, padding) if 0 < inputs * outputs <= LARGEST_MATRIX else None


def _pair(value):
    """(rows, columns), or None where it is not that simple."""
    if isinstance(value, int):
        return value, value
    return tuple(value) if len(value) == 2 and all(isinstance(v, int) for v in value) else None


def _output_size(size, kernel, stride, padding):
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding))


def _taps(size, kernel, stride, padding):
    """Which tap joins which input to which output pixel: a constant [kh*kw,
    HW*H'W'], and the output's size.
    """
    key = size, kernel, stride, padding
    if key not in _TAPS:
        out = _output_size(size, kernel, stride, padding)
        joined = np.zeros((*kernel, *size, *out), np.float32)
        for i, j, a, b in np.ndindex(*kernel, *out):
            y, x = a * stride[0] + i - padding[0], b * stride[1] + j - padding[1]
            if 0 <= y < size[0] and 0 <= x < size[1]:
                joined[i, j, y, x, a, b] = 1.0
        _TAPS[key] = paddle.to_tensor(joined.reshape(kernel[0] * kernel[1], -1)), out
    return _TAPS[key]
