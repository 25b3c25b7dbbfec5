# SPDX-License-Identifier: Apache-2.0
"""Reading ProgramDesc: what is read means the same, and every unusable file
is refused in one sentence.
"""
import os
import shutil

import numpy as np
import pytest

from paddle_mrecg.compat import framework_pb2
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.params import write_combined
from paddle_mrecg.graph.program import read_program
from paddle_mrecg.graph.writer import program_desc, save_program
from tests.executor import executor_outputs


def _round_trip(prefix, feed, tmp_path, predict):
    graph = read_program(prefix + ".pdmodel", prefix + ".pdiparams")
    copy = str(tmp_path / "copy")
    save_program(graph, copy)
    expected = predict(prefix + ".pdmodel", prefix + ".pdiparams", feed)
    for got, want in zip(predict(copy + ".pdmodel", copy + ".pdiparams", feed), expected):
        np.testing.assert_array_equal(got, want)
    fetched = executor_outputs(graph, feed, graph.outputs)
    for got, want in zip(fetched, expected):
        np.testing.assert_array_equal(got, want)


def test_real_model_keeps_its_outputs(registry_model, tmp_path, predict):
    _round_trip(*registry_model("ocr_cls"), tmp_path, predict)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ocr_det", "ocr_rec", "lcnet_v2", "picodet"])
def test_large_real_models_keep_their_outputs(name, registry_model, tmp_path, predict):
    _round_trip(*registry_model(name), tmp_path, predict)


@pytest.fixture
def saved(small_graph, tmp_path):
    prefix = str(tmp_path / "m")
    save_program(small_graph, prefix)
    return prefix + ".pdmodel", prefix + ".pdiparams"


def test_one_file_per_parameter_reads_the_same(saved, small_graph, tmp_path):
    directory = tmp_path / "separate"
    directory.mkdir()
    for name, value in small_graph.params.items():
        with open(directory / name, "wb") as file:
            write_combined(file, {name: value})
    graph = read_program(saved[0], str(directory))
    assert graph.params.keys() == small_graph.params.keys()
    for name, value in small_graph.params.items():
        np.testing.assert_array_equal(graph.params[name], value)
    (directory / sorted(small_graph.params)[0]).unlink()
    with pytest.raises(ModelError, match="is missing"):
        read_program(saved[0], str(directory))


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "int64", "float64", "bool"])
def test_parameters_of_every_type_survive(dtype, tmp_path):
    value = np.arange(6).reshape(2, 3).astype(dtype)
    graph = Graph([Op("assign", {"X": ["w"]}, {"Out": ["y"]})],
                  {"w": TensorInfo("w", (2, 3), dtype), "y": TensorInfo("y", (2, 3), dtype)},
                  {"w": value}, [], ["y"])
    save_program(graph, str(tmp_path / "m"))
    read = read_program(str(tmp_path / "m.pdmodel"), str(tmp_path / "m.pdiparams"))
    assert read.params["w"].dtype == value.dtype
    np.testing.assert_array_equal(read.params["w"], value)


def _change(path, change):
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(change(data))


