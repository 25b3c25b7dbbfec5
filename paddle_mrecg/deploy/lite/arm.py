# SPDX-License-Identifier: Apache-2.0
"""Ranges that int8 kernels on ARM do not enforce: found, then clipped in the graph or refused.

A kernel rounds an activation to int8 and saturates at +-127, whatever bits and sign the
program gives, and Paddle Lite folds a batch norm with a negative factor by negating codes,
where -128 has no counterpart.
"""
from typing import List

import numpy as np

from ...errors import ModelError, numbered
from ...graph.graph import WEIGHT_SLOTS, Graph, Op, weight_name
from ..forms import tensor_like
from ..rewrites import weight_dequantizers

KERNEL_BITS = 8
LOWEST = -127


def apply_mobile_rules(graph: Graph) -> List[str]:
    """Make the program compute on ARM what it computes elsewhere.

    Args:
        graph(Graph): a quantized program; it is changed.

    Returns:
        list[str]: what was changed, a sentence each.

    Raises:
        ModelError: an activation has a grid that int8 kernels lack (zero point, or unsigned).
    """
    _refuse_unsigned(graph)
    return [text for text in (clip_low_bit_activations(graph), avoid_lowest_code(graph)) if text]


def clip_low_bit_activations(graph: Graph) -> str:
    """A ``clip`` before every activation quantizer below 8 bits; the
    kernel would go on to +-127.
    """
    params, ops, done = graph.params, [], []
    for op in graph.ops:
        bits = op.attrs.get("bit_length", KERNEL_BITS)
        if op.type == "quantize_linear" and bits < KERNEL_BITS and op.input("X") not in params:
            source = op.input("X")
            clipped = tensor_like(graph, source, "clipped")
            qmax = 2**(bits - 1) - 1
            top = float(np.ravel(params[op.input("Scale")])[0])
            ops.append(Op("clip", {"X": [source]}, {"Out": [clipped]},
                          dict(min=-top * (qmax + 1) / qmax, max=top)))
            op.inputs["X"] = [clipped]
            done.append(bits)
        ops.append(op)
    graph.ops = ops
    return (f"{len(done)} activations of {min(done)} to {max(done)} bits are clipped to their "
            "range in the graph, for int8 kernels saturate at 8 bits only") if done else ""


def avoid_lowest_code(graph: Graph) -> str:
    """-128 becomes -127 in weights before a batch norm that negates them."""
    count = weights = 0
    readers = graph.consumers()
    for op in weight_dequantizers(graph):
        codes = graph.params[op.input("X")]
        if (codes.dtype == np.int8 and codes.min(initial=0) < LOWEST
            and _is_negated(op, graph, readers)):
            count += int((codes < LOWEST).sum())
            weights += 1
            graph.params[op.input("X")] = np.maximum(codes, LOWEST).astype(np.int8)
    return (f"{count} codes of -128 in {weights} weights became -127: folding a batch norm with a "
            "negative factor would overflow them") if count else ""


def _is_negated(dequantize: Op, graph: Graph, readers) -> bool:
    for conv in readers.get(dequantize.output("Y"), ()):
        out = conv.output(WEIGHT_SLOTS[conv.type][2]) if conv.type in WEIGHT_SLOTS else None
        for norm in readers.get(out, ()):
            if (norm.type == "batch_norm"
                and np.any(graph.params.get(norm.input("Scale"), np.ones(1)) < 0)):
                return True
    return False


def _refuse_unsigned(graph: Graph):
    """Refuse dequantized weights whose activation ``quantize_linear`` does not quantize."""
    producers = graph.producers()
    wrong = [op for op in graph.ops
             if op.type in WEIGHT_SLOTS and _is_simulated(op, graph, producers)]
    if wrong:
        name = wrong[0].output_names[0]
        raise ModelError(f"activations or weights of {numbered(len(wrong), 'op')} (the first "
                         f"writes '{name}') are on a grid with a zero point or without sign, which "
                         "int8 kernels lack: quantize again with Global.target=paddle_lite")


def _is_simulated(op: Op, graph: Graph, producers) -> bool:
    """The pattern that ``export.qdq`` writes for such grids: clip and scales, or
    an offset behind the codes.
    """
    data, weight = (producers.get(op.input(slot)) for slot in WEIGHT_SLOTS[op.type][:2])
    if weight_name(op, graph) is None and weight is not None and weight.type == "elementwise_add":
        source = producers.get(weight.input("X"))
        if (source is not None and source.type == "dequantize_linear"
            and source.input("X") in graph.params):
            return True
    chain = []
    while data is not None and data.type in ("scale", "clip") and len(chain) < 4:
        chain.append(data.type)
        data = producers.get(data.input("X"))
    return (chain == ["scale", "scale", "clip", "scale"] and weight is not None
            and weight.type == "dequantize_linear")
