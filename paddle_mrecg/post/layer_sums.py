# SPDX-License-Identifier: Apache-2.0
"""What a layer's output is added to: a shortcut, whose error the layer can make up for."""
import dataclasses
from typing import List

from ..graph.graph import QUANTIZED, WEIGHT_SLOTS, Graph, Op
from ..graph.partition import Unit
from .scheme import Scheme


@dataclasses.dataclass(frozen=True)
class LayerSum:
    """Where a layer's output ends up by additions alone.

    Attributes:
        end(str): the last sum, or the output itself.
        added(list[str]): activations that it holds next to the layer's output and biases, as the
            quantized network reads them.
    """

    end: str
    added: List[str]


def layer_sum(op: Op, unit: Unit, graph: Graph, scheme: Scheme) -> LayerSum:
    """Follow a layer's output through biases and shortcuts.

    What is added has to come from in front of the unit, so that both networks have it already.

    Args:
        op(Op): the layer.
        unit(Unit): that holds it.
        graph(Graph): the folded graph.
        scheme(Scheme): tells who reads quantized activations.
    """
    end, added = op.output(WEIGHT_SLOTS[op.type][2]), []
    ops = graph.ops[unit.start:unit.stop]
    while end not in unit.outputs:
        readers = [o for o in ops if end in o.input_names]
        if len(readers) != 1 or readers[0].type != "elementwise_add":
            break
        reader = readers[0]
        other = reader.input("Y" if reader.input("X") == end else "X")
        if other in unit.inputs and graph.tensors[other].shape == graph.tensors[end].shape:
            quantized = other in scheme.activations and scheme.reads_quantized(reader, other)
            added.append(other + QUANTIZED if quantized else other)
        elif other not in graph.params:
            break
        end = reader.output("Out")
    return LayerSum(end, added)
