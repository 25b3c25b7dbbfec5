# SPDX-License-Identifier: Apache-2.0
"""Does the written program compute what was simulated?"""
from typing import Dict

import numpy as np

from ..reconstruct import NetworkState
from ..unit_runner import UnitRunner
from .predictor import Predictor

SAMPLES = 8


def verify(network, state: NetworkState, prefix: str) -> Dict[str, float]:
    """Compare the simulation in dygraph with the program in Paddle Inference on a few calibration samples.

    Args:
        network(Network): graph, scheme and samples.
        state(NetworkState): what was exported.
        prefix(str): the program's path without suffix.

    Returns:
        dict: ``max_abs_diff`` and ``max_abs_output`` over all float outputs that dygraph can compute, ``mean_abs_diff``,
            and ``samples``. Differences of one activation step come from values that lie on a rounding boundary and
            fall to either side by the last bit of a sum.
    """
    graph = network.graph
    feed = {n: v[:SAMPLES] for n, v in network.samples.items()}
    runner = UnitRunner(graph, network.reached, network.scheme, network.constants)
    produced = {n for op in runner.ops for n in op.output_names} | set(network.constants)
    outputs = [n for n in graph.outputs if n in produced]
    exported = dict(zip(graph.outputs, Predictor(prefix)(feed)))
    simulate = runner.numpy(runner.run_quantized, outputs, weights=state.weights(runner.weights),
                            quantizers=state.quantizers(runner.activations))
    simulated = simulate(feed) if outputs else {}
    worst = largest = mean = 0.0
    for name in outputs:
        difference = np.abs(simulated[name].astype(np.float64) - exported[name])
        worst, mean = max(worst, float(difference.max())), max(mean, float(difference.mean()))
        largest = max(largest, float(np.abs(simulated[name]).max()))
    return dict(max_abs_diff=worst, mean_abs_diff=mean, max_abs_output=largest, samples=len(next(iter(feed.values()))),
                outputs=len(outputs))
