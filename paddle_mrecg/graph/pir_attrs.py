# SPDX-License-Identifier: Apache-2.0
"""Types and attributes of PIR JSON in ProgramDesc's terms."""
from typing import Any, Dict

from .graph import TensorInfo
from .params import DTYPE_CODES

_TYPES = {"0.t_f32": "float32", "0.t_f64": "float64", "0.t_f16": "float16", "0.t_bf16": "bfloat16",
          "0.t_i64": "int64",
          "0.t_i32": "int32", "0.t_i16": "int16", "0.t_i8": "int8", "0.t_ui8": "uint8",
          "0.t_bool": "bool"}
_NOISE = ("struct_name", "place", "stop_gradient", "op_callstack", "persistable",
          "trainable_statistics")


def as_list(names):
    """A value's tensor names: one, or those of a vector of tensors."""
    return names if isinstance(names, list) else [names]


def tensor_info(name, kind) -> TensorInfo:
    """Shape and type of a value; neither for anything but a dense tensor."""
    if not kind["#"].endswith("t_dtensor"):
        return TensorInfo(name)
    return TensorInfo(name, tuple(kind["D"][1]), _TYPES.get(kind["D"][0]["#"], "float32"))


def attributes(op) -> Dict[str, Any]:
    """Names and plain values of an op's attributes, without those that say
    nothing about the result.
    """
    return {a["N"]: _value(a["AT"]) for a in op["A"] if a["N"] not in _NOISE}


def _value(attribute):
    data = attribute.get("D")
    if attribute["#"].endswith("a_array"):
        return [_value(item) for item in data]
    return data


def finish_attrs(op_type, attrs, x):
    """What ProgramDesc has as numbers and lists where PIR has names and scalars, or nothing."""
    for key in ("dtype", "out_dtype"):
        if isinstance(attrs.get(key), str):
            attrs[key] = DTYPE_CODES.get(attrs[key], -1)
    if op_type == "cast" and x:
        attrs["in_dtype"] = DTYPE_CODES.get(x[0].dtype, -1)
    if op_type.startswith("reduce_"):
        attrs.setdefault("dim", [])
        attrs.setdefault("reduce_all", not attrs["dim"])
    if op_type in ("slice", "strided_slice"):
        attrs.setdefault("decrease_axis", [])
    for key in ("axes", "sections", "ksize", "shape", "output_size", "shifts"):
        if key in attrs and not isinstance(attrs[key], list):
            attrs[key] = [attrs[key]]
