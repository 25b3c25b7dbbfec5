# SPDX-License-Identifier: Apache-2.0
"""What Paddle's own Executor computes for a graph: the reference for our op table."""
from typing import Dict, List, Sequence

import numpy as np

from paddle_mrecg.graph.execute import GraphExecutor
from paddle_mrecg.graph.graph import Graph


def executor_outputs(graph: Graph, feed: Dict[str, np.ndarray],
                     fetch_names: Sequence[str]) -> List[np.ndarray]:
    """The values of ``fetch_names`` for ``feed`` (input name -> array)."""
    return GraphExecutor(graph, fetch_names).run(feed)
