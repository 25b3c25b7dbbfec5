# SPDX-License-Identifier: Apache-2.0
"""What a written program computes in Paddle Inference, and how far apart two results are."""
import dataclasses
import os
import tempfile
from typing import Dict, Iterable, List, Tuple

import numpy as np

from ..graph.graph import Graph
from ..graph.load import load_graph
from ..graph.writer import save_program
from .predictor import Predictor
from .rewrites import needed_ops

def differences(pairs: Iterable[Tuple[np.ndarray, np.ndarray]]) -> Dict[str, float]:
    """Differences of the worst (simulated, written) pair, and its largest absolute output."""
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
