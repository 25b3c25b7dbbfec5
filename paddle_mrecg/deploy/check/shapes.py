# SPDX-License-Identifier: Apache-2.0
"""Tensors that a runtime gives another shape, though it computes the same numbers."""
from typing import Dict, Mapping, Tuple

import numpy as np

from ..arrays import joined_by_name, one_by_one
from ..simulate import simulate
from ...errors import listed
from ...graph.graph import Graph


def without_axes(outputs: Mapping[str, np.ndarray],
                 values: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """``outputs`` with numbers instead of [1] where ``values`` have no axes: neither Paddle Lite
    nor what paddle2onnx writes for a mean over everything knows tensors without axes.
    """
    return {n: v.reshape(()) if v.shape == (1,) and n in values and not np.ndim(values[n]) else v
            for n, v in outputs.items()}


def by_sample(graph: Graph, feed: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray],
              outputs: Mapping[str, np.ndarray]) -> Tuple[Dict[str, np.ndarray], str]:
    """What to compare a runtime's outputs with. Paddle Lite runs one sample at a time, and what is
    computed from all samples together, as the mean over a batch is, has then one value for each.

    Args:
        graph(Graph): what the runtime ran.
        feed(dict): what it was given, samples along the first axis.
        values(dict): simulated on all samples together.
        outputs(dict): of the runtime.

    Returns:
        tuple: ``values`` with those tensors simulated one sample at a time, and a sentence about
            them, empty where there are none.
    """
    other = [n for n, v in outputs.items() if n in values and v.shape != values[n].shape]
    parts = [simulate(graph, sample, other) for sample in one_by_one(feed)] if other else []
    found = joined_by_name(parts) if parts else {}
    alone = {n: v for n, v in found.items() if v.shape == outputs[n].shape}
    why = (f"one sample at a time was run, as on a device: {listed(list(alone), 4)}, computed from "
           "all samples together, was compared for each sample by itself") if alone else ""
    return {**values, **alone}, why
