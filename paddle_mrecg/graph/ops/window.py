# SPDX-License-Identifier: Apache-2.0
"""Ops that pick elements: slices and look-ups."""
import paddle
import paddle.nn.functional as F

from . import cpu
from .registry import rule, register_table

register_table("X Index", {"gather_nd": paddle.gather_nd})


_END = 2**31 - 1


@rule("slice")
def slice_(call):
    x, axes = call("Input"), call.ints("axes")
    starts, ends = [call.ints(*names) for names in (("starts", "StartsTensor", "StartsTensorList"),
                                                    ("ends", "EndsTensor", "EndsTensorList"))]
    # x[-1] of old exporters
    ends = [_END if (start, end) == (-1, 0) else end for start, end in zip(starts, ends)]
    if len(axes) > 1:
        return _decrease(call, paddle.slice(x, axes, starts, ends))
    size = x.shape[axes[0]]
    start, stop = (max(0, min(i + size if i < 0 else i, size)) for i in (starts[0], ends[0]))
    return _decrease(call, cpu.slice_axis(x, axes[0], start, stop))


@rule("strided_slice")
def strided_slice(call):
    ranges = [call.ints(*names) for names in (("starts", "StartsTensor", "StartsTensorList"),
                                              ("ends", "EndsTensor", "EndsTensorList"),
                                              ("strides", "StridesTensor", "StridesTensorList"))]
    return _decrease(call, paddle.strided_slice(call("Input"), call.ints("axes"), *ranges))


def _decrease(call, part):
    """Drop the axes that an integer index has used up."""
    dropped = call.ints("decrease_axis")
    return (part.reshape([d for axis, d in enumerate(part.shape) if axis not in dropped]) if dropped
            else part)


@rule("gather")
def gather(call):
    return paddle.gather(call("X"), call("Index").flatten(), int(call.number("axis", "Axis", 0)))


@rule("index_select")
def index_select(call):
    return paddle.index_select(call("X"), call("Index"), call.attr("dim", 0))


@rule("lookup_table_v2")
def embedding(call):
    padding = call.attr("padding_idx", -1)
    return F.embedding(call("Ids"), call("W"), None if padding == -1 else padding)


@rule("one_hot_v2")
def one_hot(call):
    return F.one_hot(call("X"), int(call.number("depth", "depth_tensor", -1)))


@rule("grid_sampler", out="Output")
def grid_sample(call):
    return F.grid_sample(call("X"), call("Grid"), call.attr("mode", "bilinear"),
                         call.attr("padding_mode", "zeros"),
                         call.attr("align_corners", True))
