# SPDX-License-Identifier: Apache-2.0
"""Run a graph with Paddle's own Executor: the runner of opaque ops, and what the tests compare our
op table with.
"""
from typing import Dict, List, Sequence

import numpy as np

from ..compat import old_ir, static_mode
from .graph import Graph
from .writer import program_desc


class GraphExecutor:
    """A graph prepared once for the old-IR Executor on the CPU, with its own scope.

    Args:
        graph(Graph): the ops and parameters.
        fetch_names(Sequence[str]): tensors wanted, intermediate ones included.
    """

    def __init__(self, graph: Graph, fetch_names: Sequence[str]):
        import paddle
        self._fetch_names = list(fetch_names)
        view = Graph(graph.ops, graph.tensors, graph.params, graph.inputs, [], graph.source)
        with static_mode(), old_ir():
            self._program = paddle.static.Program.parse_from_string(_without_feed(view))
            self._executor = paddle.static.Executor(paddle.CPUPlace())
            self._scope = paddle.static.Scope()
        for name, value in graph.params.items():
            self._scope.var(name).get_tensor().set(np.ascontiguousarray(value), paddle.CPUPlace())

    def run(self, feed: Dict[str, np.ndarray]) -> List[np.ndarray]:
        """The values of ``fetch_names`` for ``feed`` (input name -> array)."""
        import paddle
        with static_mode(), old_ir(), paddle.static.scope_guard(self._scope):
            return [np.array(v) for v in self._executor.run(self._program, feed=feed,
                                                            fetch_list=self._fetch_names)]


def _without_feed(graph):
    """The program without feed and fetch ops: the Executor adds its own."""
    program = program_desc(graph)
    block = program.blocks[0]
    kept = [op for op in block.ops if op.type not in ("feed", "fetch")]
    del block.ops[:]
    block.ops.extend(kept)
    variables = [var for var in block.vars if var.name not in ("feed", "fetch")]
    del block.vars[:]
    block.vars.extend(variables)
    return program.SerializeToString()
