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


def test_multiply_adds_count_how_often_a_weight_is_used():
    """A small kernel over a large map outweighs a large matrix that is used once."""
    ops = [Op("conv2d", {"Input": ["x"], "Filter": ["c"]}, {"Output": ["a"]}),
           Op("conv2d_transpose", {"Input": ["a"], "Filter": ["t"]}, {"Output": ["u"]}),
           Op("rnn", {"Input": ["s"], "WeightList": ["r"]}, {"Out": ["d"]}),
           Op("matmul_v2", {"X": ["d"], "Y": ["m"]}, {"Out": ["e"]})]
    params = {"c": np.ones((2, 1, 1, 1)), "t": np.ones((2, 1, 1, 1)), "r": np.ones((4, 5)),
              "m": np.ones((10, 8))}
    shapes = {"a": (-1, 2, 10, 10), "u": (-1, 1, 20, 20), "s": (6, 1, 5), "d": (6, 1, 10),
              "e": (-1, 6, 8)}
    graph = Graph(ops, {}, params, ["x", "s"], ["e"])
    found = float_weights(graph, shapes=shapes)
    work = dict(c=200, t=200, r=120, m=480)
    for name, used in work.items():
        assert found[name].endswith(f"{used / 1000:.1%} of all multiply-adds"), found[name]
    assert "multiply-adds" not in float_weights(graph)["c"]
