# SPDX-License-Identifier: Apache-2.0
"""Cut a quantized program at its activation quantizers, so that every layer is
judged on the same input.

A whole run says little about where runtimes part: one activation that rounds the other way changes
everything behind it. In the cut program each quantized activation is an output of the layer before
and a new input of those behind, so one run compares every layer separately.
"""
import dataclasses
from typing import Dict, List, Tuple

import numpy as np

from ..compare import in_front_of_choices
from ..rewrites import stored_parameter
from ...graph.graph import WEIGHT_SLOTS, Graph, Op, TensorInfo, ops_behind
from ...graph.simplify import drop_unused

CUT_SUFFIX = "@cut"


@dataclasses.dataclass
class Layer:
    """What lies between two cuts: ``output`` is computed by ``ops`` from the cuts before."""

    output: str
    ops: List[Op]
    weights: List[str]

    @property
    def name(self) -> str:
        """Its weighted ops, else its last one."""
        return " + ".join(self.weights) or self.ops[-1].type


def cut_points(graph: Graph) -> List[str]:
    """Activations that are quantized, then the graph's outputs; where an op chooses (see
    ``deploy.compare``), what it reads instead of the outputs behind it.
    """
    quantized = [op.input("X") for op in graph.ops
                 if op.type == "quantize_linear" or op.type.startswith("fake_quantize_dequantize")]
    produced = {n for op in graph.ops for n in op.output_names}
    return list(dict.fromkeys([*(n for n in quantized if n in produced),
                               *in_front_of_choices(graph)]))


def cut(graph: Graph, points: List[str]) -> Graph:
    """The cut program: ``points`` are its outputs; those that are read again are
    inputs too, with ``CUT_SUFFIX``.
    """
    result = graph.copy()
    result.outputs = list(points)
    result.ops = ops_behind(result.ops, points)
    read = {n for op in result.ops for n in op.input_names}
    inner = [n for n in points if n in read]
    for op in result.ops:
        op.inputs = {slot: [n + CUT_SUFFIX if n in inner else n for n in names]
                     for slot, names in op.inputs.items()}
    for name in inner:
        info = result.tensors[name]
        result.tensors[name + CUT_SUFFIX] = TensorInfo(name + CUT_SUFFIX, info.shape, info.dtype)
    used = {n for op in result.ops for n in op.input_names}
    result.inputs = [n for n in result.inputs if n in used] + [n + CUT_SUFFIX for n in inner]
    drop_unused(result)
    return result


def cut_feed(cut_graph: Graph, feed: Dict[str, np.ndarray],
             values: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Inputs of the cut program from the model's inputs and simulated values."""
    return {n: values[n[:-len(CUT_SUFFIX)]] if n.endswith(CUT_SUFFIX) else feed[n]
            for n in cut_graph.inputs}


def layers(cut_graph: Graph) -> List[Layer]:
    """One per output of a cut program, in order."""
    producers = cut_graph.producers()
    return [_layer_of(name, cut_graph, producers) for name in cut_graph.outputs]


def _layer_of(name: str, graph: Graph, producers) -> Layer:
    ops: List[Op] = []
    waiting: List[Tuple[str, ...]] = [(name,)]
    while waiting:
        for tensor in waiting.pop():
            op = producers.get(tensor)
            if op is not None and op not in ops:
                ops.append(op)
                waiting.append(tuple(op.input_names))
    weights = []
    for op in graph.ops:
        if op in ops and op.type in WEIGHT_SLOTS:
            stored = stored_parameter(op.input(WEIGHT_SLOTS[op.type][1]), graph, producers)
            weights += [stored] if stored else []
    return Layer(name, [op for op in graph.ops if op in ops], weights)
