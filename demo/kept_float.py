# SPDX-License-Identifier: Apache-2.0
"""How many layers must stay float until a metric is back, along some order of the layers."""
import tempfile
import types

from paddle_mrecg.analysis.job import only_layers
from paddle_mrecg.deploy.predictor import scored_program
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.post.program import qdq_graph


class Kept:
    """Programs with all layers quantized, but for some.

    Args:
        prepared(Prepared): a job; its layers stay as they are in its state.
        layers(list[dict]): ``weight``, ``activation``, ``error`` and ``drop`` of each.
        score(float): of the float network.
        evaluator(callable): -> ``{"score": points}``.
        most(float): points that may be lost.
    """

    def __init__(self, prepared, layers, score: float, evaluator, most: float):
        self.prepared, self.layers, self.float = prepared, layers, score
        self.evaluator, self.most = evaluator, most

    def drop(self, floats) -> float:
        """Points lost with these layers float."""
        graph, kept = self.prepared.network.graph, {e["weight"] for e in floats}
        rest = [types.SimpleNamespace(**e) for e in self.layers if e["weight"] not in kept]
        if not rest:
            return 0.0
        with tempfile.TemporaryDirectory() as place:
            save_program(qdq_graph(graph, *only_layers(self.prepared, self.prepared.state, rest)),
                         place + "/model")
            lost = self.float - self.evaluator(scored_program(place + "/model", graph))["score"]
        print(f"{len(kept)} layers float: {lost:.2f} points lost", flush=True)
        return lost

    def fewest(self, order):
        """By bisection: layers kept float of the front of ``order``, and what is lost then."""
        low, high, lost = -1, len(order), 0.0
        while high - low > 1:
            middle = (low + high) // 2
            found = self.drop(order[:middle])
            low, high, lost = (low, middle, found) if found <= self.most else (middle, high, lost)
        return high, lost


def worst_first(layers, key: str):
    """Layers by ``drop`` or by ``error``."""
    return sorted(layers, key=lambda e: -e[key])


def from_both_ends(layers):
    """First, last, second, last but one, ..."""
    rest, order = list(layers), []
    while rest:
        order.append(rest.pop(-(len(order) % 2)))
    return order
