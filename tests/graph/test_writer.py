# SPDX-License-Identifier: Apache-2.0
"""Written programs run in Paddle Inference and the Executor, quantized ones too; a
failed write leaves nothing.
"""
import os

import numpy as np
import pytest

import paddle
from paddle_mrecg.compat import framework_pb2, old_ir, static_mode
from paddle_mrecg.deploy.apart import run_apart
from paddle_mrecg.errors import ModelError, OutputError
from paddle_mrecg.graph.execute import GraphExecutor
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.writer import program_desc, save_program
from tests.executor import executor_outputs

CONV = {"strides": [1, 1], "paddings": [1, 1], "dilations": [1, 1], "groups": 1,
        "data_format": "NCHW",
        "padding_algorithm": "EXPLICIT"}


def qdq_graph():
    """x -> quantize -> dequantize -> conv with int8 weights; weight scale per output channel."""
    random = np.random.RandomState(0)
    params = {"w": random.randint(-7, 8, (4, 3, 3, 3)).astype("int8"),
              "ws": np.array([1, 2, 3, 4], "float32"),
              "wz": np.zeros(4, "int32"), "xs": np.array([2.0], "float32"),
              "xz": np.zeros(1, "int32")}
    shapes = {"x": (-1, 3, 8, 8), "xq": (-1, 3, 8, 8), "xd": (-1, 3, 8, 8), "wd": (4, 3, 3, 3),
              "y": (-1, 4, 8, 8)}
    per_tensor, per_channel = ({"quant_axis": -1, "bit_length": 8},
                               {"quant_axis": 0, "bit_length": 8})
    ops = [Op("dequantize_linear", {"X": ["w"], "Scale": ["ws"], "ZeroPoint": ["wz"]},
              {"Y": ["wd"]}, per_channel),
           Op("quantize_linear", {"X": ["x"], "Scale": ["xs"], "ZeroPoint": ["xz"]}, {"Y": ["xq"]},
              per_tensor),
           Op("dequantize_linear", {"X": ["xq"], "Scale": ["xs"], "ZeroPoint": ["xz"]},
              {"Y": ["xd"]}, per_tensor),
           Op("conv2d", {"Input": ["xd"], "Filter": ["wd"]}, {"Output": ["y"]}, CONV)]
    return Graph(ops, {n: TensorInfo(n, s) for n, s in shapes.items()}, params, ["x"], ["y"])


