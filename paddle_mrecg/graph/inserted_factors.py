# SPDX-License-Identifier: Apache-2.0
"""Multiplications by constants that give channels one size in front of a layer, and none behind."""
import dataclasses
from typing import Dict, List

import numpy as np

from .graph import WEIGHT_SLOTS, Graph, Op, TensorInfo
from .homogeneous import channel_classes

_PRODUCT, _FACTORS = ".equalized", ".factors"  # what the new tensors are called


@dataclasses.dataclass(frozen=True)
class Insertion:
    """A multiplication by constants between an activation and some of its readers.

    Args:
        name(str): the activation, channels on axis 1.
        ops(list[Op]): convolutions that read it, with weights of their own.
        factors(array): positive, ``[C]``.
    """

    name: str
    ops: List[Op]
    factors: np.ndarray


def insert_factors(graph: Graph, insertions: List[Insertion]) -> Dict[str, str]:
    """Put multiplications into a graph, whose readers' weights give the factors back.

    Args:
        graph(Graph): the graph, changed in place.
        insertions(list[Insertion]): no two with the same activation.

    Returns:
        dict: each product's name -> the activation.
    """
    products = {_insert(graph, one): one for one in insertions}
    if products:
        classes = channel_classes(graph)
        every = np.ones(len(classes))
        for product, one in products.items():
            every[classes.of(product)] = one.factors
        classes.apply(every)
    return {product: one.name for product, one in products.items()}


def _insert(graph: Graph, one: Insertion) -> str:
    """A multiplication by ones; the name of the product."""
    product, constant = (graph.unique_name(one.name + k) for k in (_PRODUCT, _FACTORS))
    graph.tensors[product] = dataclasses.replace(graph.tensors[one.name], name=product)
    # all axes: a fusion of oneDNN forgets ``axis``
    graph.params[constant] = np.ones((1, len(one.factors), 1, 1), np.float32)
    graph.tensors[constant] = TensorInfo(constant, graph.params[constant].shape)
    for op in one.ops:
        op.inputs[WEIGHT_SLOTS[op.type][0]] = [product]
    graph.ops.insert(min(graph.ops.index(op) for op in one.ops),
                     Op("elementwise_mul", {"X": [one.name], "Y": [constant]}, {"Out": [product]},
                        {"axis": -1}))
    return product


def without_factors(graph: Graph) -> Graph:
    """A copy without the multiplications of ``insert_factors``, which computes something else: to
    measure what they cost.
    """
    graph = graph.copy()
    sources = {op.output("Out"): op.input("X") for op in graph.ops
               if op.type == "elementwise_mul" and op.output("Out").startswith(op.input("X")
                                                                               + _PRODUCT)
               and op.input("Y").startswith(op.input("X") + _FACTORS)}
    graph.ops = [op for op in graph.ops if op.type != "elementwise_mul"
                 or op.output("Out") not in sources]
    for op in graph.ops:
        op.inputs = {slot: [sources.get(n, n) for n in names] for slot, names in op.inputs.items()}
    return graph
