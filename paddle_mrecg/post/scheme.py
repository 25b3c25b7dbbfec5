# SPDX-License-Identifier: Apache-2.0
"""What is quantized, and how finely: from settings and a graph to one table.

A *quantized op* is a convolution or matrix product with a parameter as weight.
Its weight and the activation it reads are quantized; one activation has one
quantizer, however many ops read it.
"""
import dataclasses
from typing import Dict, List, Optional, Set

import numpy as np

from ..config import Override, QuantPost
from ..config.layer_bits import first_override, is_skipped, layer_bits, unmatched_patterns
from ..errors import ConfigError, ModelError, listed
from ..graph.ends import first_and_last
from ..graph.carried import inside
from ..graph.graph import (QUANTIZED, WEIGHT_SLOTS, Graph, Op, activation_name, channel_axis,
                           ops_behind, weight_name)
from ..grids.affine import QuantSpec

SMALL_LAYER_BITS = 8
FAKE_QUANTIZE = "fake_quantize"  # pseudo-op: one activation quantizer


@dataclasses.dataclass(frozen=True)
class ActivationSpec:
    """How one activation is quantized; the sign is chosen from data."""

    bits: int
    symmetric: bool
    unsigned_allowed: bool


@dataclasses.dataclass
class Scheme:
    """The table. ``weights`` and ``activations`` map tensor names to specs.

    ``quantize_shared`` says whether readers that are not quantized themselves
    (shortcuts) read the quantized activation too. ``first`` and ``last`` are the weights of the
    layers that have no quantized layer in front of them and behind them; the bits of the first and
    the last layer are theirs.
    """

    weights: Dict[str, QuantSpec]
    activations: Dict[str, ActivationSpec]
    quantize_shared: bool
    first: List[str] = dataclasses.field(default_factory=list)
    last: List[str] = dataclasses.field(default_factory=list)

    def is_quantized(self, op: Op) -> bool:
        return op.type in WEIGHT_SLOTS and op.input(WEIGHT_SLOTS[op.type][1]) in self.weights

    def up_to_layers(self, ops: List[Op]) -> List[Op]:
        """``ops`` without those that no quantized layer needs, e.g. what chooses boxes behind."""
        return ops_behind(ops, [n for op in ops if self.is_quantized(op) for n in op.output_names])

    def quantized_view(self, ops: List[Op]) -> List[Op]:
        """``ops`` with a ``fake_quantize`` before the first reader of a quantized activation."""
        view, done = [], set()
        for op in ops:
            renamed = {}
            for name in op.input_names:
                if name not in self.activations or not self.reads_quantized(op, name):
                    continue
                if name not in done:
                    done.add(name)
                    view.append(Op(FAKE_QUANTIZE, {"X": [name]}, {"Out": [name + QUANTIZED]}))
                renamed[name] = name + QUANTIZED
            if renamed:
                op = Op(op.type,
                        {s: [renamed.get(n, n) for n in names] for s, names in op.inputs.items()},
                        op.outputs, op.attrs, op.alone)
            view.append(op)
        return view

    def reads_quantized(self, op: Op, name: str) -> bool:
        if self.is_quantized(op):
            return name == activation_name(op)
        return self.quantize_shared and op.type != "shape"


def build_scheme(graph: Graph, config: QuantPost, target: str) -> Scheme:
    """Choose bits and grids for every quantized op of a folded graph.

    Args:
        graph(Graph): the folded graph.
        config(QuantPost): bits, overrides and skip lists.
        target(str): ``paddle_lite`` or ``simulation``; decides what unset
            options mean.

    Returns:
        Scheme: the table.

    Raises:
        ConfigError: a pattern of ``skip`` or ``overrides`` matches nothing.
        ModelError: nothing is left to quantize, or it is not float32.
    """
    lite = target == "paddle_lite"
    weight_symmetric = lite if config.weight_symmetric is None else config.weight_symmetric
    act_symmetric = lite if config.activation_symmetric is None else config.activation_symmetric
    shared = (not lite) if config.quantize_shared is None else config.quantize_shared
    ops = [op for op in graph.ops
           if op.type in config.quantizable_op_type and weight_name(op, graph)]
    tied = _read_otherwise(graph, ops)
    chosen = _without_skipped([op for op in ops if weight_name(op, graph) not in tied], graph,
                              config)
    _refuse_other_types(chosen, graph)
    weights: Dict[str, QuantSpec] = {}
    activations: Dict[str, ActivationSpec] = {}
    first, last = first_and_last(graph.ops, set(chosen).__contains__)
    small = _small_layers(chosen, graph, config)
    for op in chosen:
        weight_bits, act_bits = layer_bits(_names_of_op(op, graph), config, op in first, op in last)
        name, source = weight_name(op, graph), activation_name(op)
        weight_bits = SMALL_LAYER_BITS if name in small else weight_bits
        if name in weights:  # one parameter read twice keeps the finer grid
            weight_bits = max(weight_bits, weights[name].bits)
        weights[name] = QuantSpec(weight_bits, signed=weight_symmetric, symmetric=weight_symmetric,
                                  axis=channel_axis(op) if config.weight_per_channel else None,
                                  narrow=weight_symmetric and weight_bits == 8)
        if act_bits < 32:
            if source in activations:
                act_bits = max(act_bits, activations[source].bits)
            activations[source] = ActivationSpec(act_bits, act_symmetric, unsigned_allowed=not lite)
    return Scheme(weights, activations, shared,
                  *(list(dict.fromkeys(weight_name(op, graph) for op in side))
                    for side in (first, last)))


