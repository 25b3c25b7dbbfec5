# SPDX-License-Identifier: Apache-2.0
"""Does the written program compute what was simulated?"""
import dataclasses
import os
import tempfile
from typing import Dict, Iterable, List, Tuple

import numpy as np

from ..engine.reconstruct import NetworkState
from ..engine.unit_runner import UnitRunner
from ..graph.graph import Graph
from ..graph.load import load_graph
from ..graph.writer import save_program
from .predictor import Predictor
from .rewrites import needed_ops

SAMPLES = 8


def verify(network, state: NetworkState, prefix: str) -> Dict[str, float]:
    """Compare the simulation in dygraph with the program in Paddle Inference on
    a few calibration samples.

    Where dygraph cannot reach the program's outputs (behind an NMS), the last tensors that
    it can reach are compared.

    Args:
        network(Network): graph, scheme and samples.
        state(NetworkState): what was exported.
        prefix(str): the program's path without suffix.

    Returns:
        dict: ``max_abs_diff``, ``mean_abs_diff`` and ``max_abs_output`` over the ``outputs``
            compared tensors, and ``samples``. Differences of one activation step come from values
            that lie on a rounding boundary and fall to either side by the last bit of a sum.
    """
    feed = {n: v[:SAMPLES] for n, v in network.samples.items()}
    runner = UnitRunner(network.graph, network.reached, network.scheme, network.constants)
    names = _ends(runner, network.graph)
    simulate = runner.numpy(runner.run_quantized, names, weights=state.weights(runner.weights),
                            quantizers=state.quantizers(runner.activations))
    simulated = simulate(feed)
    written = values_in_program(network.graph, names, prefix, feed)
    return dict(differences((simulated[n], written[n]) for n in names),
                samples=len(next(iter(feed.values()))),
                outputs=len(names))


def differences(pairs: Iterable[Tuple[np.ndarray, np.ndarray]]) -> Dict[str, float]:
    """``max_abs_diff``, ``mean_abs_diff`` and ``max_abs_output`` of the worst pair of
    (simulated, written) tensors.
    """
    worst = largest = mean = 0.0
    for simulated, written in pairs:
        difference = np.abs(simulated.astype(np.float64) - written)
        worst, mean = max(worst, float(difference.max())), max(mean, float(difference.mean()))
        largest = max(largest, float(np.abs(simulated).max()))
    return dict(max_abs_diff=worst, mean_abs_diff=mean, max_abs_output=largest)


def values_in_program(graph: Graph, names: List[str], prefix: str, feed) -> Dict[str, np.ndarray]:
    """What the written program computes for ``names``, its outputs or tensors inside."""
    if set(names) <= set(graph.outputs):
        return dict(zip(graph.outputs, Predictor(prefix)(feed)))
    stored = load_graph(prefix, allow_quantized=True)
    with tempfile.TemporaryDirectory() as folder:
        inside = os.path.join(folder, "inside")
        save_program(dataclasses.replace(stored, ops=needed_ops(stored, names), outputs=names),
                     inside)
        return dict(zip(names, Predictor(inside)(feed)))


def _ends(runner: UnitRunner, graph: Graph) -> List[str]:
    """The graph's outputs that the runner computes, else the tensors that none of its ops reads."""
    produced = [n for op in runner.ops for n in op.output_names]
    outputs = [n for n in graph.outputs if n in produced]
    read = {n for op in runner.ops for n in op.input_names}
    return outputs or [n for n in produced if n not in read]

