# SPDX-License-Identifier: Apache-2.0
"""One-dimensional convolutions in a traced graph, which are two-dimensional ones of height 1."""
from typing import Iterable

from ..graph.graph import WEIGHT_SLOTS, Graph, Op, TensorInfo

_VIEWS = ("assign", "unsqueeze2")


def as_two_dimensional(graph: Graph, weights: Iterable[str]):
    """Store weights ``[out, in, k]`` as ``[out, in, 1, k]``, which the convolutions read without
    an op in between, and move what is between a convolution and the op that adds the dimension to
    its input in front of that op, so that quantizers stand right before the convolution, where
    runtimes look for them. In place.

    Args:
        graph(Graph): of a float model with markers.
        weights(iterable of str): parameters of the quantized layers.
    """
    for name in weights:
        if name in graph.params and graph.params[name].ndim == 3:
            _store_view(graph, name)


def _store_view(graph: Graph, name: str):
    consumers, chain, shape, end = graph.consumers(), [], list(graph.params[name].shape), name
    while len(consumers.get(end, ())) == 1 and consumers[end][0].type in _VIEWS:
        op = consumers[end][0]
        for axis in op.attrs.get("axes", ()) if op.type == "unsqueeze2" else ():
            shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 1)
        chain.append(op)
        end = op.output("Out")
    readers = consumers.get(end, ())
    if not chain or not readers or any(
            op.type not in WEIGHT_SLOTS or op.input(WEIGHT_SLOTS[op.type][1]) != end
            for op in readers):
        return
    graph.params[name] = graph.params[name].reshape(shape)
    graph.tensors[name] = TensorInfo(name, tuple(shape), graph.tensors[name].dtype)
    graph.ops = [op for op in graph.ops if all(op is not gone for gone in chain)]
    for op in readers:
        op.inputs[WEIGHT_SLOTS[op.type][1]] = [name]
        _swap_marker(graph, op, consumers)


def _swap_marker(graph: Graph, op: Op, consumers):
    """Marker, then unsqueeze, then convolution becomes unsqueeze, marker, convolution."""
    producers, slot = graph.producers(), WEIGHT_SLOTS[op.type][0]
    unsqueeze = producers.get(op.input(slot))
    marker = unsqueeze and producers.get(unsqueeze.input("X"))
    alone = marker is not None and all(len(consumers[n]) == 1 for n in
                                       (op.input(slot), unsqueeze.input("X")))
    if not alone or unsqueeze.type != "unsqueeze2" or marker.type != "scale":
        return
    first, second = graph.ops.index(marker), graph.ops.index(unsqueeze)
    middle, out = unsqueeze.input("X"), op.input(slot)
    unsqueeze.inputs["X"], unsqueeze.outputs["Out"] = [marker.input("X")], [middle]
    marker.inputs["X"], marker.outputs["Out"] = [middle], [out]
    graph.tensors[middle] = TensorInfo(middle, graph.tensors[out].shape,
                                       graph.tensors[out].dtype)
    graph.ops[first], graph.ops[second] = unsqueeze, marker