@pytest.mark.parametrize("optimize", [False, True])
def test_quantized_program_computes_what_its_codes_say(optimize, tmp_path, predict):
    graph = qdq_graph()
    save_program(graph, str(tmp_path / "q"))
    x = np.random.RandomState(1).uniform(-3, 3, (2, 3, 8, 8)).astype("float32")
    codes = np.clip(np.round(x / (2.0 / 127)), -128, 127)
    weight = graph.params["w"] * (graph.params["ws"] / 127).reshape(-1, 1, 1, 1)
    want = paddle.nn.functional.conv2d(paddle.to_tensor(codes.astype("float32")
                                                        * np.float32(2.0 / 127)),
                                       paddle.to_tensor(weight.astype("float32")),
                                       padding=1).numpy()
    got = predict(str(tmp_path / "q.pdmodel"), str(tmp_path / "q.pdiparams"), {"x": x}, optimize)[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(executor_outputs(graph, {"x": x}, ["y"])[0], want, rtol=1e-4,
                               atol=1e-5)
    assert os.path.getsize(tmp_path / "q.pdiparams") < 4 * graph.params["w"].size + 300


def test_static_loader_of_paddle_reads_the_program(small_graph, small_feed, tmp_path):
    save_program(small_graph, str(tmp_path / "m"))
    want = executor_outputs(small_graph, small_feed, small_graph.outputs)[0]
    with old_ir():
        paddle.enable_static()
        try:
            with paddle.static.scope_guard(paddle.static.Scope()):
                executor = paddle.static.Executor(paddle.CPUPlace())
                program, feeds, fetches = paddle.static.load_inference_model(str(tmp_path / "m"),
                                                                             executor)
                assert feeds == small_graph.inputs
                got = executor.run(program, feed=small_feed, fetch_list=fetches)[0]
        finally:
            paddle.disable_static()
    np.testing.assert_array_equal(got, want)


def test_same_graph_gives_same_bytes(small_graph, tmp_path):
    save_program(small_graph, str(tmp_path / "a"))
    save_program(small_graph, str(tmp_path / "b"))
    for suffix in (".pdmodel", ".pdiparams"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def _one_op(op_type, attrs):
    tensors = {n: TensorInfo(n, (-1, 4)) for n in "xy"}
    return Graph([Op(op_type, {"X": ["x"]}, {"Out": ["y"]}, attrs)], tensors, {}, ["x"], ["y"])


def _attrs_written(graph, path):
    save_program(graph, str(path / "m"))
    program = framework_pb2().ProgramDesc()
    program.ParseFromString((path / "m.pdmodel").read_bytes())
    return {a.name: a for op in program.blocks[0].ops for a in op.attrs}


def test_relu6_gets_the_threshold_that_paddle_lite_needs(tmp_path):
    assert _attrs_written(_one_op("relu6", {}), tmp_path)["threshold"].f == 6.0


def test_attributes_have_the_types_that_paddle_registers(tmp_path):
    written = _attrs_written(_one_op("scale",
                                     {"scale": 2, "bias": np.float32(1), "bias_after_scale": 1}),
                             tmp_path)
    assert (written["scale"].type, written["scale"].f) == (1, 2.0)
    assert (written["bias"].type, written["bias"].f) == (1, 1.0)
    assert (written["bias_after_scale"].type, written["bias_after_scale"].b) == (6, True)


def test_op_without_program_form_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ModelError, match="1.warp_drive"):
        save_program(_one_op("1.warp_drive", {}), str(tmp_path / "m"))
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_nothing(small_graph, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("paddle_mrecg.graph.writer.write_combined", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        save_program(small_graph, str(tmp_path / "m"))
    assert not list(tmp_path.iterdir())


def test_output_below_a_file_is_refused(small_graph, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="save_dir"):
        save_program(small_graph, str(tmp_path / "file" / "m"))


def test_executor_leaves_no_traces(small_graph, small_feed):
    before = set(paddle.static.global_scope().local_var_names()) if hasattr(
        paddle.static.global_scope(), "local_var_names") else set()
    runner = GraphExecutor(small_graph, [small_graph.ops[0].output_names[0], *small_graph.outputs])
    first, again = runner.run(small_feed), runner.run(small_feed)
    assert paddle.in_dynamic_mode()
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape[0] == 3
    if before:
        assert set(paddle.static.global_scope().local_var_names()) == before


def test_attributes_that_a_program_of_paddle_3_leaves_out_are_written_with_their_defaults():
    """Paddle Lite's converter stops at a fill_constant without
    force_cpu, as PIR programs have it.
    """
    tensors = {"y": TensorInfo("y", (1,), "int64")}
    op = Op("fill_constant", {}, {"Out": ["y"]}, {"shape": [1], "value": 3.0, "dtype": 3})
    desc = program_desc(Graph([op], tensors, {}, [], ["y"])).blocks[0].ops[0]
    attrs = {a.name: a for a in desc.attrs}
    assert not attrs["force_cpu"].b and attrs["dtype"].i == 3 and attrs["op_role"].i == 0
    assert len(attrs) == len(desc.attrs)


def test_ops_carry_what_passes_of_paddle_and_paddleslim_ask_for():
    with static_mode(), old_ir():
        program = paddle.static.Program.parse_from_string(
            program_desc(qdq_graph()).SerializeToString())
    for op in program.global_block().ops:
        assert op.attr("op_role") == 0 and op.attr("op_namescope") == "/" and op.attr(
            "op_device") == "" and list(op.attr("op_role_var")) == [], op.type
        assert op.has_attr("op_callstack") and op.attr("with_quant_attr") is False


def test_a_parameter_in_front_of_a_concat_is_read_through_a_copy(tmp_path):
    """Paddle Inference dies of SIGSEGV on the parameter itself: a class token of a converter."""
    tensors = {n: TensorInfo(n, shape) for n, shape in
               (("x", (-1, 3, 4)), ("token", (1, 1, 4)), ("y", (-1, 4, 4)))}
    graph = Graph([Op("concat", {"X": ["token", "x"]}, {"Out": ["y"]}, {"axis": 1})], tensors,
                  {"token": np.full((1, 1, 4), 2, "float32")}, ["x"], ["y"])
    prefix = str(tmp_path / "model")
    save_program(graph, prefix)
    ran = run_apart(prefix + ".pdmodel", prefix + ".pdiparams",
                    {"x": np.ones((1, 3, 4), "float32")})
    assert not ran.failure and ran.outputs["y"][0, :, 0].tolist() == [2, 1, 1, 1]
    assert [op.type for op in graph.ops] == ["concat"]  # the graph itself stays
