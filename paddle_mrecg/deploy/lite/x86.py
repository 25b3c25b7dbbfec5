# SPDX-License-Identifier: Apache-2.0
"""What Paddle Lite computes wrongly in int8 on x86, written so that it does not; its code for ARM
is another. On x86 a ``.nb`` is there to try on a PC what a phone will compute.
"""
import collections
import math
from typing import Callable, List, Optional, Sequence

import numpy as np

from ...graph.graph import WEIGHT_SLOTS, Graph, Op, ops_behind
from ...graph.simplify import drop_unused
from ...grids.affine import Encoding
from ...grids.fake_quantize import ROUNDER
from ..forms import product, scaled, tensor_like
from ..rewrites import (activation_encoding, add_param, dequantized_weight,
                        from_float_convolution, part_scales_from_convolutions)

QUANTIZED_AT_ONCE = 32  # values that are quantized at a time
SAFE_CODES = 128  # sum of two codes: 255 * 128 < 2^15, the 16-bit sums of u8 x s8 instructions
NO_KERNEL = "has no int8 for matrix products and transposed convolutions"
SATURATES = "saturates in 16 bits where two codes of a channel exceed 128 together"
RESTS = f"spoils inputs that are not a multiple of {QUANTIZED_AT_ONCE} values"


def for_x86(graph: Graph) -> List[str]:
    """Make the program compute on x86 what it computes elsewhere.

    Args:
        graph(Graph): a quantized program, behind ``rewrites.for_lite``; it is changed.

    Returns:
        list[str]: what was changed, a sentence each.
    """
    steps = (float_where_wrong, part_scales_from_convolutions, split_hard_swish, split_leaky_relu)
    return [text for text in (step(graph) for step in steps) if text]


def split_hard_swish(graph: Graph) -> str:
    """``x * hard_sigmoid(x)``, except behind float convolutions: Paddle Lite fuses hard_swish into
    x86 int8 convolutions and computes it wrongly there.
    """
    def parts(op: Op) -> List[Op]:
        name, out = op.input("X"), op.output("Out")
        gate = tensor_like(graph, out, "gate")
        scale, offset = op.attrs.get("scale", 6.0), op.attrs.get("offset", 3.0)
        return [Op("hard_sigmoid", {"X": [name]}, {"Out": [gate]},
                   dict(slope=1.0 / scale, offset=offset / scale)),
                product(name, gate, out)]

    count = _split(graph, lambda op: op.type == "hard_swish", parts)
    return (f"{count} hard_swish are written as x * hard_sigmoid(x), which x86 int8 convolutions "
            "do not swallow" if count else "")


def split_leaky_relu(graph: Graph) -> str:
    """``max(x, alpha x)``, except behind float convolutions: where an int8 one hands codes on to
    the next layer, Paddle Lite fuses leaky_relu into it and computes something else.
    """
    def parts(op: Op) -> List[Op]:
        name, out = op.input("X"), op.output("Out")
        small = tensor_like(graph, out, "small")
        slope = add_param(graph, f"{out}.alpha", np.array([_negative_slope(op)], np.float32))
        return [product(name, slope, small),
                Op("elementwise_max", {"X": [name], "Y": [small]}, {"Out": [out]}, {"axis": -1})]

    count = _split(graph, lambda op: (op.type == "leaky_relu"
                                      and 0.0 <= _negative_slope(op) <= 1.0), parts)
    return (f"{count} leaky_relu are written as the larger of x and alpha x, which x86 int8 "
            "convolutions do not swallow" if count else "")


def _negative_slope(op: Op) -> float:
    return op.attrs.get("alpha", 0.02)


def _split(graph: Graph, chosen: Callable[[Op], bool], parts: Callable[[Op], List[Op]]) -> int:
    """Put ``parts`` of the chosen activations in their places, where no float convolution stands in
    front; how many there were.
    """
    producers, ops, count = graph.producers(), [], 0
    for op in graph.ops:
        if chosen(op) and not from_float_convolution(op.input("X"), graph, producers):
            ops += parts(op)
            count += 1
        else:
            ops.append(op)
    graph.ops = ops
    return count


