# SPDX-License-Identifier: Apache-2.0
"""The bias of a layer: where a program has it, and one for layers that have none."""
from typing import Dict, List, Optional

import numpy as np

from ..graph.graph import WEIGHT_SLOTS, Graph, Op, TensorInfo, channel_axis, weight_name


def bias_of(op: Op, graph: Graph, consumers: Dict[str, List[Op]]) -> Optional[str]:
    """The parameter that is added to a layer's output alone, or None.

    Args:
        op(Op): a convolution or matrix product.
        graph(Graph): its graph.
        consumers(dict): ``graph.consumers()``.
    """
    name = op.input("Bias")
    if name is None:
        result = op.output(WEIGHT_SLOTS[op.type][2])
        readers = consumers.get(result, [])
        if len(readers) != 1 or readers[0].type != "elementwise_add" or result in graph.outputs:
            return None
        name = readers[0].input("Y")
        if readers[0].input("X") != result:
            return None
    if name not in graph.params or len(consumers.get(name, ())) != 1:
        return None
    return name if graph.params[name].size == _channels(op, graph) else None


def biases_of(graph: Graph, is_quantized) -> Dict[str, str]:
    """Weight of every quantized layer -> its bias; layers without one are left out."""
    consumers = graph.consumers()
    found = {weight_name(op, graph): bias_of(op, graph, consumers) for op in graph.ops
             if is_quantized(op)}
    return {weight: bias for weight, bias in found.items() if bias is not None}


def add_missing_biases(graph: Graph, is_quantized):
    """Give every quantized layer without a bias one of zeros, so that it can be corrected.

    Args:
        graph(Graph): the folded graph; its ops are changed in place.
        is_quantized(callable): whether an op's weight is quantized.
    """
    consumers, ops = graph.consumers(), []
    for op in graph.ops:
        ops.append(op)
        if is_quantized(op) and _may_have_bias(op, graph, consumers):
            ops.append(_zero_bias(op, graph))
    graph.ops = ops


def output_axis(op: Op) -> int:
    """The channels of a layer's output: 1 of images, the last axis of matrix products."""
    if "conv" in op.type:
        return 1 if op.attrs.get("data_format", "NCHW") in ("NCHW", "AnyLayout") else -1
    return -1


def _may_have_bias(op: Op, graph: Graph, consumers) -> bool:
    return bias_of(op, graph, consumers) is None and op.input("Bias") is None


def _zero_bias(op: Op, graph: Graph) -> Op:
    """An addition of zeros behind ``op``; the sum keeps the name that others read."""
    slot = WEIGHT_SLOTS[op.type][2]
    result = op.output(slot)
    product = graph.unique_name(f"{result}.product")
    graph.tensors[product] = TensorInfo(product, graph.tensors[result].shape,
                                        graph.tensors[result].dtype)
    bias = graph.unique_name(f"{weight_name(op, graph)}.bias")
    channels = _channels(op, graph)
    graph.params[bias] = np.zeros(channels, np.float32)
    graph.tensors[bias] = TensorInfo(bias, (channels,))
    op.outputs = dict(op.outputs, **{slot: [product]})
    return Op("elementwise_add", {"X": [product], "Y": [bias]}, {"Out": [result]},
              {"axis": output_axis(op)})


def _channels(op: Op, graph: Graph) -> int:
    """Channels of a layer's output; a transposed weight is ``[in, out / groups, h, w]``."""
    weight = graph.params[weight_name(op, graph)]
    if "transpose" in op.type:
        return weight.shape[1] * op.attrs.get("groups", 1)
    return weight.shape[channel_axis(op)]
