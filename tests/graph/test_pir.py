# SPDX-License-Identifier: Apache-2.0
"""PIR programs are read as what they mean, in ProgramDesc's words."""
import json
import shutil

import numpy as np
import pytest

import paddle
from paddle_mrecg.compat import old_ir, paddle_version
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.graph import Graph, weight_name
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.params import write_combined
from paddle_mrecg.graph.pir import read_pir
from paddle_mrecg.graph.writer import save_program
from tests.executor import executor_outputs

needs_pir = pytest.mark.skipif(paddle_version() < "3",
                               reason="Paddle 2 does not write PIR programs")
SPEC = [paddle.static.InputSpec([-1, 3, 64, 64], "float32", "x")]


def weighted_ops(graph: Graph):
    """Types and attributes of the ops with weights, and the weights' names, in order."""
    return [(op.type, weight_name(op, graph), op.attrs.get("strides"),
             op.attrs.get("groups")) for op in graph.ops
            if weight_name(op, graph)]


def _both_ways(layer, tmp_path):
    """The layer exported as ProgramDesc and as PIR; the exporter gives both
    the same parameter names.
    """
    with old_ir():
        paddle.jit.save(layer, str(tmp_path / "old"), input_spec=SPEC)
    paddle.jit.save(layer, str(tmp_path / "new"), input_spec=SPEC)
    return load_graph(str(tmp_path / "old")), load_graph(str(tmp_path / "new"))


def _assert_same(old, new, feed):
    assert weighted_ops(old) == weighted_ops(new)
    folded_old, folded_new = fold(old), fold(new)
    assert [op.type for op in folded_old.ops] == [op.type for op in folded_new.ops]
    assert folded_old.params.keys() == folded_new.params.keys()
    for name, value in folded_old.params.items():
        np.testing.assert_array_equal(folded_new.params[name], value)
    want, got = (executor_outputs(graph, feed, graph.outputs)[0] for graph in (old, new))
    np.testing.assert_array_equal(got, want)


@needs_pir
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_25", "squeezenet1_1"])
def test_a_layer_exported_both_ways_is_one_graph(name, tmp_path):
    paddle.seed(0)
    layer = getattr(paddle.vision.models, name)()
    layer.eval()
    feed = {"x": np.random.RandomState(0).rand(2, 3, 64, 64).astype("float32")}
    _assert_same(*_both_ways(layer, tmp_path), feed)


@needs_pir
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "mobilenet_v2", "densenet121"])
def test_large_layers_exported_both_ways_are_one_graph(name, tmp_path):
    test_a_layer_exported_both_ways_is_one_graph(name, tmp_path)