def float_where_wrong(graph: Graph) -> str:
    """Float arithmetic on the same codes where int8 is wrong.

    * Convolutions add two products in 16 bits, which saturate: most layers with 8-bit weights.
    * What quantizes a tensor takes 32 values at a time; of the rest, half of every 8 become
      something else (measured for rests of 0 to 31; up to 7 are right): the last pixels of a
      feature map, and most of what squeeze-and-excitation reads. The rest depends on the batch too,
      so a convolution stays int8 where one sample of its input is a multiple of 32.
    * Matrix products have no int8 kernel: a float one reads the codes, or the process dies.
      Transposed convolutions have none either, and opt aborts.
    """
    producers = graph.producers()
    reasons = {id(op): _cannot_be_int8(op, graph, producers) for op in graph.ops
               if op.type in WEIGHT_SLOTS}
    counts = collections.Counter(reason for reason in reasons.values() if reason)
    if not counts:
        return ""
    views, ops = {}, []
    for op in graph.ops:
        if reasons.get(id(op)):
            data, weight = WEIGHT_SLOTS[op.type][:2]
            quantize = producers[producers[op.input(data)].input("X")]
            name = quantize.input("X")
            if name not in views:
                ops += _quantizer(graph, name, activation_encoding(quantize, graph))
                views[name] = ops[-1].output("Out")
            op.inputs[data] = [views[name]]
            op.inputs[weight] = [_dequantized_param(producers[op.input(weight)], graph)]
        ops.append(op)
    graph.ops = ops_behind(ops, graph.outputs)
    drop_unused(graph)
    count = sum(counts.values())
    return (f"{count} layer{'s compute' if count > 1 else ' computes'} in float on the same codes, "
            "because Paddle Lite on x86 "
            + "; ".join(f"{reason} ({times})" for reason, times in sorted(counts.items())))


def _cannot_be_int8(op: Op, graph: Graph, producers) -> Optional[str]:
    """Why an op must not run in int8; None where it may, or does not anyway."""
    source, weight = (producers.get(op.input(slot)) for slot in WEIGHT_SLOTS[op.type][:2])
    if source is None or weight is None or {source.type, weight.type} != {"dequantize_linear"}:
        return None
    quantize = producers.get(source.input("X"))
    if quantize is None or quantize.type != "quantize_linear":
        return None
    if op.type not in ("conv2d", "depthwise_conv2d"):
        return NO_KERNEL
    if saturates(graph.params[weight.input("X")]):
        return SATURATES
    return RESTS if has_rest(graph.tensors[quantize.input("X")].shape) else None


def saturates(codes: np.ndarray) -> bool:
    """Whether two products of some output channel, the first axis, may not fit."""
    rows = np.abs(codes.reshape(len(codes), -1).astype(np.int32))
    return bool((np.sort(rows, axis=1)[:, -2:].sum(axis=1) > SAFE_CODES).any())


def has_rest(shape: Sequence[int]) -> bool:
    """Whether a sample of that shape, batch axis first, is known not to be a multiple of
    ``QUANTIZED_AT_ONCE`` values; False where sizes are free.
    """
    return min(shape[1:], default=0) > 0 and math.prod(shape[1:]) % QUANTIZED_AT_ONCE != 0


def _quantizer(graph: Graph, name: str, encoding: Encoding) -> List[Op]:
    """Ops of arithmetic alone that quantize tensor ``name``; the last one's output is the quantized
    view.

    The clip stands first and the large number that rounds is taken off by an addition: opt folds a
    ``scale`` behind a convolution into its weights, past its activation, and merges neighbouring
    ``scale`` ops.
    """
    step, spec = float(encoding.scale), encoding.spec
    clipped, rounded, codes, out = (tensor_like(graph, name, kind) for kind in
                                    ("clipped", "rounded", "codes", "view"))
    bias = add_param(graph, f"{codes}.bias", np.array([-ROUNDER], np.float32))
    return [Op("clip", {"X": [name]}, {"Out": [clipped]},
               dict(min=spec.qmin * step, max=spec.qmax * step)),
            scaled(clipped, rounded, 1.0 / step, ROUNDER),
            Op("elementwise_add", {"X": [rounded], "Y": [bias]}, {"Out": [codes]}, {"axis": -1}),
            scaled(codes, out, step)]


def _dequantized_param(dequantize: Op, graph: Graph) -> str:
    return add_param(graph, f"{dequantize.input('X')}.float", dequantized_weight(dequantize, graph))
