# SPDX-License-Identifier: Apache-2.0
"""Ops that paddle2onnx leaves out or gets wrong, written with ops that it gets right.

Each rewrite returns the ops that take the place of one, or an empty list where it is right as it
is; its docstring says what paddle2onnx 1.3.1 makes of it otherwise.
"""
import math
from typing import Callable, Dict, List

import numpy as np

from ..errors import ModelError
from ..graph.graph import Graph, Op
from .forms import expand_by_shape, product, scaled, tensor_like, wrong_forms
from .onnx_pools import adaptive_average, wrong_pool
from .rewrites import add_param

_DTYPE_CODES = {"bool": 0, "int32": 2, "int64": 3, "float32": 5}  # as in Paddle's attributes
_BEYOND = -2**31  # an end of slices before the first element


def as_paddle2onnx_reads_it(graph: Graph) -> None:
    """Change ``graph`` in place.

    Raises:
        ModelError: a layout, a padding or a size that would be taken for another.
    """
    wrong = wrong_forms(graph) + sorted(
        {f"{op.type} with {what}" for op in graph.ops for what in [_wrong(op, graph)] if what})
    if wrong:
        raise ModelError(f"paddle2onnx has no form for {', '.join(wrong)}: express it with other "
                         "ops (data_format NCHW, slices and concat) and export again, with fixed "
                         "sizes where one is free")
    expand_by_shape(graph)
    ops = []
    for op in graph.ops:
        ops += _REWRITES[op.type](op, graph) or [op] if op.type in _REWRITES else [op]
    graph.ops = ops


def _wrong(op: Op, graph: Graph) -> str:
    """What of ``op`` would be taken for something else; empty where nothing would."""
    source = graph.tensors.get(op.input("X"))
    if op.attrs.get("mode") == "circular":
        return "mode circular"
    if op.type == "p_norm" and (op.attrs.get("asvector") or op.attrs["porder"] == 0):
        return "porder 0" if op.attrs["porder"] == 0 else "all axes at once"
    if op.type == "unfold" and len(set(op.attrs["paddings"])) > 1:
        return "unequal paddings"
    if op.type == "group_norm" and source and len(source.shape) > 4:
        return f"{len(source.shape)} axes"
    if op.type.endswith("conv2d_transpose") and (op.input("OutputSizeTensor") or (
            op.attrs.get("output_size") and _output_padding(op, graph) is None)):
        return "output_size on a free size"
    return wrong_pool(op, graph)


def _softplus(op: Op, graph: Graph) -> List[Op]:
    """``log(1 + exp(beta x)) / beta``: the converter forgets ``beta``, and the threshold from which
    on the value is ``x``, of which Paddle's 20 shows in no digit of float32.
    """
    beta = op.attrs.get("beta", 1.0)
    return [] if beta == 1.0 else _scaled_softplus(op, graph, beta, 1.0 / beta)


def _log_sigmoid(op: Op, graph: Graph) -> List[Op]:
    """``-softplus(-x)``: the logarithm of a sigmoid is minus infinity below -88."""
    return _scaled_softplus(op, graph, -1.0, -1.0)


def _scaled_softplus(op: Op, graph: Graph, before: float, behind: float) -> List[Op]:
    source, out = op.input("X"), op.output("Out")
    large, small = (tensor_like(graph, out, word) for word in ("large", "small"))
    return [scaled(source, large, before), Op("softplus", {"X": [large]}, {"Out": [small]},
                                              {"beta": 1.0, "threshold": 20.0}),
            scaled(small, out, behind)]


def _gelu(op: Op, graph: Graph) -> List[Op]:
    """``x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))``, which is the approximation by tanh: the
    converter writes the exact function for it.
    """
    if not op.attrs.get("approximate"):
        return []
    x, out = op.input("X"), op.output("Out")
    square, inner, bent, gate = (tensor_like(graph, out, word)
                                    for word in ("square", "inner", "bent", "gate"))
    factor = 2 * math.sqrt(2 / math.pi)
    return [product(x, x, square), scaled(square, inner, 0.044715 * factor, factor),
            product(x, inner, bent), Op("sigmoid", {"X": [bent]}, {"Out": [gate]}),
            product(x, gate, out)]


def _gathered(op: Op, graph: Graph) -> List[Op]:
    """The shuffle as a choice of channels."""
    groups, channels = op.attrs["groups"], graph.tensors[op.input("X")].shape[1]
    order = np.arange(channels).reshape(groups, -1).T.ravel()
    index = add_param(graph, f"{op.output('Out')}.order", order.astype(np.int64))
    return [Op("index_select", {"X": op.inputs["X"], "Index": [index]}, op.outputs, {"dim": 1})]


def _extreme_norm(op: Op, graph: Graph) -> List[Op]:
    """The largest or smallest magnitude: the converter takes the root of a sum of powers."""
    order = op.attrs["porder"]
    if not math.isinf(order):
        return []
    magnitude = tensor_like(graph, op.input("X"), "magnitude")
    return [Op("abs", {"X": op.inputs["X"]}, {"Out": [magnitude]}),
            Op("reduce_max" if order > 0 else "reduce_min", {"X": [magnitude]}, op.outputs,
               {"dim": [op.attrs["axis"]], "keep_dim": op.attrs["keepdim"], "reduce_all": False})]


