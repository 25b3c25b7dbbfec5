# SPDX-License-Identifier: Apache-2.0
"""Rewrites for Paddle Lite leave what is computed as it was, and make the form
that its converter reads.
"""
import numpy as np
import pytest

import paddle
from paddle_mrecg.deploy.simulate import simulate
from paddle_mrecg.errors import ModelError
from paddle_mrecg.deploy.check.runtimes import run_lite
from paddle_mrecg.deploy.lite.arm import (apply_mobile_rules, avoid_lowest_code,
                                          clip_low_bit_activations)
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.deploy.rewrites import (complete_swish, for_lite, give_constants_an_axis,
                                          part_scales_from_convolutions,
                                          scale_per_channel, scales_in_place, share_scales,
                                          store_int8, weight_dequantizers)
from paddle_mrecg.graph.carried import all_ops, rewritten
from paddle_mrecg.graph.graph import Op, TensorInfo, ops_behind
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.writer import save_program

from tests.control_flow_nets import SHAPE, SPEC, Branch
from tests.lite import lite_tools
from tests.tiny import tiny_graph, tiny_quantized, tiny_samples

FEED = {"image": tiny_samples()["image"][:4]}


def as_the_factory_writes(graph):
    """Float codes, one scale per weight, separate scale variables, as paddle.quantization."""
    producers = graph.producers()
    for op in [op for op in graph.ops if op.type == "dequantize_linear"]:
        name = op.input("X")
        if name in graph.params:
            graph.params[name] = graph.params[name].astype(np.float32)
            graph.params[op.input("Scale")] = graph.params[op.input("Scale")][:1]
            graph.params[op.input("ZeroPoint")] = np.zeros(1, np.float32)
            op.attrs["quant_axis"] = -1
        elif producers[name].type == "quantize_linear":
            for slot in ("Scale", "ZeroPoint"):
                old = op.input(slot)
                new = graph.unique_name(old + ".own")
                graph.params[new] = graph.params[old].copy()
                graph.tensors[new] = TensorInfo(new, graph.params[new].shape)
                op.inputs[slot] = [new]
    return graph


def test_programs_of_the_factory_api_get_the_form_that_opt_reads():
    graph = as_the_factory_writes(tiny_quantized(weight_per_channel=False))
    before = simulate(graph, FEED, graph.outputs)["probability"]
    assert all((share_scales(graph), store_int8(graph), scale_per_channel(graph)))
    producers = graph.producers()
    for op in weight_dequantizers(graph):
        codes = graph.params[op.input("X")]
        assert (codes.dtype == np.int8
                and graph.params[op.input("Scale")].size == codes.shape[op.attrs["quant_axis"]])
    for op in graph.ops:
        source = producers.get(op.input("X"))
        if op.type == "dequantize_linear" and source is not None:
            assert op.inputs["Scale"] == source.inputs["Scale"]
    assert np.array_equal(simulate(graph, FEED, graph.outputs)["probability"], before)


def test_own_programs_need_no_rewrite():
    graph = tiny_quantized()
    assert for_lite(graph) == []


def test_scales_that_differ_stay_apart():
    graph = as_the_factory_writes(tiny_quantized())
    op = next(op for op in graph.ops
              if op.type == "dequantize_linear" and op.input("X") not in graph.params)
    graph.params[op.input("Scale")] = graph.params[op.input("Scale")] * 2
    before = list(op.inputs["Scale"])
    share_scales(graph)
    assert op.inputs["Scale"] == before


def test_low_bit_activations_are_clipped_to_their_range():
    """PaddleSlim writes the bits as an attribute alone."""
    graph = tiny_quantized()
    for op in graph.ops:
        if op.type.endswith("quantize_linear") and op.input("X") not in graph.params:
            op.attrs["bit_length"] = 4
    before = simulate(graph, FEED, graph.outputs)["probability"]
    text = clip_low_bit_activations(graph)
    clips = [op for op in graph.ops if op.type == "clip"]
    assert text.startswith(f"{len(clips)} activations of 4 to 4 bits") and clips
    assert len(clips) == sum(op.type == "quantize_linear" for op in graph.ops)
    for clip in clips:
        quantize, = graph.consumers()[clip.output("Out")]
        step = graph.params[quantize.input("Scale")][0] / 7
        assert np.allclose([clip.attrs["min"], clip.attrs["max"]], [-8 * step, 7 * step])
    assert np.abs(simulate(graph, FEED, graph.outputs)["probability"] - before).max() < 1e-6
    assert clip_low_bit_activations(tiny_quantized()) == ""


