# SPDX-License-Identifier: Apache-2.0
"""Ops of two tensors, element by element, and ``scale``."""
import paddle

from . import cpu
from .registry import rule, register_table


def aligned(x, y, axis):
    """``y`` reshaped so that its dimensions lie under those of ``x`` from ``axis``
    on, as ProgramDesc wants it.

    With ``axis`` -1, or with equal ranks, numpy's rules hold already.
    """
    if axis == -1 or y.ndim >= x.ndim or y.ndim == 0:
        return y
    shape = list(y.shape)
    while axis + len(shape) > x.ndim and shape[-1] == 1:  # Paddle drops trailing ones
        shape.pop()
    return y.reshape([1] * axis + shape + [1] * (x.ndim - axis - len(shape)))


def add(x, y):
    """``x + y``; quick when ``y`` is a constant [1, C, 1, 1]."""
    return cpu.channel_add(x, y.flatten()) if _is_channel_constant(x, y) else x + y


def multiply(x, y):
    """``x * y``; quick when ``y`` is a constant [1, C, 1, 1]."""
    return cpu.channel_multiply(x, y.flatten()) if _is_channel_constant(x, y) else x * y


def _is_channel_constant(x, y):
    return (x.ndim == 4 and y.stop_gradient and y.dtype == paddle.float32 and x.place.is_cpu_place()
            and list(y.shape) in ([1, x.shape[1], 1, 1], [x.shape[1], 1, 1]))


def _either_way(function):
    """A commutative function that takes its constant on either side."""
    return (lambda x, y: function(y, x) if y.ndim == 4 and _is_channel_constant(y, x)
            else function(x, y))


for _name, _function in {
        "add": _either_way(add), "mul": _either_way(multiply), "sub": paddle.subtract,
        "div": paddle.divide,
        "max": paddle.maximum, "min": paddle.minimum, "fmax": paddle.fmax, "fmin": paddle.fmin,
        "pow": paddle.pow,
        "floordiv": paddle.floor_divide, "mod": paddle.mod}.items():
    @rule("elementwise_" + _name)
    def _elementwise(call, function=_function):
        x, y, axis = call("X"), call("Y"), call.attr("axis", -1)
        return function(aligned(y, x, axis), aligned(x, y, axis))


register_table("X Y", {
    "equal": paddle.equal, "not_equal": paddle.not_equal, "less_than": paddle.less_than,
    "less_equal": paddle.less_equal, "greater_than": paddle.greater_than,
    "greater_equal": paddle.greater_equal,
    "logical_and": paddle.logical_and, "logical_or": paddle.logical_or,
    "logical_xor": paddle.logical_xor})
register_table("Condition X Y", {
    # dygraph of 2.6 refuses two types, which the program's kernel converts
    "where": lambda condition, x, y: paddle.where(condition, x, y.astype(x.dtype))})


@rule("scale")
def scale(call):
    factor, bias, after = (call("ScaleTensor"), call.attr("bias", 0.0),
                           call.attr("bias_after_scale", True))
    if factor is not None:  # paddle.scale would not hand its gradient on
        return call("X") * factor + bias if after else (call("X") + bias) * factor
    return paddle.scale(call("X"), call.attr("scale", 1.0), bias, after)


@rule("sum")
def add_all(call):
    total, *others = call.all("X")
    for other in others:
        total = total + other
    return total


@rule("dropout")
def dropout(call):
    """At inference nothing is dropped; the older convention makes up for it
    now instead of in training.
    """
    if call.attr("dropout_implementation", "downgrade_in_infer") == "upscale_in_train":
        return call("X")
    return paddle.scale(call("X"), 1.0 - call.attr("dropout_prob", 0.5))
