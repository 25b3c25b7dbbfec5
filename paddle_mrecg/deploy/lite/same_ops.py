# SPDX-License-Identifier: Apache-2.0
"""Ops that Paddle Lite knows under another name, and forms of known ops that it does not know."""
from typing import List

from ...errors import numbered
from ...graph.carried import all_ops, rewritten
from ...graph.graph import Graph, Op, TensorInfo

# what Paddle writes -> what Paddle Lite has, with the attributes that say the same
_NAMES = {
    "silu": ("swish", lambda attrs: {"beta": 1.0}),
    "bmm": ("matmul_v2", lambda attrs: {"trans_x": False, "trans_y": False}),
    "brelu": ("clip", lambda attrs: {"min": attrs["t_min"], "max": attrs["t_max"]}),
    "channel_shuffle": ("shuffle_channel", lambda attrs: {"group": attrs["groups"]}),
}
_LAYOUTS, _CHANNELS_LAST = ("data_format", "data_layout"), ("NHWC", "NDHWC", "NLC", "NWC")


def in_lites_words(op: Op) -> Op:
    """The same op under the name by which Paddle Lite has it; most stay as they are."""
    if op.type not in _NAMES or wrong_form(op):
        return op
    name, attrs = _NAMES[op.type]
    return Op(name, op.inputs, op.outputs, attrs(op.attrs))


def rename_ops(graph: Graph) -> str:
    """Ops under the names that Paddle Lite knows, in place: else opt knows no kernel for them."""
    renamed = sorted({f"{op.type} as {_NAMES[op.type][0]}" for op in all_ops(graph.ops)
                      if in_lites_words(op) is not op})
    count = sum(in_lites_words(op) is not op for op in all_ops(graph.ops))
    graph.ops = [rewritten(op, in_lites_words) for op in graph.ops]
    return f"{numbered(count, 'op')} written otherwise: {', '.join(renamed)}" if count else ""


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
        parts = []
        for name in op.outputs["Out"]:
            parts.append(graph.unique_name(f"{name}.part"))
            graph.tensors[parts[-1]] = TensorInfo(parts[-1], (*whole[:axis], 1, *whole[axis + 1:]),
                                                  graph.tensors[name].dtype)
        ops.append(Op("split", {"X": op.inputs["X"]}, {"Out": parts},
                      {"num": len(parts), "sections": [], "axis": axis}))
        ops += [Op("squeeze2", {"X": [part]}, {"Out": [name]}, {"axes": [axis]})
                for part, name in zip(parts, op.outputs["Out"])]
        count += 1
    graph.ops = ops
    return f"{count} unbind written as split and squeeze" if count else ""


def wrong_forms(graph: Graph) -> List[str]:
    """Ops that Paddle Lite has, in forms that it reads wrong without a word: sorted, each with the
    attribute.
    """
    return sorted({f"{op.type} with {wrong_form(op)}" for op in all_ops(graph.ops)
                   if wrong_form(op)})


def wrong_form(op: Op) -> str:
    """The attribute of ``op`` that no kernel follows; empty where there is none."""
    for name in _LAYOUTS:
        if op.attrs.get(name) in _CHANNELS_LAST:
            return f"{name} {op.attrs[name]}"
    return ""
