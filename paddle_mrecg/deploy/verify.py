# SPDX-License-Identifier: Apache-2.0
"""What a written program computes in Paddle Inference."""
import os
from typing import Dict, List

import numpy as np

from ..graph.graph import Graph
from ..graph.load import load_graph
from ..graph.writer import save_program
from ..scratch import scratch_folder
from .predictor import Predictor


def values_in_program(graph: Graph, names: List[str], prefix: str, feed) -> Dict[str, np.ndarray]:
    """What the written program computes for ``names``, its outputs or tensors inside."""
    if set(names) <= set(graph.outputs):
        return dict(zip(graph.outputs, Predictor(prefix)(feed)))
    stored = load_graph(prefix, allow_quantized=True)
    with scratch_folder() as folder:
        inside = os.path.join(folder, "inside")
        save_program(stored.up_to(names), inside)
        return dict(zip(names, Predictor(inside)(feed)))
