# SPDX-License-Identifier: Apache-2.0
"""Convolutions."""
import paddle.nn.functional as F

from . import cpu
from .elementwise import add
from .registry import rule


def padding_of(call, default=(0, 0)):
    """``paddings`` in the form of the functional API: SAME, VALID, two or four numbers."""
    algorithm = call.attr("padding_algorithm", "EXPLICIT")
    return list(call.attr("paddings", default)) if algorithm == "EXPLICIT" else algorithm


def _layout(call, attr="data_format"):
    return "NHWC" if call.attr(attr, "NCHW") == "NHWC" else "NCHW"


@rule("conv2d", "depthwise_conv2d", out="Output")
def conv2d(call):
    x, weight, layout = call("Input"), call("Filter"), _layout(call)
    stride, dilation = list(call.attr("strides", (1, 1))), list(call.attr("dilations", (1, 1)))
    padding, groups = padding_of(call), call.attr("groups", 1)
    if stride == dilation == [1, 1] and layout == "NCHW" and _has_fast_gradient(x, weight, padding, groups):
        result = cpu.convolve(x, weight, padding[::2] if len(padding) == 4 else padding, groups)
    else:
        result = F.conv2d(x, weight, None, stride, padding, dilation, groups, layout)
    return _add_bias(call, result, layout)


def _has_fast_gradient(x, weight, padding, groups):
    """True for a dense or plain depthwise convolution on the CPU, larger than 1x1, with symmetric padding."""
    out_channels, _, height, width = weight.shape
    if isinstance(padding, str) or height * width == 1 or groups not in (1, x.shape[1]) or not x.place.is_cpu_place():
        return False
    if len(padding) == 4:
        if padding[0] != padding[1] or padding[2] != padding[3]:
            return False
        padding = padding[::2]
    return (groups == 1 or out_channels == groups) and padding[0] < height and padding[1] < width


def _add_bias(call, result, layout):
    bias = call("Bias")
    return result if bias is None else add(result, bias.reshape([1, 1, 1, -1] if layout == "NHWC" else [1, -1, 1, 1]))


@rule("conv2d_transpose", "depthwise_conv2d_transpose", out="Output")
def conv2d_transpose(call):
    layout = _layout(call)
    size = call.ints("output_size", "OutputSizeTensor") or None
    result = F.conv2d_transpose(
        call("Input"), call("Filter"), None, list(call.attr("strides", (1, 1))), padding_of(call),
        0 if size else (list(call.attr("output_padding", ())) or 0), groups=call.attr("groups", 1),
        dilation=list(call.attr("dilations", (1, 1))), data_format=layout, output_size=size)
    return _add_bias(call, result, layout)
