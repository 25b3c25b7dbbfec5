# SPDX-License-Identifier: Apache-2.0
"""The ONNX form computes what the program does, with int8 weights and explicit quantizers."""
import importlib.util

import numpy as np
import pytest

from paddle_mrecg.deploy.simulate import simulate
from paddle_mrecg.errors import ModelError, MrecgError
from paddle_mrecg.deploy.to_onnx import _converters_words, onnx_model
from paddle_mrecg.graph.graph import Op

from tests.tiny import tiny_graph, tiny_quantized, tiny_samples

FEED = {"image": tiny_samples()["image"][:4]}


@pytest.fixture
def needs_onnx():
    for module in ("onnx", "paddle2onnx", "onnxruntime"):
        pytest.importorskip(module,
                            reason=f"{module} is not installed: pip install 'paddle_mrecg[onnx]'")


def outputs(model):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                        providers=["CPUExecutionProvider"]).run(None, FEED)


@pytest.mark.parametrize("settings", [{}, dict(weight_per_channel=False), dict(weight_bits=8)])
def test_it_computes_what_the_program_computes(needs_onnx, settings):
    graph = tiny_quantized(**settings)
    expected = simulate(graph, FEED, graph.outputs)["probability"]
    np.testing.assert_allclose(outputs(onnx_model(graph))[0], expected, atol=1e-5)


def test_weights_are_int8_and_activations_have_quantizers(needs_onnx):
    import onnx
    graph = tiny_quantized()
    kinds = [op.type for op in graph.ops]
    model = onnx_model(graph)
    int8 = [t for t in model.graph.initializer
            if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
    found = [node.op_type for node in model.graph.node]
    assert len(int8) == 5  # four convolutions and the classifier
    assert found.count("QuantizeLinear") == kinds.count("quantize_linear") > 0
    assert found.count("DequantizeLinear") == kinds.count("dequantize_linear")
    assert model.opset_import[0].version == 13


def test_float_programs_convert_too(needs_onnx):
    graph = tiny_graph()
    np.testing.assert_allclose(outputs(onnx_model(graph))[0],
                               simulate(graph, FEED, graph.outputs)["probability"], atol=1e-5)


def test_an_op_without_onnx_form_is_one_sentence(needs_onnx):
    graph = tiny_graph()
    graph.ops[-1] = Op("no_such_op", graph.ops[-1].inputs, graph.ops[-1].outputs, {})
    with pytest.raises(ModelError, match="no_such_op"):
        onnx_model(graph)
    graph.ops[-1] = Op("celu", graph.ops[-1].inputs, graph.ops[-1].outputs, {"alpha": 1.0})
    with pytest.raises(ModelError, match="no form for celu: express it with other ops and"):
        onnx_model(graph)


def test_whatever_else_paddle2onnx_says_comes_with_the_cure():
    said = _converters_words("[ERROR] Cannot found attribute fp32_values in op: set_value", -6)
    assert said.startswith("paddle2onnx failed (exit code -6): [ERROR] Cannot found attribute")
    assert said.endswith("or deploy the program in Paddle Inference, which runs it as it is")


def test_missing_packages_are_named_with_the_cure(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MrecgError,
        match=r"onnx and paddle2onnx not installed: run `pip install 'paddle_mrecg\[onnx\]'`",
    ):
        onnx_model(tiny_graph())