@pytest.mark.parametrize("which, change, message", [
    (0, lambda d: d[:len(d) // 2], "not a complete Paddle program"),
    (0, lambda d: b"", "not a complete Paddle program"),
    (0, lambda d: b"\x89PNG\r\n\x1a\n" + d, "not a complete Paddle program"),
    (0, lambda d: b'{"base_code": 1}', "PIR program"),
    (1, lambda d: d[:-3], "truncated"),
    (1, lambda d: d[:40], "truncated|not a Paddle parameter file|shape"),
    (1, lambda d: b"", "holds 0 parameters"),
    (1, lambda d: d + d[:200], "holds more than"),
    (1, lambda d: b"PK\x03\x04" + d, "not a Paddle parameter file"),
    (1, lambda d: d[:20] + b"\xff" * 20 + d[40:], "not a Paddle parameter file|shape|truncated"),
])
def test_damaged_files_are_refused_with_the_file_named(saved, which, change, message):
    _change(saved[which], change)
    with pytest.raises(ModelError, match=message) as caught:
        read_program(*saved)
    assert os.path.basename(saved[which]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameters_of_another_model_are_refused(saved, small_graph, tmp_path):
    other = small_graph.copy()
    name = sorted(other.params)[0]
    other.params[name] = np.zeros((5, 7), "float32")
    other.tensors[name] = TensorInfo(name, (5, 7))
    save_program(other, str(tmp_path / "other"))
    with pytest.raises(ModelError, match="do not belong together"):
        read_program(saved[0], str(tmp_path / "other.pdiparams"))


@pytest.mark.parametrize("which", [0, 1])
def test_missing_file_is_named(saved, which):
    os.remove(saved[which])
    with pytest.raises(ModelError, match=os.path.basename(saved[which])):
        read_program(*saved)


def _write(program, path):
    with open(path, "wb") as file:
        file.write(program.SerializeToString())


def test_quantized_program_is_refused_unless_wanted(tmp_path, small_graph):
    graph = small_graph.copy()
    graph.params["s"], graph.params["z"] = np.ones(1, "float32"), np.zeros(1, "int32")
    out = graph.outputs[0]
    graph.tensors["q"] = TensorInfo("q", graph.tensors[out].shape)
    graph.ops.append(Op("quantize_linear", {"X": [out], "Scale": ["s"], "ZeroPoint": ["z"]},
                        {"Y": ["q"]},
                        {"quant_axis": -1, "bit_length": 8}))
    save_program(graph, str(tmp_path / "m"))
    paths = str(tmp_path / "m.pdmodel"), str(tmp_path / "m.pdiparams")
    with pytest.raises(ModelError, match="already quantized"):
        read_program(*paths)
    assert read_program(*paths, allow_quantized=True).ops[-1].type == "quantize_linear"


def _with_branch(path, index):
    program = framework_pb2().ProgramDesc()
    with open(path, "rb") as file:
        program.ParseFromString(file.read())
    program.blocks.add(idx=1, parent_idx=0)
    op = program.blocks[0].ops.add(type="conditional_block")
    op.attrs.add(name="sub_block", type=8, block_idx=index)
    _write(program, path)


def test_a_branch_that_nothing_depends_on_is_left_out(saved):
    before = [op.type for op in read_program(*saved).ops]
    _with_branch(saved[0], 1)
    assert [op.type for op in read_program(*saved).ops] == before


def test_a_block_that_is_not_there_is_damage(saved):
    _with_branch(saved[0], 7)
    with pytest.raises(ModelError, match="damaged"):
        load_graph(saved[0])


def test_inputs_and_outputs_follow_the_column_order(tmp_path):
    tensors = {n: TensorInfo(n, (-1, 2)) for n in "abcd"}
    graph = Graph([Op("relu", {"X": ["a"]}, {"Out": ["c"]}),
                   Op("tanh", {"X": ["b"]}, {"Out": ["d"]})], tensors, {},
                  ["b", "a"], ["d", "c"])
    program = program_desc(graph)
    feeds = program.blocks[0].ops
    first, second = feeds[0].SerializeToString(), feeds[1].SerializeToString()
    feeds[0].ParseFromString(second)
    feeds[1].ParseFromString(first)
    _write(program, tmp_path / "m")
    read = read_program(str(tmp_path / "m"), str(tmp_path))
    assert (read.inputs, read.outputs) == (["b", "a"], ["d", "c"])


def test_in_place_writes_get_names_of_their_own(tmp_path):
    graph = Graph([Op("relu", {"X": ["x"]}, {"Out": ["y"]}),
                   Op("scale", {"X": ["y"]}, {"Out": ["y"]}, {"scale": 2.0}),
                   Op("tanh", {"X": ["y"]}, {"Out": ["z"]})],
                  {n: TensorInfo(n, (-1, 2)) for n in "xyz"}, {}, ["x"], ["z"])
    _write(program_desc(graph), tmp_path / "m")
    read = read_program(str(tmp_path / "m"), str(tmp_path))
    written = [n for op in read.ops for n in op.output_names]
    assert len(set(written)) == 3
    x = np.array([[0.1, -1.0]], "float32")
    np.testing.assert_allclose(executor_outputs(read, {"x": x}, ["z"])[0],
                               np.tanh(2 * np.maximum(x, 0)), rtol=1e-6)


def test_any_file_name_and_leftover_files_do_not_matter(saved, tmp_path):
    shutil.copy(saved[0], tmp_path / "abc.bin")
    shutil.copy(saved[1], tmp_path / "weights")
    assert len(read_program(str(tmp_path / "abc.bin"), str(tmp_path / "weights")).ops) > 20