def _small_layers(ops: List[Op], graph: Graph, config: QuantPost) -> Set[str]:
    """Weights of the smallest layers, up to ``small_layer_share`` of all; those whose bits an
    override names are counted and left out.
    """
    sizes = {weight_name(op, graph): graph.params[weight_name(op, graph)].size for op in ops}
    room, small = config.small_layer_share * sum(sizes.values()), set()
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        room -= size
        if room < 0:
            break
        small.add(name)
    return small - set(overridden_bits(graph, config, ops))


def overridden_bits(graph: Graph, config: QuantPost, ops: List[Op]) -> Dict[str, int]:
    """Weights of ``ops`` whose bits an override names, and those bits."""
    found: Dict[str, int] = {}
    for op in ops:
        override, name = override_of(op, graph, config), weight_name(op, graph)
        if override is not None and override.weight_bits:
            found[name] = max(override.weight_bits, found.get(name, 0))
    return found


def override_of(op: Op, graph: Graph, config: QuantPost) -> Optional[Override]:
    """The first override that matches a layer, None where none does."""
    return first_override(_names_of_op(op, graph), config)


def _refuse_other_types(ops: List[Op], graph: Graph):
    """Grids are found and stored for float32, and the CPU has no kernels of half precision."""
    others = {n: graph.params[n].dtype.name for n in (weight_name(op, graph) for op in ops)
              if graph.params[n].dtype != np.float32}
    if others:
        raise ModelError(f"the parameters are {' and '.join(sorted(set(others.values())))} "
                         f"({listed(list(others), 4)}), which cannot be quantized here: export the "
                         "model in float32")
    for op in ops:
        source = graph.tensors.get(activation_name(op))
        if source is not None and source.dtype in ("float64", "float16", "bfloat16"):
            raise ModelError(f"'{source.name}', which '{weight_name(op, graph)}' multiplies, is "
                             f"{source.dtype}: export the model in float32, its inputs too")


def _read_otherwise(graph: Graph, ops: List[Op]) -> Set[str]:
    """Parameters that also serve as something else than a weight of ``ops``; they stay float.

    A tied embedding would have to be stored twice, as codes and as floats.
    """
    chosen = set(ops)
    return {n for op in graph.ops for slot, names in op.inputs.items() for n in names
            if n in graph.params and not (op in chosen and slot == WEIGHT_SLOTS[op.type][1])}


def _names_of_op(op: Op, graph: Graph) -> List[str]:
    return [weight_name(op, graph)] + op.output_names


def _without_skipped(ops: List[Op], graph: Graph, config: QuantPost) -> List[Op]:
    if not ops and any(op.type in config.quantizable_op_type for op, _ in inside(graph)):
        raise ModelError("nothing to quantize: every layer of the model runs inside of a loop or a "
                         "branch that depends on data, which stays as it is: export the model "
                         "without it")
    if not ops:
        raise ModelError("nothing to quantize: the model has no op of "
                         f"{', '.join(config.quantizable_op_type)} with a parameter as weight; its "
                         f"op types are {sorted({o.type for o in graph.ops})}")
    problems = list(unmatched_patterns("QuantPost", config, [_names_of_op(op, graph) for op in ops],
                                       "weight or output"))
    if problems:
        raise ConfigError(problems)
    kept = [op for op in ops if not is_skipped(_names_of_op(op, graph), config)]
    if not kept:
        raise ModelError("nothing to quantize: QuantPost.skip excludes every quantizable op; "
                         "remove a pattern")
    return kept
