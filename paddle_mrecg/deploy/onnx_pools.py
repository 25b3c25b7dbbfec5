# SPDX-License-Identifier: Apache-2.0
"""Pools that paddle2onnx takes for others: it gives all windows of an adaptive pool one size and
one stride, which is right where the output's size divides the input's and seldom else.
"""
from typing import List, Tuple

import numpy as np

from ..graph.graph import Graph, Op
from .forms import tensor_like
from .rewrites import add_param

_POOLS = ("pool2d", "pool3d", "max_pool2d_with_index", "max_pool3d_with_index")


def wrong_pool(op: Op, graph: Graph) -> str:
    """What of a pool would be taken for something else; empty where nothing would."""
    if op.type not in _POOLS:
        return ""
    if (op.attrs.get("padding_algorithm") == "SAME" and op.attrs.get("pooling_type") == "avg"
            and not op.attrs.get("exclusive", True)):
        return "padding SAME that counts"
    if _windows_differ(op, graph) and not _is_average(op, graph):
        is_free = min(graph.tensors[op.input("X")].shape[2:]) < 1
        return f"windows of {'a free size' if is_free else 'different sizes'}"
    return ""


def adaptive_average(op: Op, graph: Graph) -> List[Op]:
    """Two matrix products for an adaptive average whose windows differ."""
    if not _windows_differ(op, graph):
        return []
    source, out = op.input("X"), op.output("Out")
    shape = graph.tensors[source].shape
    rows, columns = (_shares(side, count) for side, count in zip(shape[2:], op.attrs["ksize"]))
    names = [add_param(graph, f"{out}.{word}", value)
             for word, value in (("rows", rows), ("columns", columns.T))]
    narrow = tensor_like(graph, out, "narrow", (*shape[:3], len(columns)))
    plain = {"trans_x": False, "trans_y": False}
    return [Op("matmul_v2", {"X": [source], "Y": [names[1]]}, {"Out": [narrow]}, plain),
            Op("matmul_v2", {"X": [names[0]], "Y": [narrow]}, op.outputs, plain)]


def _windows_differ(op: Op, graph: Graph) -> bool:
    """From those of one size and stride; also where a size is free, for nothing says that they
    do not.
    """
    sizes = op.attrs.get("ksize", ())
    if not op.attrs.get("adaptive") or op.attrs.get("global_pooling"):
        return False
    sides = graph.tensors[op.input("X")].shape[2:]
    return any(size > 1 and (side < 1 or _windows(side, size) != _even_windows(side, size))
               for side, size in zip(sides, sizes))


def _windows(side: int, count: int) -> List[Tuple[int, int]]:
    """First pixel and end of each, as Paddle cuts them."""
    return [(k * side // count, -(-(k + 1) * side // count)) for k in range(count)]


def _even_windows(side: int, count: int) -> List[Tuple[int, int]]:
    """The same, as the converter cuts them."""
    stride = side // count
    width = side - (count - 1) * stride
    return [(k * stride, k * stride + width) for k in range(count)]


def _is_average(op: Op, graph: Graph) -> bool:
    """One that ``adaptive_average`` can write."""
    return (op.type == "pool2d" and op.attrs.get("pooling_type") == "avg"
            and min(graph.tensors[op.input("X")].shape[2:]) > 0)


def _shares(side: int, count: int) -> np.ndarray:
    """Which part each of ``side`` pixels has in each of ``count`` averages, [count, side]."""
    shares = np.zeros((count, side), np.float32)
    for k, (first, end) in enumerate(_windows(side, count)):
        shares[k, first:end] = 1 / (end - first)
    return shares
