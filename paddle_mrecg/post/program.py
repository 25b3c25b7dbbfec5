# SPDX-License-Identifier: Apache-2.0
"""The program of a quantized network, and the proof that it computes what was simulated."""
from typing import Dict, List

from ..data.amount import enough_of, values_of
from ..deploy.arrays import joined_by_name, one_by_one
from ..deploy.check.verdict import compared_tensors, verdict
from ..deploy.compare import in_front_of_choices
from ..deploy.qdq import QdqBuilder
from ..graph.graph import WEIGHT_SLOTS, Graph, Op
from .network_state import NetworkState
from .scheme import FAKE_QUANTIZE, Scheme
from .unit_runner import UnitRunner

# Fewer of large ones, but enough to tell one value at the edge of a step from another network.
VERIFIED_SAMPLES, LEAST_VERIFIED = 8, 4


def qdq_graph(graph: Graph, scheme: Scheme, state: NetworkState) -> Graph:
    """The graph with int8 weights and explicit activation quantizers.

    Args:
        graph(Graph): the folded float graph.
        scheme(Scheme): what is quantized.
        state(NetworkState): codes and encodings.

    Returns:
        Graph: a new graph; ``graph`` is unchanged.
    """
    result = graph.copy()
    result.params.update(state.biases)
    builder = QdqBuilder(result)
    for name, encoding in state.weight_encodings.items():
        builder.weight(name, state.codes[name], encoding)
    ops: List[Op] = []
    for op in scheme.quantized_view(result.ops):
        if op.type == FAKE_QUANTIZE:
            name = op.input("X")
            ops += builder.activation(name, state.activation_encodings[name])
        else:
            if scheme.is_quantized(op):
                slot = WEIGHT_SLOTS[op.type][1]
                op = Op(op.type, dict(op.inputs, **{slot: [builder.dequantized[op.input(slot)]]}),
                        op.outputs, op.attrs)
            ops.append(op)
    result.ops = builder.prologue + ops
    return result


def verified_samples(count: int, values: int) -> int:
    """How many of ``count`` samples with so many values each are compared at the end of a job."""
    return min(count, enough_of(VERIFIED_SAMPLES, values, LEAST_VERIFIED))


def verify(network, state: NetworkState, prefix: str) -> Dict:
    """Compare the simulation in dygraph with the program in Paddle Inference on a few calibration
    samples; see ``deploy.check.verdict``.

    Args:
        network(Network): graph, scheme and samples.
        state(NetworkState): what was exported.
        prefix(str): the program's path without suffix.

    Returns:
        dict: of ``verdict``.
    """
    given = network.samples
    count = verified_samples(len(next(iter(given.values()))), values_of(given))
    feed = {n: v[:count] for n, v in given.items()}
    runner = UnitRunner(network.graph, network.reached, network.scheme, network.constants)
    produced = {n for op in runner.ops for n in op.output_names}
    names = [n for n in compared_tensors(network.graph) if n in produced]
    simulate = runner.numpy(runner.run_quantized, names or ends(runner, network.graph),
                            weights=state.parameters(runner),
                            quantizers=state.quantizers(runner.activations))
    if network.one_by_one:  # as the program will be run
        return verdict(prefix, feed, joined_by_name([simulate(s) for s in one_by_one(feed)]))
    return verdict(prefix, feed, simulate(feed))


def ends(runner: UnitRunner, graph: Graph) -> List[str]:
    """The graph's outputs that the runner computes and that no choosing op stands in front of, else
    what such ops read, else the tensors that none of its ops reads.
    """
    produced = [n for op in runner.ops for n in op.output_names]
    compared = [n for n in in_front_of_choices(graph) if n in produced]
    read = {n for op in runner.ops for n in op.input_names}
    return ([n for n in compared if n in graph.outputs] or compared
            or [n for n in produced if n not in read])
