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


def _data_format(call, attr="data_format"):
    return "NHWC" if call.attr(attr, "NCHW") == "NHWC" else "NCHW"


@rule("conv2d", "depthwise_conv2d", out="Output")
def conv2d(call):
    x, weight, layout = call("Input"), call("Filter"), _data_format(call)
    stride, dilation = list(call.attr("strides", (1, 1))), list(call.attr("dilations", (1, 1)))
    padding, groups = padding_of(call), call.attr("groups", 1)
    symmetric = _same_both_sides(padding)
    if (symmetric and layout == "NCHW"
        and cpu.gains_from_convolve(x, weight, stride, symmetric, dilation, groups)):
        result = cpu.convolve(x, weight, symmetric, groups)
    else:
        result = F.conv2d(x, weight, None, stride, padding, dilation, groups, layout)
    return _add_bias(call, result, layout)


def _same_both_sides(padding):
    """[rows, columns] when both sides are padded alike, else None."""
    if isinstance(padding, str) or len(padding) == 2:
        return None if isinstance(padding, str) else padding
    return padding[::2] if padding[::2] == padding[1::2] else None


def _add_bias(call, result, layout):
    bias = call("Bias")
    return (result if bias is None
            else add(result, bias.reshape([1, 1, 1, -1] if layout == "NHWC" else [1, -1, 1, 1])))


@rule("conv2d_transpose", "depthwise_conv2d_transpose", out="Output")
def conv2d_transpose(call):
    layout = _data_format(call)
    size = call.ints("output_size", "OutputSizeTensor") or None
    result = F.conv2d_transpose(
        call("Input"), call("Filter"), None, list(call.attr("strides", (1, 1))), padding_of(call),
        0 if size else (list(call.attr("output_padding", ())) or 0), groups=call.attr("groups", 1),
        dilation=list(call.attr("dilations", (1, 1))), data_format=layout, output_size=size)
    return _add_bias(call, result, layout)