def _output_padding(op: Op, graph: Graph):
    """What ``output_size`` comes to, [rows, columns]; None on a free size or other padding."""
    sides, attrs = graph.tensors[op.input("Input")].shape[2:], op.attrs
    pads = list(attrs["paddings"])
    pads = [2 * n for n in pads] if len(pads) == 2 else [pads[0] + pads[1], pads[2] + pads[3]]
    if min(sides) < 1 or attrs.get("padding_algorithm", "EXPLICIT") != "EXPLICIT":
        return None
    kernel = graph.tensors[op.input("Filter")].shape[2:]
    return [want - ((side - 1) * stride - pad + dilation * (k - 1) + 1)
            for want, side, stride, pad, dilation, k in zip(
                attrs["output_size"], sides, attrs["strides"], pads, attrs["dilations"], kernel)]


def _sized(op: Op, graph: Graph) -> List[Op]:
    """``output_padding`` for ``output_size``, which the converter drops."""
    if not op.attrs.get("output_size"):
        return []
    padding = _output_padding(op, graph)
    return [Op(op.type, op.inputs, op.outputs,
               {**op.attrs, "output_size": [], "output_padding": padding})]


def _undilated(op: Op, graph: Graph) -> List[Op]:
    """Paddle takes 1 for the dilations where it pads to the same size; onnxruntime refuses both."""
    if op.attrs.get("padding_algorithm") != "SAME" or set(op.attrs["dilations"]) == {1}:
        return []
    return [Op(op.type, op.inputs, op.outputs, {**op.attrs, "dilations": [1, 1]})]


def _four_axes(op: Op, graph: Graph) -> List[Op]:
    """A group norm on four axes: on fewer, scale and shift meet the wrong one."""
    source, out = op.input("X"), op.output("Y")
    shape = graph.tensors[source].shape
    if len(shape) >= 4:
        return []
    axes = list(range(len(shape), 4))
    wide, normed = (tensor_like(graph, source, word, (*shape, *(1 for _ in axes)))
                    for word in ("wide", "normed"))
    return [Op("unsqueeze2", {"X": [source]}, {"Out": [wide]}, {"axes": axes}),
            Op(op.type, {**op.inputs, "X": [wide]}, {**op.outputs, "Y": [normed]}, op.attrs),
            Op("squeeze2", {"X": [normed]}, {"Out": [out]}, {"axes": axes})]


def _counted(op: Op, graph: Graph) -> List[Op]:
    """A sum of booleans, which ONNX does not know, as one of integers."""
    source = graph.tensors[op.input("X")]
    if source.dtype != "bool":
        return []
    number = tensor_like(graph, source.name, "number")
    graph.tensors[number].dtype = kind = graph.tensors[op.output("Out")].dtype
    codes = {"in_dtype": _DTYPE_CODES["bool"], "out_dtype": _DTYPE_CODES[kind]}
    return [Op("cast", op.inputs, {"Out": [number]}, codes),
            Op(op.type, {"X": [number]}, op.outputs, {**op.attrs, "in_dtype": -1, "out_dtype": -1})]


def _as_many_axes(op: Op, graph: Graph) -> List[Op]:
    """A tile along axes that the tensor lacks gets them first: ONNX wants a number for each."""
    source, times = op.input("X"), op.attrs.get("repeat_times") or []
    shape = graph.tensors[source].shape
    axes = list(range(len(times) - len(shape)))
    if not axes or len(op.inputs) > 1:
        return []
    wide = tensor_like(graph, source, "wide", (*(1 for _ in axes), *shape))
    return [Op("unsqueeze2", {"X": [source]}, {"Out": [wide]}, {"axes": axes}),
            Op("tile", {"X": [wide]}, op.outputs, op.attrs)]


def _to_the_first(op: Op, graph: Graph) -> List[Op]:
    """Backwards, Paddle 2 reads an end of -1 as "to the first element"; Paddle 3, which finds
    nothing there, and ONNX as "to the last".
    """
    ends, strides = list(op.attrs.get("ends", ())), op.attrs.get("strides", ())
    to_the_first = any(end == -1 and stride < 0 for end, stride in zip(ends, strides))
    if not to_the_first or 0 in graph.tensors[op.output("Out")].shape:
        return []
    ends = [_BEYOND if end == -1 and stride < 0 else end for end, stride in zip(ends, strides)]
    return [Op(op.type, op.inputs, op.outputs, {**op.attrs, "ends": ends})]


_REWRITES: Dict[str, Callable[[Op, Graph], List[Op]]] = {
    "softplus": _softplus, "logsigmoid": _log_sigmoid, "gelu": _gelu, "channel_shuffle": _gathered,
    "p_norm": _extreme_norm, "conv2d": _undilated, "depthwise_conv2d": _undilated,
    "conv2d_transpose": _sized, "depthwise_conv2d_transpose": _sized, "group_norm": _four_axes,
    "reduce_sum": _counted, "tile": _as_many_axes, "strided_slice": _to_the_first,
    "pool2d": adaptive_average,
}
