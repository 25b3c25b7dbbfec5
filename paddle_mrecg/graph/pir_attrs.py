# SPDX-License-Identifier: Apache-2.0
"""Types and attributes of PIR JSON in ProgramDesc's terms."""
import functools
from typing import Any, Dict

from ..compat import op_proto
from .graph import TensorInfo
from .params import DTYPE_CODES

_TYPES = {"0.t_f32": "float32", "0.t_f64": "float64", "0.t_f16": "float16", "0.t_bf16": "bfloat16",
          "0.t_i64": "int64", "0.t_i32": "int32", "0.t_i16": "int16", "0.t_i8": "int8",
          "0.t_ui8": "uint8", "0.t_bool": "bool"}
ARRAY = "t_dense_tensor_array"  # the end of the name of its type
_NOISE = ("struct_name", "place", "stop_gradient", "op_callstack", "persistable")
# ProgramDesc's attribute types that hold one value, and those that hold a list.
_SINGLE, _LIST_KINDS = (0, 1, 2, 6, 9, 15, 16), (3, 4, 5, 7, 11, 12, 17)
_CASTS = {0: int, 1: float, 2: str, 9: int}
_SUMS = ("reduce_sum", "reduce_prod")


def as_list(names):
    """A value's tensor names: one, those of a vector of tensors, or none."""
    return names if isinstance(names, list) else [names]


def tensor_info(name, kind) -> TensorInfo:
    """Shape and type of a value; what is neither a dense tensor nor an array of them has none."""
    if not kind["#"].endswith(("t_dtensor", ARRAY)):
        return TensorInfo(name)
    return TensorInfo(name, tuple(kind["D"][1]), _TYPES.get(kind["D"][0]["#"], "float32"))


def attributes(op) -> Dict[str, Any]:
    """Names and plain values of an op's attributes, without those that change no result."""
    return {a["N"]: _number_of(a["AT"]) for a in op["A"] if a["N"] not in _NOISE}


def _number_of(attribute):
    """``VD`` holds as text the numbers that JSON cannot hold: INF, -INF and NAN."""
    if "VD" in attribute:
        return float(attribute["VD"])
    data = attribute.get("D")
    if attribute["#"].endswith("a_array"):
        return [_number_of(item) for item in data]
    return data


@functools.lru_cache(maxsize=None)
def attr_kinds(op_type: str) -> Dict[str, int]:
    """ProgramDesc's type of each attribute that the installed Paddle knows; not to be changed."""
    proto = op_proto(op_type)
    return {a.name: a.type for a in proto.attrs} if proto else {}


def is_list_attr(op_type: str, attr: str) -> bool:
    """Whether ProgramDesc holds a list there; an attribute that Paddle does not know may be one."""
    return attr_kinds(op_type).get(attr, _LIST_KINDS[0]) in _LIST_KINDS


def finish_attrs(op_type, attrs, inputs, outputs):
    """What ProgramDesc has as numbers and lists where PIR has names and scalars, or nothing.

    Args:
        op_type(str): the ProgramDesc op.
        attrs(dict): its attributes; changed in place.
        inputs(list[TensorInfo]): what ``X`` holds.
        outputs(list[TensorInfo]): what the op writes.
    """
    kinds = attr_kinds(op_type)
    for key, value in attrs.items():
        if isinstance(value, str) and kinds.get(key, 0) in (0, 9) and "dtype" in key:
            attrs[key] = DTYPE_CODES.get(value, -1)
        elif kinds.get(key) in _LIST_KINDS and not isinstance(value, list):
            attrs[key] = [value]
        elif kinds.get(key) in _SINGLE and isinstance(value, list) and len(value) == 1:
            attrs[key] = value[0]
        if kinds.get(key) in _CASTS and not isinstance(attrs[key], list):
            attrs[key] = _CASTS[kinds[key]](attrs[key])
    if op_type == "cast" and inputs:
        attrs["in_dtype"] = DTYPE_CODES.get(inputs[0].dtype, -1)
    if op_type.startswith("reduce_"):
        attrs.setdefault("dim", [])
        attrs.setdefault("reduce_all", not attrs["dim"])
    if op_type in _SUMS and inputs and outputs and inputs[0].dtype != outputs[0].dtype:
        attrs["in_dtype"], attrs["out_dtype"] = (DTYPE_CODES[t[0].dtype] for t in (inputs, outputs))
    if op_type in ("slice", "strided_slice"):
        attrs.setdefault("decrease_axis", [])
        attrs.setdefault("infer_flags", [1] * len(attrs["axes"]))
    if op_type == "set_value" and outputs:
        attrs["dtype"] = DTYPE_CODES[outputs[0].dtype]
