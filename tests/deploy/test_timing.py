# SPDX-License-Identifier: Apache-2.0
"""Times are medians over alternating pairs; a runtime that crashes, hangs or is absent is told."""
import ast
import subprocess
import sys

import numpy as np
import pytest

from paddle_mrecg.deploy import speed, timing
from paddle_mrecg.deploy.lite.convert import LiteModel
from paddle_mrecg.deploy.lite.env import LiteTools
from paddle_mrecg.deploy.lite.table import OpRow
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.writer import save_program

from tests.tiny import tiny_graph, tiny_quantized, tiny_samples

SAMPLE = {"image": tiny_samples()["image"][:1]}


def alternating(durations, **options):
    """``timing.compare`` of functions that take these seconds, and the order of their runs."""
    now, order = [0.0], []

    def model(name, times):
        def run():
            order.append(name)
            now[0] += next(times)
        return run

    runs = {name: model(name, iter(times)) for name, times in
            zip(("float", "int8", "plain"), durations)}
    found = timing.compare(runs, clock=lambda: now[0], **options)
    return found, order


def test_ratio_is_the_median_over_alternating_pairs():
    durations = [9.0, 2.0, 4.0, 100.0], [9.0, 1.0, 1.0, 50.0]
    found, order = alternating(durations, repeats=3, warmup=1)
    assert order == ["float", "int8"] * 4 and found["repeats"] == 3
    assert found["float"]["median"] == 4000.0 and found["int8"]["median"] == 1000.0
    assert found["ratio"] == found["ratio_low"] == 2.0 and 2.0 < found["ratio_high"] <= 4.0
    assert found["float"]["low"] == pytest.approx(2400) and found["float"]["high"] > 4000


def test_what_multiplications_add_is_seen_in_the_same_runs():
    found, order = alternating(([8.0] * 3, [2.2] * 3, [2.0] * 3), repeats=3, warmup=0)
    assert order == ["float", "int8", "plain"] * 3
    assert found["added"] == pytest.approx(0.1) and found["ratio"] == pytest.approx(8 / 2.2)
    assert found["plain"]["median"] == 2000.0


def test_both_quantized_models_run_in_int8(monkeypatch, capsys):
    made = {}

    def make(model, feed, threads, int8=False):
        made[model] = int8
        return lambda: None

    monkeypatch.setitem(timing.RUNNERS, "inference", (make, lambda model: {"x": [1, 2]}))
    words = ["--runtime", "inference", "--float_model", "f", "--int8_model", "q", "--json"]
    assert timing.main([*words, "--plain_model", "p"]) == 0
    assert made == {"f": False, "q": True, "p": True} and '"added"' in capsys.readouterr().out
    assert timing.main(words) == 0 and '"added"' not in capsys.readouterr().out


def test_slow_models_are_run_less_often():
    found, order = alternating(([1.0] * 40, [1.0] * 40), repeats=30, seconds=1e-9)
    assert found["repeats"] == timing.LEAST and len(order) == 2 * (timing.LEAST + 1)


def test_the_inputs_are_always_the_same_and_free_sizes_are_asked_for():
    feed = timing.random_feed({"x": [-1, 3]})
    assert feed["x"].shape == (1, 3) and np.array_equal(feed["x"], timing.random_feed(
        {"x": [-1, 3]})["x"])
    assert timing.random_feed({"x": [-1, -1]}, [[2, 5]])["x"].shape == (2, 5)
    with pytest.raises(SystemExit, match="give --shape"):
        timing.random_feed({"x": [-1, -1]})


def test_an_input_that_is_not_given_is_named(tmp_path):
    save_program(tiny_graph(), str(tmp_path / "model"))
    with pytest.raises(SystemExit, match=r"'image' is not among the arrays of --inputs \(x\)"):
        timing.inference_runner(str(tmp_path), {"x": SAMPLE["image"]}, 1)


def test_a_folder_and_random_numbers_that_do_not_run_are_sentences(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="is a folder: give the model file"):
        timing._existing(str(tmp_path))

    def make(model, feed, threads, int8=False):
        raise RuntimeError("ids are whole numbers")
    monkeypatch.setitem(timing.RUNNERS, "inference", (make, lambda model: {"x": [1, 2]}))
    words = ["--runtime", "inference", "--float_model", "f", "--int8_model", "q"]
    with pytest.raises(SystemExit, match=r"floats \(ids are whole numbers\): give a sample with"):
        timing.main(words)
    np.savez(tmp_path / "one.npz", x=np.ones(1))
    with pytest.raises(RuntimeError):
        timing.main([*words, "--inputs", str(tmp_path / "one.npz")])


