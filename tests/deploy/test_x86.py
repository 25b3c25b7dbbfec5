# SPDX-License-Identifier: Apache-2.0
"""What Paddle Lite computes wrongly on x86 is written so that it does not, and only that."""
import numpy as np
import pytest

from paddle_mrecg.deploy.lite.x86 import (NO_KERNEL, RESTS, SATURATES, float_where_wrong, for_x86,
                                          has_rest, saturates, split_hard_swish, split_leaky_relu)
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.deploy.rewrites import stored_parameter
from paddle_mrecg.deploy.simulate import simulate
from paddle_mrecg.graph.graph import WEIGHT_SLOTS, TensorInfo
from paddle_mrecg.graph.writer import save_program

from tests.tiny import SMALL_CODES, tiny_graph, tiny_quantized, tiny_samples

FEED = {"image": tiny_samples()["image"][:4]}


def small_codes():
    """4 bits in all layers, and inputs that are multiples of 32 values."""
    return tiny_quantized(graph=tiny_graph(channels=8), **SMALL_CODES)


def weights(graph, dtype):
    """Parameters of that type that ops with weights read."""
    producers = graph.producers()
    read = [stored_parameter(op.input(WEIGHT_SLOTS[op.type][1]), graph, producers)
            for op in graph.ops if op.type in WEIGHT_SLOTS]
    return [name for name in read if graph.params[name].dtype == dtype]


def rewritten(graph):
    """The sentence of ``float_where_wrong``; what is computed stays."""
    before = simulate(graph, FEED, graph.outputs)["probability"]
    text = float_where_wrong(graph)
    assert np.abs(simulate(graph, FEED, graph.outputs)["probability"] - before).max() < 1e-6
    return text


def test_hard_swish_is_split_without_changing_a_value(tmp_path):
    graph = tiny_quantized()
    relu = next(op for op in graph.ops if op.type == "relu")
    relu.type, relu.attrs = "hard_swish", dict(threshold=6.0, scale=6.0, offset=3.0)
    save_program(graph, str(tmp_path / "a"))
    assert split_hard_swish(graph) and not [op for op in graph.ops if op.type == "hard_swish"]
    save_program(graph, str(tmp_path / "b"))
    first, second = (Predictor(str(tmp_path / k))(FEED)[0] for k in "ab")
    assert np.abs(first - second).max() < 1e-5  # one rounding more per value


@pytest.mark.parametrize("alpha, split", [(0.1, True), (0.0, True), (1.5, False)])
def test_leaky_relu_is_split_without_changing_a_value(alpha, split):
    graph = tiny_quantized()
    relu = next(op for op in graph.ops if op.type == "relu")
    relu.type, relu.attrs = "leaky_relu", dict(alpha=alpha)
    before = simulate(graph, FEED, graph.outputs)["probability"]
    assert bool(split_leaky_relu(graph)) == split
    assert bool([op for op in graph.ops if op.type == "leaky_relu"]) != split
    assert np.abs(simulate(graph, FEED, graph.outputs)["probability"] - before).max() < 1e-6


def test_matrix_products_compute_in_float_on_the_same_codes():
    graph = small_codes()
    assert rewritten(graph) == ("1 layer computes in float on the same codes, because Paddle Lite "
                                f"on x86 {NO_KERNEL} (1)")
    assert "fc.w" not in graph.params, "the codes are not stored twice"
    assert len(weights(graph, np.float32)) == 1 and len(weights(graph, np.int8)) == 4


def test_transposed_convolutions_compute_in_float_on_the_same_codes():
    """Text detectors end in two of them."""
    graph = small_codes()
    conv = next(op for op in graph.ops if "b.w" in (op.input("Filter") or ""))
    conv.type = "conv2d_transpose"
    assert f"{NO_KERNEL} (2)" in rewritten(graph)
    assert graph.params[conv.input("Filter")].dtype == np.float32


def test_convolutions_that_saturate_compute_in_float_on_the_same_codes():
    graph = small_codes()
    graph.params["c.w"][0, 0, 0, :2] = 64, -65
    text = rewritten(graph)
    assert text.startswith("2 layers") and f"{SATURATES} (1)" in text and "c.w.float" in (
        graph.params)


@pytest.mark.parametrize("codes, wrong", [
    ([[64, -64, 64]], False), ([[64, 64], [-66, 63]], True), ([[127, 1, 0]], False),
    ([[127]], False), ([[-128, 1]], True)])
def test_two_products_of_a_channel_fit_or_do_not(codes, wrong):
    assert saturates(np.array(codes, np.int8)) == wrong


@pytest.mark.parametrize("shape, rest", [
    ((-1, 8, 1, 1), True), ((-1, 32, 1, 1), False),  # squeeze-and-excitation
    ((-1, 8, 13, 13), True), ((2, 8, 26, 26), False), ((-1, 1, 26, 26), True),
    ((-1, 8, -1, -1), False), ((), False)])  # not known
def test_convolutions_of_rests_compute_in_float_on_the_same_codes(shape, rest):
    assert has_rest(shape) == rest
    graph = small_codes()
    last = next(op for op in graph.ops if op.attrs.get("strides") == [2, 2])
    producers = graph.producers()
    read = producers[producers[last.input("Input")].input("X")].input("X")
    graph.tensors[read] = TensorInfo(read, shape)
    assert (f"{RESTS} (1)" in rewritten(graph)) == rest
    assert len(weights(graph, np.float32)) == 1 + rest


@pytest.mark.parametrize("kind", ["relu", "hard_swish", "leaky_relu"])
def test_float_programs_stay_as_they_are(kind):
    graph = tiny_graph()
    for op in graph.ops[:3]:  # behind the first convolution; c.relu stands behind a sum
        if op.type == "relu":
            op.type, op.attrs = kind, {}
    assert [op.type for op in graph.ops].count(kind) and for_x86(graph) == []


def test_activations_of_layers_in_float_stay_as_they_are():
    graph = tiny_quantized(weight_bits=8)
    relus = [op for op in graph.ops if op.type == "relu"]
    for op, kind in zip(relus, ["hard_swish", "leaky_relu"]):
        op.type, op.attrs = kind, {}
    text, = for_x86(graph)
    assert "compute in float" in text and {"hard_swish", "leaky_relu"} <= {
        op.type for op in graph.ops}
