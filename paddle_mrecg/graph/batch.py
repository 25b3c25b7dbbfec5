# SPDX-License-Identifier: Apache-2.0
"""Free the batch of a program that was exported for one sample.

Converted models (ONNX, x2paddle) often write the batch of the export into their reshapes. With one
sample the freed program computes the very same; whether a sample's result depends on that sample
alone is what the probe finds out with several.
"""
from typing import Set

from .graph import Graph, Op, TensorInfo

_RESHAPES = ("reshape", "reshape2")
# Attributes of ops that may take the batch from the front: their axes, or where 0 stands in them.
_AXES = {"squeeze2": "axes", "unsqueeze2": "axes", "slice": "axes", "strided_slice": "axes",
         "flip": "axis", "roll": "axis"}
_AXIS = ("concat", "stack", "split", "gather", "unstack", "unbind", "cumsum", "arg_max", "arg_min",
         "top_k_v2", "argsort")


def free_batch(graph: Graph) -> None:
    """Replace a leading 1 that stands for the batch by a free dimension, in place.

    Nothing happens unless every input's first dimension is 1.
    """
    shapes = [graph.tensors[name].shape for name in graph.inputs]
    if not shapes or any(not shape or shape[0] != 1 for shape in shapes):
        return
    leading: Set[str] = set(graph.inputs)
    for op in graph.ops:
        if not leading.intersection(op.input_names) or not _keeps_front(op):
            continue
        _free(op, leading)
        leading.update(n for n in op.output_names
                       if n in graph.tensors and graph.tensors[n].shape[:1] in ((1,), (-1,)))
    for name in leading:
        info = graph.tensors[name]
        graph.tensors[name] = TensorInfo(name, (-1, *info.shape[1:]), info.dtype)


def _keeps_front(op: Op) -> bool:
    """Whether the first dimension of what ``op`` reads is the first of what it writes."""
    attrs = op.attrs
    if op.type in ("transpose", "transpose2"):
        return attrs["axis"][0] == 0
    if op.type in _AXES:
        axes = attrs.get(_AXES[op.type]) or ()
        return 0 not in (axes if isinstance(axes, (list, tuple)) else [axes])
    if op.type in _AXIS:
        return attrs.get("axis", 0) != 0
    if op.type == "flatten_contiguous_range":
        return attrs.get("start_axis", 1) != 0
    if op.type.startswith("reduce_"):
        return not attrs.get("reduce_all", False) and 0 not in attrs.get("dim", [0])
    if op.type in _RESHAPES:
        return "Shape" not in op.inputs and "ShapeTensor" not in op.inputs and (
            list(attrs["shape"][:1]) in ([1], [0], [-1]))
    return op.type not in ("shape", "size")


def _free(op: Op, leading: Set[str]) -> None:
    if op.input("X") not in leading:
        return
    if op.type in _RESHAPES and op.attrs["shape"][0] == 1:
        op.attrs["shape"] = [0, *op.attrs["shape"][1:]]  # 0 copies the dimension of the input
    elif op.type == "expand_v2" and op.attrs.get("shape", [0])[0] == 1:
        op.attrs["shape"] = [-1, *op.attrs["shape"][1:]]
