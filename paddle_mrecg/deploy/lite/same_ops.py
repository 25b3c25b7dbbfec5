# SPDX-License-Identifier: Apache-2.0
"""Ops that Paddle Lite knows under another name, and forms of known ops that it does not know."""
from typing import List

from ...errors import numbered
from ...graph.carried import all_ops, rewritten
from ...graph.graph import Graph, Op

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
