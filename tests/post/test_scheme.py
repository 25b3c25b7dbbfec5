# SPDX-License-Identifier: Apache-2.0
"""What is quantized, and how finely."""
import numpy as np
import pytest

from paddle_mrecg.config import Override, QuantPost
from paddle_mrecg.errors import ConfigError, ModelError
from paddle_mrecg.graph.graph import Op, TensorInfo
from paddle_mrecg.post.scheme import FAKE_QUANTIZE, build_scheme

from tests.tiny import CONV, tiny_graph


def test_first_and_last_layer_have_their_own_bits():
    scheme = build_scheme(tiny_graph(), QuantPost(weight_bits=3, activation_bits=4), "simulation")
    assert [scheme.weights[n].bits for n in ("a.w", "b.w", "c.w", "d.w", "fc.w")] == [8, 3, 3, 3, 8]
    assert {n: s.bits for n, s in scheme.activations.items()} == {"image": 8, "a.relu": 4,
                                                                  "b.relu": 4, "c.relu": 4,
                                                                   "flat": 8}


def test_every_layer_without_a_layer_behind_it_is_a_last_one():
    """A second head in the middle of the program."""
    graph = tiny_graph()
    graph.params["head.w"] = np.zeros((2, 6, 3, 3), np.float32)
    graph.tensors["boxes"] = TensorInfo("boxes", (-1, 2, 8, 8))
    where = next(k for k, op in enumerate(graph.ops) if "c.w" in op.input_names)
    graph.ops.insert(where, Op("conv2d", {"Input": ["b.relu"], "Filter": ["head.w"]},
                               {"Output": ["boxes"]}, dict(CONV)))
    graph.outputs.append("boxes")
    scheme = build_scheme(graph, QuantPost(weight_bits=3, activation_bits=4), "simulation")
    assert scheme.first == ["a.w"] and scheme.last == ["head.w", "fc.w"]
    assert {n: s.bits for n, s in scheme.weights.items()} == {
        "a.w": 8, "b.w": 3, "head.w": 8, "c.w": 3, "d.w": 3, "fc.w": 8}
    assert scheme.activations["b.relu"].bits == 8 and scheme.activations["c.relu"].bits == 4


def test_the_smallest_layers_keep_8_bits():
    def bits(share, **more):
        config = QuantPost(weight_bits=3, first_layer_weight_bits=4, last_layer_weight_bits=4,
                           small_layer_share=share, **more)
        return {n: s.bits for n, s in build_scheme(graph, config, "paddle_lite").weights.items()}
    graph = tiny_graph()
    names = sorted(("a.w", "b.w", "c.w", "d.w", "fc.w"), key=lambda n: graph.params[n].size)
    sizes = [graph.params[n].size for n in names]
    assert sizes[0] < sizes[1]
    plain, two = bits(0.0), sum(sizes[:2]) / sum(sizes)
    assert set(plain.values()) == {3, 4}
    assert bits(1.01 * two) == {**plain, names[0]: 8, names[1]: 8}
    assert bits(0.99 * two) == {**plain, names[0]: 8}  # never more than the share
    assert set(bits(1.0).values()) == {8}
    own = bits(1.0, overrides=[Override(names[0], weight_bits=2), Override("*", activation_bits=4)])
    assert own == {**dict.fromkeys(names, 8), names[0]: 2}


def test_skipped_layers_are_neither_first_nor_last():
    scheme = build_scheme(tiny_graph(), QuantPost(weight_bits=3, skip=["a.w", "fc.w"]),
                          "simulation")
    assert scheme.first == ["b.w"] and scheme.last == ["d.w"]
    assert [scheme.weights[n].bits for n in ("b.w", "c.w", "d.w")] == [8, 3, 8]


def test_target_decides_what_unset_options_mean():
    lite = build_scheme(tiny_graph(), QuantPost(), "paddle_lite")
    papers = build_scheme(tiny_graph(), QuantPost(), "simulation")
    assert lite.weights["b.w"].signed and not papers.weights["b.w"].signed
    assert lite.weights["a.w"].narrow, (
        "8-bit codes of -128 overflow in Paddle Lite's batch-norm fusion")
    assert (not lite.activations["a.relu"].unsigned_allowed
            and papers.activations["a.relu"].unsigned_allowed)
    assert not lite.quantize_shared and papers.quantize_shared


def test_overrides_win_and_the_first_match_counts():
    config = QuantPost(overrides=[Override("b.*", weight_bits=2), Override("*", weight_bits=5)])
    scheme = build_scheme(tiny_graph(), config, "paddle_lite")
    assert scheme.weights["b.w"].bits == 2 and scheme.weights["fc.w"].bits == 5


def test_skipped_ops_leave_no_trace():
    scheme = build_scheme(tiny_graph(), QuantPost(skip=["d.w"]), "paddle_lite")
    assert "d.w" not in scheme.weights and "c.relu" not in scheme.activations


def test_32_bits_leave_activations_float():
    config = QuantPost(activation_bits=32, first_layer_activation_bits=32,
                       last_layer_activation_bits=32)
    assert not build_scheme(tiny_graph(), config, "simulation").activations


def test_patterns_that_match_nothing_are_all_named():
    config = QuantPost(skip=["nothing.*"], overrides=[Override("layer9", weight_bits=2)])
    with pytest.raises(ConfigError) as error:
        build_scheme(tiny_graph(), config, "paddle_lite")
    assert "nothing.*" in str(error.value) and "layer9" in str(error.value)


@pytest.mark.parametrize("config",
                         [QuantPost(skip=["*"]),
                          QuantPost(quantizable_op_type=["conv2d_transpose"])],
                         ids=["everything skipped", "no such op"])
def test_nothing_to_quantize_is_an_error(config):
    with pytest.raises(ModelError, match="nothing to quantize"):
        build_scheme(tiny_graph(), config, "paddle_lite")


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_types_than_float32_are_refused_in_a_sentence(dtype):
    graph = tiny_graph()
    graph.params["c.w"] = graph.params["c.w"].astype(dtype)
    with pytest.raises(ModelError, match=rf"the parameters are {dtype} \(c.w\), .* in float32"):
        build_scheme(graph, QuantPost(), "paddle_lite")
    build_scheme(graph, QuantPost(skip=["c.w"]), "paddle_lite")
    graph = tiny_graph()
    graph.tensors["image"] = TensorInfo("image", (-1, 3, 8, 8), dtype)
    with pytest.raises(ModelError, match=f"'image', which 'a.w' multiplies, is {dtype}"):
        build_scheme(graph, QuantPost(), "paddle_lite")


@pytest.mark.parametrize("target, shared", [("paddle_lite", ["c.add"]), ("simulation", [])])
def test_shortcuts_read_the_float_tensor_unless_shared(target, shared):
    graph = tiny_graph()
    view = build_scheme(graph, QuantPost(), target).quantized_view(graph.ops)
    raw = [op.output_names[0] for op in view
           if "a.relu" in op.input_names and op.type != FAKE_QUANTIZE]
    assert raw == shared
    assert sum(op.type == FAKE_QUANTIZE and op.input("X") == "a.relu" for op in view) == 1, (
        "one quantizer per tensor")


def test_parameters_that_are_read_otherwise_too_stay_float():
    graph = tiny_graph()
    graph.ops.insert(0, Op("relu", {"X": ["d.w"]}, {"Out": ["positive"]}))
    scheme = build_scheme(graph, QuantPost(), "paddle_lite")
    assert set(scheme.weights) == {"a.w", "b.w", "c.w", "fc.w"}
