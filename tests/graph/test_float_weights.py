# SPDX-License-Identifier: Apache-2.0
"""Every weight that stays float is named, with its reason and its share."""
import numpy as np

from paddle_mrecg.graph.float_weights import float_weights
from paddle_mrecg.graph.graph import Graph, Op


def test_every_float_weight_has_a_reason_and_a_share():
    ops = [Op("conv3d", {"Input": ["x"], "Filter": ["c"]}, {"Output": ["a"]}),
           Op("rnn", {"Input": ["a"], "WeightList": ["r", "b"]}, {"Out": ["d"]}),
           Op("matmul_v2", {"X": ["d"], "Y": ["stack"]}, {"Out": ["e"]}),
           Op("matmul_v2", {"X": ["left"], "Y": ["e"]}, {"Out": ["f"]}),
           Op("matmul_v2", {"X": ["f"], "Y": ["q"]}, {"Out": ["g"]}),
           Op("relu", {"X": ["g"]}, {"Out": ["y"]})]
    shapes = {"c": (1, 1, 2, 2, 5), "r": (4, 5), "b": (5,), "stack": (2, 2, 5), "left": (4, 5),
              "q": (4, 5)}
    graph = Graph(ops, {}, {n: np.ones(s, "float32") for n, s in shapes.items()}, ["x"], ["y"])
    found = float_weights(graph, {"q"})
    assert list(found) == ["c", "r", "stack", "left"]
    assert all("20.0% of all weights" in reason for reason in found.values())
    for name, words in (("c", "conv3d"), ("r", "rnn"), ("stack", "3 axes"), ("left", "first")):
        assert words in found[name]
    assert "QuantPost.skip" in float_weights(graph)["q"]
