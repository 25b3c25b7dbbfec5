# SPDX-License-Identifier: Apache-2.0
"""Constants that the program computes anew for every sample become parameters.

Between a parameter and the layer that reads it there may be ops: the unsqueeze of a 1-D
convolution, a cast of float16, the norm of weight normalization, the power iteration of spectral
normalization. Only what a layer reads directly counts as its weight, so they are computed once.
"""
from typing import Dict, List, Set

import numpy as np
import paddle

from .graph import WEIGHT_SLOTS, Graph, Op, TensorInfo, ops_behind
from .ops import run_ops

_RANDOM = ("random", "uniform", "gaussian", "normal", "bernoulli", "randint", "randperm",
           "multinomial", "poisson", "exponential", "dropout", "dirichlet")
_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "prelu")
_ELEMENTWISE = ("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div",
                "elementwise_max", "elementwise_min", "elementwise_pow")
_GROWTH = 16  # a constant that is this much larger than all it is made of stays computed
_SMALL = 1 << 20  # elements that may always be stored


def fold_constants(graph: Graph) -> None:
    """Compute what layers, norms and element-wise ops read and what depends on no input, in place.

    Reshapes of parameters go in any case: Paddle 3 writes ``x + reshape(bias, [1, C, 1, 1])``. So
    do layers that read parameters alone, as the learned queries of a decoder pass: quantized, they
    would cost accuracy and save nothing.
    Random numbers, and constants that would make the file much larger, stay as they are.
    """
    free = _data_free(graph)
    made = {name for op in free for name in op.output_names}
    wanted = [name for op in graph.ops for name in _constants_read(op, op in free, graph)
              if name in made and name not in graph.outputs]
    if not wanted:
        return
    values = _compute(graph, free, set(wanted))
    for name in dict.fromkeys(wanted):
        if name in values and _is_worth(values[name], graph):
            graph.params[name] = values[name]
            graph.tensors[name] = TensorInfo(name, values[name].shape, values[name].dtype.name)
    graph.ops = _still_needed(graph, free)
    _name_weights(graph, free)


def _name_weights(graph: Graph, free: List[Op]) -> None:
    """A computed weight takes the name of the parameter it is made of, which people know."""
    makers = {n: op for op in free for n in op.output_names}
    read = {n for op in graph.ops for n in op.input_names} | set(graph.outputs)
    names = {}
    for op in graph.ops:
        weight = op.input(WEIGHT_SLOTS[op.type][1]) if op.type in WEIGHT_SLOTS else None
        if weight not in makers or weight not in graph.params or weight in names:
            continue
        sources = _sources(weight, makers, graph)
        source = max(sources, key=lambda n: graph.params[n].size, default="")
        if source and source not in read and source not in names.values():
            names[weight] = source
    for old, new in names.items():
        graph.params[new] = graph.params.pop(old)
        graph.tensors[new] = TensorInfo(new, graph.params[new].shape, graph.params[new].dtype.name)
    for op in graph.ops:
        for slot, inputs in op.inputs.items():
            op.inputs[slot] = [names.get(n, n) for n in inputs]


def _sources(name: str, makers: Dict[str, Op], graph: Graph) -> Set[str]:
    """The parameters, other than ``name`` itself, that a constant is computed from."""
    found, seen, todo = set(), set(), [name]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in makers:
            todo.extend(makers[current].input_names)
        elif current in graph.params:
            found.add(current)
    return found


def _data_free(graph: Graph) -> List[Op]:
    known, free = set(graph.params), []
    for op in graph.ops:
        if all(n in known for n in op.input_names) and not any(r in op.type for r in _RANDOM):
            free.append(op)
            known.update(op.output_names)
    return free


def _constants_read(op: Op, is_free: bool, graph: Graph) -> List[str]:
    """What of an op's operands is a constant by its nature."""
    if is_free:
        reshaped = (op.type == "reshape2" and set(op.inputs) == {"X"}
                    and op.input("X") in graph.params)
        return op.output_names if reshaped or op.type in WEIGHT_SLOTS else []
    if op.type in WEIGHT_SLOTS or op.type in _NORMS:
        return op.input_names
    if op.type in _ELEMENTWISE:
        return [n for n in op.input_names
                if n in graph.tensors and graph.tensors[n].dtype.startswith("float")]
    return []


def _compute(graph: Graph, free: List[Op], wanted: Set[str]) -> Dict[str, np.ndarray]:
    ops = ops_behind(free, wanted)
    needed = wanted.union(*(op.input_names for op in ops))
    values = {n: paddle.to_tensor(v) for n, v in graph.params.items() if n in needed}
    with paddle.no_grad():
        run_ops(ops, values)
    return {name: np.array(values[name].numpy()) for name in wanted}


def _is_worth(value: np.ndarray, graph: Graph) -> bool:
    stored = sum(v.size for v in graph.params.values())
    return value.size <= _SMALL or value.size <= _GROWTH * stored


def _still_needed(graph: Graph, free: List[Op]) -> List[Op]:
    """All ops but those whose constants are parameters now, or are read by nothing any more."""
    wanted, candidates = set(graph.outputs), set(free)
    kept = []
    for op in reversed(graph.ops):
        results = [n for n in op.output_names if n not in graph.params]
        if op in candidates and not wanted.intersection(results):
            continue
        wanted.update(op.input_names)
        kept.append(op)
    return kept[::-1]
