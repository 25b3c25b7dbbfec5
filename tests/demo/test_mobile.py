# SPDX-License-Identifier: Apache-2.0
"""The deployment table is made of result files, and a missing model is one sentence."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demo import results
from demo.mobile import cells, sizes, table
from demo.mobile.android import sample
from demo.mobile.workloads import WORKLOADS
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.graph.graph import TensorInfo
from paddle_mrecg.graph.writer import save_program
from tests.tiny import tiny_quantized, tiny_samples


def test_a_missing_model_is_one_sentence(tmp_path):
    script = Path(__file__).parents[2] / "demo" / "mobile" / "latency.py"
    for runtime in ("onnxruntime", "inference"):
        done = subprocess.run([sys.executable, "-W", "ignore", str(script), "--runtime", runtime,
                               "--float_model", "no/model", "--int8_model", "no/model"],
                              cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "does not exist: give a folder" in done.stderr.splitlines()[-1]


LITE_STUB = """
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>
namespace paddle { namespace lite_api {
enum class PowerMode { LITE_POWER_HIGH };
struct MobileConfig {
  void set_model_from_file(const std::string&) {}
  void set_threads(int) {}
  void set_power_mode(PowerMode) {}
};
struct Tensor {
  std::vector<int64_t> sizes; std::vector<float> values;
  void Resize(const std::vector<int64_t>& s) { sizes = s; values.resize(4); }
  template <class T> T* mutable_data() { return values.data(); }
  template <class T> const T* data() const { return values.data(); }
  std::vector<int64_t> shape() const { return sizes; }
};
struct PaddlePredictor {  // the output is the input
  std::shared_ptr<Tensor> only = std::make_shared<Tensor>();
  std::unique_ptr<Tensor> GetInput(int) { return std::unique_ptr<Tensor>(new Tensor(*only)); }
  void Run() {}
  std::unique_ptr<const Tensor> GetOutput(int) {
    Tensor* t = new Tensor; t->sizes = {1, 4}; t->values = {1, 2, 3, 4};
    return std::unique_ptr<const Tensor>(t);
  }
};
template <class C> std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const C&) {
  return std::make_shared<PaddlePredictor>();
}
}}
"""


def test_the_android_program_compares_with_what_is_expected(tmp_path):
    """Compiled against a stand-in of Paddle Lite whose model gives 1, 2, 3, 4."""
    compiler = shutil.which("g++")
    if not compiler:
        pytest.skip("no g++")
    (tmp_path / "paddle_api.h").write_text(LITE_STUB)
    source = Path(__file__).parents[2] / "demo" / "mobile" / "android" / "classify.cc"
    subprocess.run([compiler, "-std=c++11", "-Wall", "-Werror", "-I", str(tmp_path), str(source),
                    "-o", str(tmp_path / "classify")], check=True)
    np.zeros(4, np.float32).tofile(tmp_path / "input.bin")

    def run(expected):
        np.array(expected, np.float32).tofile(tmp_path / "expected.bin")
        return subprocess.run([str(tmp_path / "classify"), "m.nb", "1,4", "1", "2", "input.bin",
                               "expected.bin"], cwd=tmp_path, capture_output=True, text=True)

    assert run([1, 2, 3, 4.1]).returncode == 0 and "1.8" in run([1, 2, 3, 4.1]).stdout
    differs = run([1, 2, 3, 5])
    assert differs.returncode == 1 and "from the simulation 16" in differs.stdout
    assert run([1]).returncode == 2


def test_the_expected_output_is_the_simulation(tmp_path, capsys):
    save_program(tiny_quantized(), str(tmp_path / "model"))
    given = tiny_samples()["image"][:1]
    np.save(tmp_path / "one.npy", given)
    assert sample.main([str(tmp_path), "--output", str(tmp_path), "--shape", "1,3,8,8",
                        "--inputs", str(tmp_path / "one.npy")]) == 0
    stored = np.fromfile(tmp_path / "expected.bin", np.float32)
    assert np.allclose(stored, Predictor(str(tmp_path / "model"))(given)[0].ravel(), atol=1e-5)
    assert np.array_equal(np.fromfile(tmp_path / "input.bin", np.float32), given.ravel())


@pytest.mark.parametrize("words, said", [
    (["--shape", "1,3,8,8", "--inputs", "one.npy"], "holds 12 values of shape [3, 4]"),
    (["--shape", "1,3,8"], "the model takes [-1, 3, 8, 8]"),
    (["--shape", "a,b"], "invalid literal"),
    (["--shape", "1,3,8,8", "--output", "absent"], "absent is not a folder"),
    (["--shape", "1,3,8,8", "--inputs", "absent.npy"], "No such file")])
def test_what_no_sample_comes_of_is_a_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    save_program(tiny_quantized(), "model")
    np.save("one.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(SystemExit) as caught:
        sample.main([".", "--output", ".", *words])
    assert caught.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "input.bin").exists()


@pytest.mark.parametrize("kind", ["inputs", "bytes", "places"])
def test_a_model_that_classify_cannot_feed_is_a_sentence(kind, tmp_path, capsys):
    graph = tiny_quantized()
    name = graph.outputs[0] if kind == "places" else graph.inputs[0]
    info = graph.tensors[name]
    if kind == "inputs":
        graph.inputs.append("other")
        graph.tensors["other"] = TensorInfo("other", info.shape)
    else:
        graph.tensors[name] = TensorInfo(name, info.shape, "int32")
    save_program(graph, str(tmp_path / "model"))
    with pytest.raises(SystemExit):
        sample.main([str(tmp_path), "--output", str(tmp_path), "--shape", "1,3,8,8"])
    assert "classify feeds one input and compares the first output" in capsys.readouterr().err


def write(folder, target, **cell):
    sizes = dict(quantized_file=dict(bytes=500000))
    run = dict(setting=dict(model="ResNet-20", bits="W4A8", target=target), seed=0, measured={},
               sizes=sizes, **cell)
    path = cells.cell_path(folder, "ResNet-20", 4, target)
    path.write_text(json.dumps(dict(runs=[run])), encoding="utf-8")


def test_rows_show_what_was_measured_and_no_more(tmp_path):
    write(tmp_path, "Lite ARM", accepted=True, status="converted", int8_ops=20, ops=20,
          bytes=330000)
    write(tmp_path, "ONNX", accepted=False, status="failed", reason="killed")
    write(tmp_path, "Paddle Inference", accepted=True, status="agrees", max_abs_diff=0.16,
          mean_abs_diff=0.05, worst_layer=1e-6,
          metric=89.5, metric_float=92.0, int8_ops=19, latency=dict(ratio=1.13))
    assert cells.rows(results.load_cells(tmp_path)) == [
        ["ResNet-20", "W4A8", "nearest", "Paddle Inference", "agrees", "19/20", "0.16 / 0.05",
         "0.0001 %", "89.5 / 92.0", "0.50", "1.13"],
        ["ResNet-20", "W4A8", "nearest", "ONNX", "no", "–", "–", "–", "–", "–", "–"],
        ["ResNet-20", "W4A8", "nearest", "Lite ARM", "converted", "20/20", "–", "–", "–", "0.33",
         "–"]]


def test_what_failed_stands_below_the_table_with_its_reason(tmp_path):
    write(tmp_path, "ONNX", accepted=False, status="failed", reason="killed")
    write(tmp_path, "Paddle Inference", accepted=True, status="agrees", latency=None,
          latency_failure="no kernel")
    assert list(cells.failures(results.load_cells(tmp_path))) == ["ResNet-20 W4A8, ONNX: killed",
                                              "ResNet-20 W4A8, Paddle Inference: "
                                              "not timed: no kernel"]


def test_the_table_knows_every_model():
    assert cells.MODELS == tuple(WORKLOADS)


def test_filling_in_results_does_not_load_paddle(repository):
    code = "import sys, demo.update_results; sys.exit('paddle' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


def test_every_result_file_is_of_a_known_model(repository):
    for path in sorted((repository / "demo/mobile/results/cells").glob("*.json")):
        run, = json.loads(path.read_text(encoding="utf-8"))["runs"]
        setting = run["setting"]
        assert (path == cells.cell_path(path.parent, setting["model"], int(setting["bits"][1]),
                                        setting["target"]))
        assert run["accepted"] or run["reason"], path
        timed = setting["target"] in ("Paddle Inference", "ONNX") and run["accepted"]
        assert not timed or run["latency"] or run["latency_failure"], path


def quantized_folder(folder, **codes):
    sizes = dict(float_file=dict(bytes=4_000_000),
                 quantized_file=dict(bytes=1_000_000, zipped=500_000),
                 codes=dict(entropy_coded=400_000, **codes))
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(dict(sizes=sizes)), encoding="utf-8")
    return folder


def test_sizes_are_those_of_the_report_and_of_the_lite_file(tmp_path, monkeypatch):
    folder = quantized_folder(tmp_path / "model")
    monkeypatch.setattr(sizes, "_lite_file", lambda folder: bytes(2_000_000))
    found = sizes.measure(folder)
    assert found.pop(".nb zipped") < 0.01
    assert found == {"float": 4.0, "int8": 1.0, "int8 zipped": 0.5, ".nb": 2.0, "codes, ideal": 0.4}


def test_sizes_without_the_converter_have_no_lite_file(tmp_path, monkeypatch, capsys):
    from paddle_mrecg.errors import ModelError
    from paddle_mrecg.deploy.lite import env as lite_env

    def absent():
        raise ModelError("no paddle_lite_opt on PATH")
    monkeypatch.setattr(lite_env, "find_lite", absent)
    assert (list(sizes.measure(quantized_folder(tmp_path / "model")))
            == ["float", "int8", "int8 zipped", "codes, ideal"])
    assert "no paddle_lite_opt on PATH" in capsys.readouterr().out


def test_recorded_sizes_are_not_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "_lite_file", lambda folder: None)
    made = []

    def quantized(name, bits, cache):
        made.append((name, bits))
        return quantized_folder(tmp_path / f"{name}{bits}{len(made)}")
    monkeypatch.setattr(sizes, "quantized", quantized)
    arguments = ["--models", "ResNet-20", "--results", str(tmp_path / "sizes.json")]
    assert sizes.main([*arguments, "--bits", "8"]) == 0
    assert sizes.main([*arguments, "--bits", "8", "2"]) == 0
    assert made == [("ResNet-20", 8), ("ResNet-20", 2)]


@pytest.mark.parametrize("settings, expected", [(dict(num_iters=0, granularity="block"), "nearest"),
                                                (dict(num_iters=300, granularity="loss_peaks"),
                                                 "MRECG, loss_peaks")])
def test_the_table_says_how_weights_were_rounded(settings, expected):
    config = dict(MRECG=settings, QuantPost=dict(rounding="nearest"))
    assert table._rounding(dict(config=config)) == expected
    if expected == "nearest":
        config["QuantPost"]["rounding"] = "solve"
        assert table._rounding(dict(config=config)) == "solved"
