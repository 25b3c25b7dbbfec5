# SPDX-License-Identifier: Apache-2.0
"""Forms of ops that Paddle Lite and paddle2onnx alike get wrong, and pieces that rewrites share."""
from typing import List

from ..graph.carried import all_ops
from ..graph.graph import Graph, Op, TensorInfo

_LAYOUTS, _CHANNELS_LAST = ("data_format", "data_layout"), ("NHWC", "NDHWC", "NLC", "NWC")


def wrong_forms(graph: Graph) -> List[str]:
    """Ops in forms that Paddle Lite and paddle2onnx take for others without a word, sorted,
    each with the attribute.
    """
    return sorted({f"{op.type} with {wrong}" for op in all_ops(graph.ops)
                   for wrong in [wrong_form(op)] if wrong})


def wrong_form(op: Op) -> str:
    """The attribute of ``op`` that no kernel follows; empty where there is none."""
    for name in _LAYOUTS:
        if op.attrs.get(name) in _CHANNELS_LAST:
            return f"{name} {op.attrs[name]}"
    return ""


def expand_by_shape(graph: Graph) -> str:
    """``expand_v2`` for ``expand_as_v2``, where every free size is the tensor's own: Paddle Lite
    has no kernel for the latter, and paddle2onnx takes -1 for a size.
    """
    count = 0
    for k, op in enumerate(graph.ops):
        shape = list(op.attrs.get("target_shape") or [])
        if op.type != "expand_as_v2" or not _expands_known_axes(graph, op, shape):
            continue
        graph.ops[k] = Op("expand_v2", {"X": op.inputs["X"]}, op.outputs, {"shape": shape})
        count += 1
    return f"{count} expand_as_v2 written as expand_v2" if count else ""


def _expands_known_axes(graph: Graph, op: Op, shape) -> bool:
    own = list(graph.tensors[op.input("X")].shape)
    own = [1] * (len(shape) - len(own)) + own
    return bool(shape) and all(size > 0 or mine == -1 for size, mine in zip(shape, own))


def tensor_like(graph: Graph, name: str, word: str, shape=None) -> str:
    """A new tensor ``<name>.<word>`` like ``name``, of another shape if given."""
    new = graph.unique_name(f"{name}.{word}")
    known = graph.tensors[name]
    graph.tensors[new] = TensorInfo(new, known.shape if shape is None else shape, known.dtype)
    return new


def product(a: str, b: str, out: str) -> Op:
    """``out = a * b``, element by element."""
    return Op("elementwise_mul", {"X": [a], "Y": [b]}, {"Out": [out]}, {"axis": -1})


def scaled(source: str, out: str, factor: float, bias: float = 0.0) -> Op:
    """``out = factor * source + bias``."""
    return Op("scale", {"X": [source]}, {"Out": [out]},
              {"scale": factor, "bias": bias, "bias_after_scale": True})
