# SPDX-License-Identifier: Apache-2.0
"""Weights that stay float, each with its reason: nothing is left out in silence."""
from typing import Collection, Dict, Iterator, Mapping, Tuple

import numpy as np

from .carried import inside
from .graph import WEIGHT_SLOTS, Graph, Op, weight_name

# Ops that multiply by parameters without being quantizable, and the slots of these parameters.
_MULTIPLYING = {
    "conv3d": ("Filter",), "conv3d_transpose": ("Filter",), "deformable_conv": ("Filter",),
    "deformable_conv_v1": ("Filter",), "rnn": ("WeightList",), "cudnn_lstm": ("WeightList", "W"),
    "lookup_table_v2": ("W",), "lookup_table": ("W",), "bilinear_tensor_product": ("Weight",),
    "einsum": ("Operands",), "bmm": ("X", "Y"), "mv": ("X",), "addmm": ("X", "Y"),
    "dot": ("X", "Y"),
    **{op_type: slots[:2] for op_type, slots in WEIGHT_SLOTS.items()}}
_CARRIED_AS_IT_IS = "control flow that depends on data stays as it is, with what is behind it"


def float_weights(graph: Graph, quantized: Collection[str] = (),
                  shapes: Mapping[str, Tuple[int, ...]] = None,
                  known: Mapping[str, str] = None) -> Dict[str, str]:
    """Parameters of two or more axes that something multiplies by and that are not quantized.

    Args:
        graph(Graph): the folded graph.
        quantized(Collection[str], optional): names of the weights that are quantized. Default: ().
        shapes(dict, optional): activation -> shape for one sample, as ``Probe.shapes``. Default:
            None, the reasons say nothing about multiply-adds.
        known(dict, optional): name -> reason, where something else than the op decided.

    Returns:
        dict[str, str]: name -> reason and share of all weights' elements and of all multiply-adds,
            in execution order.
    """
    found: Dict[str, str] = {}
    sizes: Dict[str, int] = {}
    products: Dict[str, int] = {}
    for op, name, within in _multiplied(graph):
        sizes[name] = graph.params[name].size
        if not within:  # how often a loop or a branch runs is not known
            products[name] = products.get(name, 0) + _multiply_adds(op, name, graph, shapes or {})
        if name not in quantized:
            found.setdefault(name, (known or {}).get(name)
                             or (_CARRIED_AS_IT_IS if within else _why_kept(op, name, graph)))
    total, work = max(sum(sizes.values()), 1), sum(products.values())
    return {name: f"{reason}; {sizes[name] / total:.1%} of all weights"
                  + (f", {products[name] / work:.1%} of all multiply-adds"
                     if work and name in products else "")
            for name, reason in found.items()}


def _multiplied(graph: Graph) -> Iterator[Tuple[Op, str, bool]]:
    """Ops, each parameter that they multiply by, and whether that is inside of control flow."""
    for op, names, within in (*((op, {}, False) for op in graph.ops),
                              *((op, names, True) for op, names in inside(graph))):
        for slot in _MULTIPLYING.get(op.type, ()):
            for name in op.inputs.get(slot, ()):
                name = names.get(name, name)
                if name in graph.params and graph.params[name].ndim >= 2:
                    yield op, name, within


def _multiply_adds(op: Op, name: str, graph: Graph, shapes) -> int:
    """Of one sample: how often every element of the weight is used, as far as shapes tell."""
    if "lookup_table" in op.type:
        return 0
    source = (op.input("Input") or op.input("X")) if "transpose" in op.type or op.type in (
        "rnn", "cudnn_lstm") else op.output_names[0]
    shape = [abs(n) for n in shapes.get(source, ())]
    if not shape:
        return 0
    channels_last = op.attrs.get("data_format", "NCHW") in ("NHWC", "NDHWC")
    if "conv" in op.type:
        places = shape[1:-1] if channels_last else shape[2:]
    elif op.type in ("rnn", "cudnn_lstm"):
        places = shape[:1]  # steps come first
    else:
        places = shape[:-1]
    return graph.params[name].size * int(np.prod(places, dtype=np.int64))


def _why_kept(op: Op, name: str, graph: Graph) -> str:
    if op.type not in WEIGHT_SLOTS:
        return f"Paddle Lite and Paddle Inference have no int8 kernel for op '{op.type}'"
    if name != op.input(WEIGHT_SLOTS[op.type][1]):
        return f"it is the first operand of '{op.type}', where targets expect the activation"
    if weight_name(op, graph) is None:
        axes = graph.params[name].ndim
        return f"a weight of {axes} axes of '{op.type}' has no axis to scale along"
    return "QuantPost.skip or quantizable_op_type leaves it out, or another op reads it too"