@pytest.mark.parametrize("settings", [dict(target="simulation", weight_bits=4, activation_bits=8),
                                      dict(target="simulation", weight_symmetric=True,
                                           activation_symmetric=True)])
def test_grids_that_int8_kernels_lack_are_refused_with_the_cure(settings):
    with pytest.raises(ModelError, match="zero point or without sign.*Global.target=paddle_lite"):
        apply_mobile_rules(tiny_quantized(**settings))


@pytest.mark.parametrize("factor, expected", [(-1.0, -127), (1.0, -128)])
def test_the_lowest_code_is_avoided_only_where_a_batch_norm_negates_it(factor, expected):
    graph = tiny_quantized()
    graph.params["b.w"] = graph.params["b.w"].copy()
    graph.params["b.w"].flat[0] = -128
    conv = next(op for op in graph.ops if op.input("Filter") == "b.w.dequantized")
    channels = graph.params["b.w"].shape[0]
    for name, value in (("m", 0), ("v", 1), ("g", factor), ("h", 0)):
        graph.params[name] = np.full(channels, value, np.float32)
        graph.tensors[name] = TensorInfo(name, (channels,))
    raw = conv.output("Output") + ".raw"
    graph.tensors[raw] = TensorInfo(raw, graph.tensors[conv.output("Output")].shape)
    norm = Op("batch_norm", dict(X=[raw], Mean=["m"], Variance=["v"], Scale=["g"], Bias=["h"]),
              {"Y": conv.outputs["Output"]}, dict(is_test=True, epsilon=1e-5, data_layout="NCHW"))
    conv.outputs = {"Output": [raw]}
    graph.ops.insert(graph.ops.index(conv) + 1, norm)
    text = avoid_lowest_code(graph)
    assert graph.params["b.w"].min() == expected
    assert bool(text) == (factor < 0)


def test_ops_behind_keeps_order_and_drops_the_rest():
    graph = tiny_quantized()
    ops = ops_behind(graph.ops, ["a.relu"])
    assert ops == [op for op in graph.ops if op in ops] and ops[-1].output_names == ["a.relu"]
    assert not [op for op in ops if op.type == "matmul_v2"]


def test_fake_quantizers_write_their_scale_where_they_read_it():
    """PaddleSlim's older form; a reader that renames the output must not leave opt with a
    name that nothing stores.
    """
    graph = tiny_quantized()
    graph.params.update({"w": np.array([[1.0, -3.0], [0.5, 0.25]], np.float32),
                         "s": np.ones(1, np.float32)})
    kinds = ("fake_quantize_dequantize_moving_average_abs_max",
             "fake_channel_wise_quantize_dequantize_abs_max")
    graph.ops = [Op(kinds[0], {"X": ["image"], "InScale": ["s"]},
                    {"Out": ["a"], "OutScale": ["s.inplace"]}, {}),
                 Op(kinds[1], {"X": ["w"]}, {"Out": ["b"], "OutScale": ["w.inplace"]},
                    dict(quant_axis=0))]
    assert scales_in_place(graph).startswith("2 ")
    assert graph.ops[0].outputs["OutScale"] == ["s"]
    assert graph.params[graph.ops[1].output("OutScale")].tolist() == [3.0, 0.5]


def test_swish_says_its_beta():
    """PP-OCRv3's recognizer, which Paddle 2.6 exports without it."""
    graph = tiny_quantized()
    graph.ops.append(Op("swish", {"X": ["probability"]}, {"Out": ["swished"]}, {}))
    graph.tensors["swished"] = TensorInfo("swished", graph.tensors["probability"].shape)
    graph.outputs = ["swished"]
    before = simulate(graph, FEED, graph.outputs)["swished"]
    assert "1 swish say their beta" in for_lite(graph)
    swish, = (op for op in graph.ops if op.type == "swish")
    assert swish.attrs["beta"] == 1.0 and complete_swish(graph) == ""
    np.testing.assert_allclose(simulate(graph, FEED, graph.outputs)["swished"], before, atol=1e-6)


