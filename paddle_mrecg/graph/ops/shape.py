# SPDX-License-Identifier: Apache-2.0
"""Ops that move or repeat elements as a whole: shapes, order, joining."""
import math

import paddle

from .registry import rule


@rule("reshape", "reshape2")
def reshape(call):
    """0 copies the input's dimension, -1 is worked out."""
    return paddle.reshape(call("X"), call.ints("shape", "Shape", "ShapeTensor"))


@rule("transpose", "transpose2")
def transpose(call):
    return paddle.transpose(call("X"), call.ints("axis"))


@rule("squeeze", "squeeze2")
def squeeze(call):
    return paddle.squeeze(call("X"), call.ints("axes") or None)


@rule("unsqueeze", "unsqueeze2")
def unsqueeze(call):
    return paddle.unsqueeze(call("X"), call.ints("axes", "AxesTensor", "AxesTensorList"))


@rule("flatten", "flatten2")
def flatten_to_matrix(call):
    x, axis = call("X"), call.attr("axis", 1)
    return x.reshape([math.prod(x.shape[:axis]), math.prod(x.shape[axis:])])


@rule("flatten_contiguous_range")
def flatten(call):
    return paddle.flatten(call("X"), call.attr("start_axis", 1), call.attr("stop_axis", 1))


@rule("concat")
def concat(call):
    return paddle.concat(call.all("X"), int(call.number("axis", "AxisTensor", 0)))


@rule("stack", out="Y")
def stack(call):
    return paddle.stack(call.all("X"), call.attr("axis", 0))


@rule("unstack", out="Y")
def unstack(call):
    return list(paddle.unstack(call("X"), call.attr("axis", 0)))


@rule("unbind")
def unbind(call):
    return list(paddle.unbind(call("X"), call.attr("axis", 0)))


@rule("split")
def split(call):
    sections = call.ints("sections", list_slot="SectionsTensorList")
    return list(paddle.split(call("X"), sections or call.attr("num", 0),
                             int(call.number("axis", "AxisTensor", 0))))


@rule("expand_v2")
def expand(call):
    return paddle.expand(call("X"), call.ints("shape", "Shape", "expand_shapes_tensor"))


@rule("expand_as_v2")
def expand_as(call):
    target = call("Y")
    return paddle.expand(call("X"), call.ints("target_shape") if target is None else target.shape)


@rule("tile")
def tile(call):
    return paddle.tile(call("X"), call.ints("repeat_times", "RepeatTimes", "repeat_times_tensor"))


@rule("flip")
def flip(call):
    return paddle.flip(call("X"), call.ints("axis"))


@rule("roll")
def roll(call):
    return paddle.roll(call("X"), call.ints("shifts", "ShiftsTensor"), call.ints("axis") or None)
