# SPDX-License-Identifier: Apache-2.0
"""Compare a trained model with its program where they can be compared: behind the last layers, in
front of a detector's choice.

A non-maximum suppression turns the last bit of a score into another list of boxes. Where a
program ends in such an op, the outputs of the quantized layers that no other one follows are
compared instead of its outputs.
"""
import contextlib
from typing import Dict, List

import numpy as np
import paddle

from ..graph.graph import WEIGHT_SLOTS, Graph, Op
from ..graph.ops import SUPPORTED
from ..graph.program import is_quantize_op
from .layers import quantized_layers
from ..deploy.rewrites import weight_dequantizers


def chooses(graph: Graph) -> bool:
    """The program has an op that does not map numbers to numbers: one outside
    the op table, such as an NMS.
    """
    return any(op.type not in SUPPORTED and not is_quantize_op(op.type) for op in graph.ops)


def end_outputs(frozen, graph: Graph, samples) -> Dict[str, np.ndarray]:
    """Outputs of the last quantized layers as the model computes them, by their names in its
    program.

    Args:
        frozen(paddle.nn.Layer): what ``freeze`` returned.
        graph(Graph): its program.
        samples(list): inputs as the model takes them.
    """
    tensors = _end_tensors(graph)
    seen: Dict[str, List[np.ndarray]] = {name: [] for name in tensors}
    with contextlib.ExitStack() as stack:
        for _, layer in quantized_layers(frozen):
            if layer.weight.name in tensors:
                stack.callback(
                    layer.register_forward_post_hook(
                        lambda layer, inputs, output: seen[layer.weight.name].append(output.numpy())
                    ).remove
                )
        with paddle.no_grad():
            frozen(*samples)
    return {name: output for weight in tensors
            for output, name in zip(seen[weight], tensors[weight])}


def _end_tensors(graph: Graph) -> Dict[str, List[str]]:
    """Weight -> output tensors, one per use, of the quantized layers that
    no other quantized layer follows.
    """
    weight_of = {op.output("Y"): op.input("X") for op in weight_dequantizers(graph)}
    consumers, producers, behind, ends = graph.consumers(), graph.producers(), set(), {}
    for op in reversed(graph.ops):
        last = not any(n in behind for n in op.output_names)
        weight = (weight_of.get(op.input(WEIGHT_SLOTS[op.type][1])) if op.type in WEIGHT_SLOTS
                  else None)
        if weight is not None and last:
            ends.setdefault(weight, []).insert(0, _with_bias(op, graph, consumers, producers))
        if weight is not None or not last:
            behind.update(op.input_names)
    return ends


def _with_bias(op: Op, graph: Graph, consumers, producers) -> str:
    """The output of the layer that ``op`` is the product of; some
    exporters reshape the bias first.
    """
    output = op.output_names[0]
    readers = consumers.get(output, [])
    if (len(readers) == 1 and readers[0].type == "elementwise_add"
        and _is_constant_tensor(readers[0].input("Y"), graph, producers)):
        return readers[0].output("Out")
    return output


def _is_constant_tensor(name: str, graph: Graph, producers) -> bool:
    if name in graph.params:
        return True
    op = producers.get(name)
    return (op is not None and op.type.startswith("reshape")
            and _is_constant_tensor(op.input("X"), graph, producers))
