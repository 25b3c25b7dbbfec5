# SPDX-License-Identifier: Apache-2.0
"""Weights that the program computes anew for every sample are parameters after folding."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.from_layer import graph_from_layer
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo, weight_name
from tests.executor import executor_outputs
from tests.graph.sweep.entry import layer_of


def weights(graph):
    return [weight_name(op, graph) for op in graph.ops if weight_name(op, graph)]


@pytest.mark.parametrize("name, count", [
    ("net_conv1d", 3), ("net_weight_norm", 2), ("net_spectral_norm", 2), ("net_standardized", 2),
    ("net_scaled_weights", 2), ("net_float16_weights", 2)])
def test_computed_weights_are_quantizable_and_keep_their_value(name, count):
    layer, shape = layer_of(name)
    graph = graph_from_layer(layer, [paddle.static.InputSpec(shape, "float32", "x")])
    folded = fold(graph)
    assert len(weights(folded)) == count
    x = np.random.RandomState(0).uniform(-1, 1, [2, *shape[1:]]).astype("float32")
    want, got = (executor_outputs(g, {"x": x}, g.outputs)[0] for g in (graph, folded))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def one_conv(*ops, param, extra=()):
    conv = Op("conv2d", {"Input": ["x"], "Filter": ["w"]}, {"Output": ["y"]})
    tensors = {n: TensorInfo(n) for n in ("x", "y", "w", *extra)}
    return Graph([*ops, conv], tensors, {"p": param}, ["x"], ["y"])


def test_random_numbers_stay_computed():
    noise = Op("gaussian_random_like", {"X": ["p"]}, {"Out": ["w"]})
    graph = fold(one_conv(noise, param=np.ones((2, 3, 1, 1), "float32")))
    assert [op.type for op in graph.ops] == ["gaussian_random_like", "conv2d"]


def test_a_constant_that_is_an_output_stays():
    double = Op("scale", {"X": ["p"]}, {"Out": ["w"]},
                {"scale": 2.0, "bias": 0.0, "bias_after_scale": True})
    graph = one_conv(double, param=np.ones((2, 3, 1, 1), "float32"))
    assert weights(fold(graph)) == ["p"]  # under the name that people know
    np.testing.assert_array_equal(fold(graph).params["p"], np.full((2, 3, 1, 1), 2, "float32"))
    graph.outputs = ["y", "w"]
    assert len(fold(graph).ops) == 2


def test_a_layer_that_reads_parameters_alone_is_a_constant():
    """Learned queries through a linear layer: codes would be stored for what never changes."""
    product = Op("matmul_v2", {"X": ["p"], "Y": ["v"]}, {"Out": ["q"]})
    points = Op("reshape2", {"X": ["q"]}, {"Out": ["w"]}, {"shape": [1, 4, 1, 1]})
    sample = Op("grid_sampler", {"X": ["x"], "Grid": ["w"]}, {"Output": ["y"]})
    tensors = {n: TensorInfo(n) for n in ("x", "y", "w", "q", "p", "v")}
    params = {"p": np.ones((2, 3), "float32"), "v": np.full((3, 2), 2, "float32")}
    graph = fold(Graph([product, points, sample], tensors, params, ["x"], ["y"]))
    assert [op.type for op in graph.ops] == ["reshape2", "grid_sampler"]
    np.testing.assert_array_equal(graph.params["q"], np.full((2, 2), 6, "float32"))