def test_constants_get_an_axis_in_loops_too(tmp_path):
    paddle.jit.save(Branch(), str(tmp_path / "net"), input_spec=SPEC)
    graph = load_graph(str(tmp_path / "net"))
    graph.ops = [rewritten(op, _without_axes) for op in graph.ops]
    kept = {id(op): op.attrs.get("shape") for op in all_ops(graph.ops)}
    changed = graph.copy()
    assert "constants without an axis" in give_constants_an_axis(changed)
    shapes = [op.attrs["shape"] for op in all_ops(changed.ops) if op.type == "fill_constant"]
    assert shapes and [] not in shapes
    assert kept == {id(op): op.attrs.get("shape") for op in all_ops(graph.ops)}
    assert not give_constants_an_axis(changed)
    x = np.random.RandomState(0).randn(2, *SHAPE).astype("float32")
    save_program(changed, str(tmp_path / "changed"))
    want, got = (Predictor(files, optimize=False)({"x": x})[0]
                 for files in (graph.files, str(tmp_path / "changed")))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def _without_axes(op):
    """Constants of one element as Paddle 3 writes them."""
    if op.type != "fill_constant" or op.attrs["shape"] != [1]:
        return op
    return Op(op.type, op.inputs, op.outputs, {**op.attrs, "shape": []})


@pytest.mark.parametrize("activation", ["relu", "hard_swish"])
@pytest.mark.parametrize("factor, bias, after, kinds", [
    (-1.0, 0.0, True, ["elementwise_mul"]),
    (2.0, 1.0, True, ["elementwise_mul", "elementwise_add"]),
    (2.0, 1.0, False, ["elementwise_add", "elementwise_mul"])])
def test_scales_are_not_folded_past_activations(factor, bias, after, kinds, activation):
    graph = scaled(tiny_graph(), factor, bias, after)
    next(op for op in graph.ops if op.output("Out") == "a.relu").type = activation
    before = simulate(graph, FEED, graph.outputs)["probability"]
    assert part_scales_from_convolutions(graph).startswith("1 scale ops")
    assert not [op for op in graph.ops if op.type == "scale"]
    behind = graph.ops[[op.output("Out") for op in graph.ops].index("a.relu") + 1:]
    assert [op.type for op in behind[:len(kinds)]] == kinds
    assert np.allclose(simulate(graph, FEED, graph.outputs)["probability"], before, atol=1e-6)


def test_scales_behind_int8_convolutions_stay():
    graph = scaled(tiny_quantized())
    assert part_scales_from_convolutions(graph) == ""
    assert [op for op in graph.ops if op.type == "scale"]


def test_the_real_converter_folds_no_scale_past_an_activation():
    """Paddle Lite's float kernels on x86; its passes over the graph are those for ARM."""
    lite_tools()
    found = run_lite(scaled(tiny_graph()), FEED)
    expected = simulate(scaled(tiny_graph()), FEED, ["probability"])["probability"]
    assert np.abs(found.outputs["probability"] - expected).max() < 1e-5, found.failure


def scaled(graph, factor=-1.0, bias=0.5, after=True):
    """``a.relu`` goes through a ``scale`` before anything reads it."""
    graph.tensors["a.scaled"] = TensorInfo("a.scaled", graph.tensors["a.relu"].shape)
    for op in graph.ops:
        op.inputs = {slot: ["a.scaled" if n == "a.relu" else n for n in names]
                     for slot, names in op.inputs.items()}
    at = next(k for k, op in enumerate(graph.ops) if op.output("Out") == "a.relu")
    graph.ops.insert(at + 1, Op("scale", {"X": ["a.relu"]}, {"Out": ["a.scaled"]},
                                dict(scale=factor, bias=bias, bias_after_scale=after)))
    return graph
