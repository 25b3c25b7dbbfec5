# SPDX-License-Identifier: Apache-2.0
"""Ops that make tensors, or tell what a tensor is like."""
import numpy as np
import paddle

from .registry import rule

_VALUES = ("values", "fp32_values", "fp64_values", "int32_values", "int64_values", "int8_values",
           "bool_values")


@rule("fill_constant")
def fill_constant(call):
    shape, value = call.ints("shape", "ShapeTensor", "ShapeTensorList"), call("ValueTensor")
    return paddle.full(shape, _fill_value(call) if value is None else value.item(), call.dtype())


@rule("fill_constant_batch_size_like")
def fill_constant_batch_size_like(call):
    shape = call.ints("shape")
    shape[call.attr("output_dim_idx", 0)] = call("Input").shape[call.attr("input_dim_idx", 0)]
    return paddle.full(shape, _fill_value(call), call.dtype())


def _fill_value(call):
    """``str_value`` holds what a float32 attribute cannot, such as large integers and inf."""
    text = call.attr("str_value", "")
    return (float(text) if text and not text.lstrip("-").isdigit() else int(text) if text
            else call.attr("value", 0.0))


@rule("fill_any_like", "fill_zeros_like")
def fill_any_like(call):
    x = call("X")
    return paddle.full(x.shape, call.attr("value", 0.0), call.dtype(default=_numpy_name(x)))


@rule("assign")
def assign(call):
    return call("X")


@rule("assign_value")
def assign_value(call):
    values = next((call.attr(name) for name in _VALUES if call.attr(name)), [])
    return paddle.to_tensor(np.asarray(values, call.dtype()).reshape(call.ints("shape")))


@rule("range")
def range_(call):
    start = call("Start")
    return paddle.arange(start.item(), call("End").item(), call("Step").item(), _numpy_name(start))


@rule("shape")
def shape(call):
    return paddle.to_tensor(np.array(call("Input").shape, "int32"))


@rule("size")
def size(call):
    return paddle.to_tensor(np.array(call("Input").size, "int64"))


@rule("cast")
def cast(call):
    return call("X").astype(call.dtype("out_dtype"))


@rule("increment")
def increment(call):
    x = call("X")
    return x + paddle.full(x.shape, call.attr("step", 1.0), x.dtype)


def _numpy_name(tensor):
    return str(tensor.dtype).rsplit(".", 1)[-1]
