# SPDX-License-Identifier: Apache-2.0
"""The script that runs recipes of AutoCompression: both sides of its comparison, what it
refuses, its results file.
"""
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import paddle
import paddle_mrecg
from demo.detection import models
from demo.slim import act
from paddle_mrecg.compat import old_ir
from paddle_mrecg.graph.load import load_graph
from tests.slim_nets import SHAPE, TinyNet, images

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "slim"
PADDLE_2 = paddle.__version__ < "3"
POST = {"QuantPost": {"weight_bits": 4, "quantize_op_types": ["conv2d"]},
        "MRECG": {"preset": "fast", "num_iters": 5, "batch_size": 8}}
TRAINING = {"QuantAware": {"weight_bits": 4, "onnx_format": True, "quantize_op_types": ["conv2d"]},
            "Distillation": {"loss": "l2"},
            "TrainConfig": {"epochs": 1, "eval_iter": 100, "learning_rate": 0.01,
                            "optimizer_builder": {"optimizer": {"type": "SGD"}}},
            "BinRegularization": {"lambda": 0.5}, "SymmetricPACT": {}}


def loader(seed=0):
    """Calibration data of the recipes below."""
    return [images(8, seed + k) for k in range(2)]


def evaluate(predict):
    """A score of the recipes below."""
    return {"mean": 100.0 * float(np.abs(predict(images(4, seed=9))[0]).mean())}


def loader_by_name():
    """The same data as batches by input name."""
    return [{"x": batch} for batch in loader()]


def evaluate_twice(predict):
    """Two scores."""
    return {"mean": 1.0, "most": 100.0 * float(np.abs(predict(images(4, seed=9))[0]).max())}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A function that writes a recipe for a tiny network and returns its path; the
    working directory is a new one.
    """
    paddle.seed(0)
    net = TinyNet()
    with old_ir():
        paddle.jit.save(net, str(tmp_path / "net" / "inference"),
                        [paddle.static.InputSpec([None, *SHAPE], "float32", "x")])
    monkeypatch.chdir(tmp_path)

    def write(sections, **changed):
        settings = dict(model_dir=str(tmp_path / "net"), loader=f"{__name__}:loader",
                        evaluator=f"{__name__}:evaluate",
                        loader_args={"seed": 3}, **changed)
        path = tmp_path / "tiny_act.yaml"
        path.write_text(yaml.safe_dump({"Global": settings, **sections}, sort_keys=False),
                        encoding="utf-8")
        return str(path)

    yield write
    paddle_mrecg.unregister()
    paddle.disable_static()


def recorded(tmp_path, path, *words):
    before = (tmp_path / "net" / "inference.pdmodel").read_bytes()
    code = act.main(["--config_path", path, "--save_dir", str(tmp_path / "out"), "--results",
                     str(tmp_path / "r.json"), *words])
    assert code == 0 and (tmp_path / "net" / "inference.pdmodel").read_bytes() == before, (
        "the float model is not ours")
    return json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))


def test_mrecg_stands_next_to_nearest_rounding(recipe, tmp_path):
    content = recorded(tmp_path, recipe(POST, visualdl=False), "--seeds", "0", "1")
    assert ([run["seed"] for run in content["runs"]] == [0, 1]
            and content["command"].startswith("python demo/slim/act.py"))
    assert list(content["runs"][0]["measured"]) == ["float", "nearest", "MRECG"]
    assert content["runs"][0]["setting"] == {"recipe": "tiny_act"}
    assert (tmp_path / "out" / "seed1" / "inference.pdmodel").exists()


def test_a_score_of_several_metrics_is_several_rows(recipe, tmp_path):
    words = [f"Global.loader={__name__}:loader_by_name", "Global.loader_args=",
             f"Global.evaluator={__name__}:evaluate_twice"]
    runs = recorded(tmp_path, recipe(POST), *words)["runs"]
    assert ([run["setting"] for run in runs]
            == [{"recipe": "tiny_act", "metric": metric} for metric in ("mean", "most")])
    assert (runs[0]["measured"] == {"float": 1.0, "nearest": 1.0, "MRECG": 1.0}
            and runs[1]["measured"]["float"] > 1.0)


@pytest.mark.parametrize("name", models.YOLO)
def test_a_detector_is_exported_under_the_names_that_its_recipe_distils(name, shared_data, tmp_path,
                                                                        monkeypatch):
    shared_data("weights/yolo-fastest-1.1")
    recipes = [r for r in (act.read_recipe(str(path)) for path in CONFIGS.glob("*.yaml"))
               if r["Global"]["model_dir"] == name]
    monkeypatch.chdir(tmp_path)
    directory = act.float_model({"model_dir": name})
    assert directory == act.float_model({"model_dir": name}), "it is exported once"
    graph = load_graph(str(directory))
    producers = graph.producers()
    # Paddle 2 ends a program with a scale op by 1 for each output
    last = [producers[output] for output in graph.outputs]
    heads = [op.input("X") if op.type == "scale" else op.output("Out") for op in last]
    assert (len(heads) == len(models.heads(name))
            and all(r["Distillation"]["node"] == heads for r in recipes))


@pytest.mark.skipif(not PADDLE_2, reason="PaddleSlim's AutoCompression cannot train on Paddle 3")
def test_training_stands_next_to_paddleslims_own(recipe, tmp_path):
    measured, = [run["measured"] for run in recorded(tmp_path, recipe(TRAINING))["runs"]]
    assert list(measured) == ["float", "PaddleSlim alone", "BinRegularization + SymmetricPACT"]


@pytest.mark.skipif(PADDLE_2, reason="it runs on Paddle 2")
def test_training_on_paddle_3_is_one_sentence_before_anything_is_run(recipe, tmp_path, capsys):
    assert act.main(["--config_path", recipe(TRAINING), "--save_dir", str(tmp_path / "out")]) == 2
    assert "cannot train on Paddle 3" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("sections, words, message", [
    (dict(POST, MRECG={"topk": 1}), [], "Did you mean 'top_k'?"),
    (POST, ["MRECG.topk=1"], "Did you mean 'top_k'?"),
    (POST, ["Global.evaluater=x:y"], "Global.evaluater: unknown key. Did you mean 'evaluator'?"),
    (POST, ["Global.loader=nowhere:data"], "no module named 'nowhere'"),
    (POST, ["Global.model_dir=nowhere"], "nowhere"),
])
def test_mistakes_are_one_sentence_and_exit_code_2(sections, words, message, recipe, capsys):
    assert act.main(["--config_path", recipe(sections), *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err


def test_a_model_that_is_not_here_is_skipped_with_the_reason(recipe, monkeypatch, capsys):
    monkeypatch.setenv("MRECG_SHARED_DATA", "nowhere")
    assert act.main(["--config_path", recipe(POST), "Global.model_dir=cifar_resnet20"]) == 1
    assert "skipped: no weights/cifar10-resnet" in capsys.readouterr().out
