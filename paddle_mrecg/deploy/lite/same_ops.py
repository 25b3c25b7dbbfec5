# SPDX-License-Identifier: Apache-2.0
"""Ops that Paddle Lite knows under another name, and ops that it gets wrong, written otherwise."""
from typing import List

import numpy as np

from ...errors import numbered
from ...graph.carried import all_ops, rewritten
from ...graph.graph import Graph, Op
from ..forms import expand_by_shape, product, tensor_like, wrong_form
from ..rewrites import add_param

# what Paddle writes -> what Paddle Lite has, with the attributes that say the same
_NAMES = {
    "silu": ("swish", lambda attrs: {"beta": 1.0}),
    "bmm": ("matmul_v2", lambda attrs: {"trans_x": False, "trans_y": False}),
    "brelu": ("clip", lambda attrs: {"min": attrs["t_min"], "max": attrs["t_max"]}),
    "channel_shuffle": ("shuffle_channel", lambda attrs: {"group": attrs["groups"]}),
}
_REDUCTIONS, _RANK = ("reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), 4


def as_lite_reads_it(graph: Graph) -> List[str]:
    """All of what is below, in place; what was done, a sentence each."""
    steps = (rename_ops, split_unbinds, multiply_powers, merge_reduced_axes, expand_by_shape,
             complete_layer_norms)
    return [text for text in (step(graph) for step in steps) if text]


def in_lites_words(op: Op) -> Op:
    """The same op under the name by which Paddle Lite has it; most stay as they are."""
    if op.type not in _NAMES or wrong_form(op):
        return op
    name, attrs = _NAMES[op.type]
    return Op(name, op.inputs, op.outputs, attrs(op.attrs))


def rename_ops(graph: Graph) -> str:
    """Ops under the names that Paddle Lite knows, in place: else opt knows no kernel for them."""
    renamed = [f"{op.type} as {_NAMES[op.type][0]}" for op in all_ops(graph.ops)
               if in_lites_words(op) is not op]
    graph.ops = [rewritten(op, in_lites_words) for op in graph.ops]
    return (f"{numbered(len(renamed), 'op')} written otherwise: "
            f"{', '.join(sorted(set(renamed)))}" if renamed else "")


def split_unbinds(graph: Graph) -> str:
    """``split`` and ``squeeze2`` for ``unbind``: its kernel, the same on all devices, writes past
    its outputs along axis 0, as where attention takes query, key and value apart.
    """
    ops, count = [], 0
    for op in graph.ops:
        if op.type != "unbind":
            ops.append(op)
            continue
        axis, whole = op.attrs.get("axis", 0), graph.tensors[op.input("X")].shape
        axis += len(whole) if axis < 0 else 0
        parts = [tensor_like(graph, name, "part", (*whole[:axis], 1, *whole[axis + 1:]))
                 for name in op.outputs["Out"]]
        ops.append(Op("split", {"X": op.inputs["X"]}, {"Out": parts},
                      {"num": len(parts), "sections": [], "axis": axis}))
        ops += [Op("squeeze2", {"X": [part]}, {"Out": [name]}, {"axes": [axis]})
                for part, name in zip(parts, op.outputs["Out"])]
        count += 1
    graph.ops = ops
    return f"{count} unbind written as split and squeeze" if count else ""


def multiply_powers(graph: Graph) -> str:
    """Products for squares and cubes, ``sqrt`` for roots: x86 computes ``exp(k log(x))``, which is
    nonsense where ``x`` is not positive.
    """
    ops, count = [], 0
    for op in graph.ops:
        power, source, out = op.attrs.get("factor"), op.input("X"), op.output("Out")
        if op.type != "pow" or len(op.inputs) > 1 or power not in (0.5, 2.0, 3.0):
            ops.append(op)
            continue
        count += 1
        if power == 0.5:
            ops.append(Op("sqrt", op.inputs, op.outputs))
            continue
        square = out if power == 2.0 else tensor_like(graph, out, "square")
        ops.append(product(source, source, square))
        if power == 3.0:
            ops.append(product(square, source, out))
    graph.ops = ops
    return f"{numbered(count, 'power')} written as products or roots" if count else ""


def merge_reduced_axes(graph: Graph) -> str:
    """Reductions of more than four axes as ones of three: kernels know four, and with more the
    output on x86 is what was in memory.
    """
    ops, count = [], 0
    for op in graph.ops:
        merged = _merged(op, graph) if op.type in _REDUCTIONS else []
        ops += merged or [op]
        count += bool(merged)
    graph.ops = ops
    return f"{numbered(count, 'reduction')} of more than four axes made of three" if count else ""


def _merged(op: Op, graph: Graph) -> List[Op]:
    """Nothing where four axes are enough, or where sizes are not known."""
    source, out = op.input("X"), op.output("Out")
    shape, rank = graph.tensors[source].shape, len(graph.tensors[source].shape)
    axes = sorted(axis % rank for axis in op.attrs.get("dim") or ()) if rank > _RANK else []
    if not axes or op.attrs.get("reduce_all") or axes != list(range(axes[0], axes[-1] + 1)):
        return []
    front, reduced, behind = shape[:axes[0]], shape[axes[0]:axes[-1] + 1], shape[axes[-1] + 1:]
    if not front or min((*reduced, *behind)) < 1 or sum(size < 1 for size in front) > 1:
        return []
    kept = [1] * len(axes) if op.attrs.get("keep_dim") else []
    sizes = int(np.prod(reduced)), int(np.prod(behind))
    flat = tensor_like(graph, out, "flat", (-1, *sizes))
    short = tensor_like(graph, out, "short", (-1, sizes[1]))
    return [_reshaped(source, flat, [-1, *sizes]),
            Op(op.type, {"X": [flat]}, {"Out": [short]},
               {**op.attrs, "dim": [1], "keep_dim": False}),
            _reshaped(short, out, [*(size if size > 0 else -1 for size in front), *kept, *behind])]


def _reshaped(source: str, out: str, shape) -> Op:
    return Op("reshape2", {"X": [source]}, {"Out": [out]}, {"shape": list(shape)})


def complete_layer_norms(graph: Graph) -> str:
    """Scales of 1 and shifts of 0 where a layer norm has none: without them x86 dies."""
    count = 0
    for op in graph.ops:
        sizes = (graph.tensors[op.input("X")].shape[op.attrs.get("begin_norm_axis", 1):]
                 if op.type == "layer_norm" else ())
        missing = [slot for slot in ("Scale", "Bias") if not op.input(slot)]
        if not sizes or min(sizes) < 1 or not missing:
            continue
        for slot in missing:
            values = np.full(int(np.prod(sizes)), float(slot == "Scale"), np.float32)
            op.inputs[slot] = [add_param(graph, f"{op.output('Y')}.{slot.lower()}", values)]
        count += 1
    return f"{numbered(count, 'layer norm')} got a scale of 1 or a shift of 0" if count else ""