@needs_pir
def test_every_construct_keeps_its_value_in_both_predictors(small_layer, small_feed, tmp_path,
                                                            predict):
    spec = [paddle.static.InputSpec([-1, 3, 16, 16], "float32", "x")]
    prefix = str(tmp_path / "m")
    paddle.jit.save(small_layer, prefix, input_spec=spec)
    graph = read_pir(prefix + ".json", prefix + ".pdiparams")
    assert not [op for op in graph.ops if op.type[0].isdigit()]
    save_program(graph, str(tmp_path / "old"))
    expected = small_layer(paddle.to_tensor(small_feed["x"])).numpy()
    got = predict(str(tmp_path / "old.pdmodel"), str(tmp_path / "old.pdiparams"), small_feed)[0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@needs_pir
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ocr_cls", "ocr_det", "ocr_rec", "lcnet_v2", "picodet"])
def test_real_programs_translated_by_paddle_are_read_the_same(name, registry_model, tmp_path):
    """Paddle's own translator turns the ProgramDesc into PIR; reading that must
    lead back to the same graph.
    """
    prefix, feed = registry_model(name)
    with old_ir(), open(prefix + ".pdmodel", "rb") as file:
        program = paddle.static.Program.parse_from_string(file.read())
    translated = paddle.pir.translate_to_pir(program.desc)
    paddle.base.core.serialize_pir_program(translated, str(tmp_path / "m.json"), 1)
    shutil.copy(prefix + ".pdiparams", tmp_path / "m.pdiparams")
    old, new = load_graph(prefix), load_graph(str(tmp_path))
    assert weighted_ops(old) == weighted_ops(new)
    assert [op.type for op in fold(old).ops] == [op.type for op in fold(new).ops]
    for got, want in zip(executor_outputs(new, feed, new.outputs),
                         executor_outputs(old, feed, old.outputs)):
        np.testing.assert_array_equal(got, want)


# A program written by hand, so that the reader is tested on Paddle 2 as well. -----------------

def _tensor(number, shape):
    return {"%": number, "TT": {"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, shape, "NCHW", [], 0]}}


def _attr(name, kind, value):
    return {"N": name, "AT": {"#": kind, "D": value}}


def _op(name, inputs, outputs, *attrs):
    return {"#": name, "A": list(attrs), "I": [{"%": i} for i in inputs], "O": outputs, "OA": []}


def _program(*middle):
    ops = [{"#": "p", "A": [0, 1, 1, "w"], "O": _tensor(1, [2, 4])},
           _op("1.data", [], [_tensor(2, [-1, 2])], _attr("name", "0.a_str", "x")),
           *middle,
           _op("1.fetch", [9], [_tensor(99, [-1, 4])], _attr("name", "0.a_str", "y"),
               _attr("col", "0.a_i32", 0))]
    region = {"#": "r", "blocks": [{"args": [], "ops": ops}]}
    return {"base_code": {"magic": "pir", "version": 4}, "program": {"regions": [region]}}


@pytest.fixture
def by_hand(tmp_path):
    def write(program):
        (tmp_path / "m.json").write_text(json.dumps(program))
        with open(tmp_path / "m.pdiparams", "wb") as file:
            write_combined(file, {"w": np.arange(8, dtype="float32").reshape(2, 4)})
        return str(tmp_path / "m.json"), str(tmp_path / "m.pdiparams")

    return write


MATMUL = _op("1.matmul", [2, 1], [_tensor(3, [-1, 4])], _attr("transpose_x", "0.a_bool", False),
             _attr("transpose_y", "0.a_bool", False))


def test_program_written_by_hand(by_hand):
    full = _op("1.full", [], [_tensor(4, [1])], _attr("shape", "1.a_intarray", [1]),
               _attr("value", "0.a_f64", 3.0),
               _attr("dtype", "1.a_dtype", "float32"))
    scale = _op("1.scale", [3, 4], [_tensor(9, [-1, 4])], _attr("bias", "0.a_f32", 1.0),
                _attr("bias_after_scale", "0.a_bool", True))
    graph = read_pir(*by_hand(_program(MATMUL, full, scale)))
    assert [op.type for op in graph.ops] == ["matmul_v2", "scale"]
    assert graph.ops[1].attrs == {"bias": 1.0, "bias_after_scale": True, "scale": 3.0}
    assert (graph.inputs, graph.outputs) == (["x"], ["y"])
    x = np.ones((3, 2), "float32")
    want = x @ graph.params["w"] * 3 + 1
    np.testing.assert_array_equal(executor_outputs(graph, {"x": x}, ["y"])[0], want)


def test_unknown_op_keeps_its_name(by_hand):
    unknown = _op("1.warp_drive", [3, 0], [_tensor(9, [-1, 4])], _attr("n", "0.a_i32", 7))
    graph = read_pir(*by_hand(_program(MATMUL, unknown)))
    assert graph.ops[-1].type == "1.warp_drive"
    assert graph.ops[-1].attrs == {"n": 7}
    assert graph.ops[-1].input_names == graph.ops[0].output_names


@pytest.mark.parametrize("text, message", [
    ("", "not a complete JSON"),
    ('{"base_code": {"magic": "pir"', "not a complete JSON"), ("[1, 2]", "not a Paddle PIR"),
    ('{"a": 1}', "not a Paddle PIR"), (json.dumps(_program({"#": "1.relu"})), "is not in the form"),
    (json.dumps(_program(_op("1.if", [2], []))), "is not in the form"),
    (json.dumps(_program(dict(_op("1.pylayer", [2], []), regions=[{}]))), "code of its own"),
    (json.dumps(_program(_op("1.quantize_linear", [2], []))), "already quantized")])
def test_unusable_programs_are_refused(text, message, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ModelError, match=message) as caught:
        read_pir(str(tmp_path / "m.json"), str(tmp_path / "m.pdiparams"))
    assert "m.json" in str(caught.value)


def test_truncated_parameters_are_refused(by_hand):
    program, params = by_hand(_program(_op("1.matmul", [2, 1], [_tensor(9, [-1, 4])])))
    with open(params, "r+b") as file:
        file.truncate(50)
    with pytest.raises(ModelError, match="truncated"):
        read_pir(program, params)