def test_it_stands_alone():
    """Python 3.7 of Paddle Lite's environment runs the file: no package, no later syntax."""
    with open(timing.__file__, encoding="utf-8") as file:
        syntax = ast.parse(file.read(), feature_version=(3, 7))
    names = {n.name.split(".")[0] for node in ast.walk(syntax) if isinstance(node, ast.Import)
             for n in node.names}
    assert not [n for n in ast.walk(syntax) if isinstance(n, ast.ImportFrom) and n.level]
    assert names <= {"argparse", "json", "os", "sys", "time", "numpy", "onnxruntime"}


def test_both_programs_are_timed_in_paddle_inference():
    graphs = {"float": tiny_graph(), "int8": tiny_quantized()}
    found = speed.compare_speed(graphs, SAMPLE, ["inference"])["inference"]
    assert found.get("failure") is None and found["threads"] == 1
    assert found["ratio_low"] <= found["ratio"] <= found["ratio_high"]
    for name in ("float", "int8"):
        assert 0 < found[name]["low"] <= found[name]["median"] <= found[name]["high"]


def test_what_cannot_be_timed_says_why(monkeypatch):
    def refuse(graphs, folder):
        raise ModelError("an op is missing: leave it out")

    def broken(graphs, folder):
        raise RuntimeError("odd")

    def python(code):
        def write(graphs, folder):
            monkeypatch.setattr(speed.timing, "__file__", f"{folder}/run.py")
            with open(f"{folder}/run.py", "w", encoding="utf-8") as file:
                file.write(code)
            return sys.executable, {"float": "a", "int8": "b"}
        return write

    writers = dict(absent=lambda *_: ("", {}), refuse=refuse, broken=broken,
                   crash=python("import os\nos.abort()"), silent=python(""),
                   hang=python("import time\ntime.sleep(60)"),
                   error=python("raise ValueError('no kernel')"))
    for name, writer in writers.items():
        monkeypatch.setitem(speed._WRITERS, name, writer)
    found = {}
    for name in writers:
        found.update(speed.compare_speed({}, SAMPLE, [name], limit=3))
    assert {name: entry["failure"] for name, entry in found.items()} == dict(
        absent="not installed", refuse="an op is missing: leave it out",
        broken="RuntimeError: odd", crash="the process was killed by SIGABRT",
        silent="exit code 0", hang="no result after 3 s", error="ValueError: no kernel")


@pytest.mark.parametrize("int8, timed", [(1, False), (3, True)])
def test_lite_is_not_timed_where_most_layers_compute_in_float(monkeypatch, tmp_path, int8, timed):
    rows = [OpRow("conv2d", f"w{k}", k < int8, "conv2d/fp32_out", "") for k in range(4)]
    monkeypatch.setattr(speed, "find_lite", lambda: LiteTools("opt", "python3.7"))
    monkeypatch.setattr(speed, "convert",
                        lambda graph, tools, target, table=True: LiteModel(target, b"nb", rows, []))
    graphs = {"float": None, "int8": None}
    if timed:
        assert speed._lite_files(graphs, str(tmp_path))[0] == "python3.7"
        assert (tmp_path / "int8.nb").read_bytes() == b"nb"
    else:
        with pytest.raises(ModelError, match="3 of 4 layers compute in float on x86"):
            speed._lite_files(graphs, str(tmp_path))


def test_names_of_inputs_survive(tmp_path):
    path = tmp_path / "inputs.npz"
    np.savez(path, names=np.array(["x/y", "names"]), **{"0": np.zeros(2), "1": np.ones(3)})
    feed = timing.read_feed(str(path))
    assert list(feed) == ["x/y", "names"] and feed["names"].sum() == 3
    np.savez(path, x=np.ones(4))
    assert timing.read_feed(str(path))["x"].size == 4


@pytest.mark.parametrize("batch", [1, 4])
def test_the_command_line_prints_one_line(batch, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(n, 1, [batch, 4]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)],
                                   ir_version=8)
    onnx.save(model, str(tmp_path / "m.onnx"))
    command = [sys.executable, timing.__file__, "--runtime", "onnxruntime", "--float_model",
               "m.onnx", "--int8_model", "m.onnx", "--inputs", "one.npz"]
    np.savez(tmp_path / "one.npz", x=np.ones((1, 4), np.float32))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("onnxruntime: float ") and "times as fast" in done.stdout
