# SPDX-License-Identifier: Apache-2.0
"""The whole post-training job, from a model and samples to a directory."""
import csv
import json
import os

import numpy as np
import paddle
import pytest

from paddle_mrecg.config import MRECG, PRESETS, Config, Global, QuantPost
from paddle_mrecg.config.io import load_config, save_config
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.post import job as job_module
from paddle_mrecg.post.job import plan_post, quant_post_mrecg
from paddle_mrecg.report.report import Report
from paddle_mrecg.report.result_dir import RESULT_NAMES

from tests.jobs import BITS, TRAINING, batches, content, model_dir, reference, settings  # noqa: F401
from tests.tiny import tiny_graph, tiny_samples


@pytest.fixture(scope="module")
def finished(model_dir, tmp_path_factory):
    """(result, folder) of one uninterrupted run with every file."""
    folder = tmp_path_factory.mktemp("result") / "out"
    feed = {"image": tiny_samples(64, seed=5)["image"]}
    labels = Predictor(os.path.join(model_dir, "inference"))(feed)[0].argmax(1)

    def agreement(predict):
        return {"agreement": float(np.mean(predict(feed)[0].argmax(1) == labels))}
    result = quant_post_mrecg(model_dir, batches(), settings({"Global": {"visualdl": True}}),
                              str(folder), agreement)
    return result, folder


def test_every_promised_file_is_there_and_nothing_else(finished):
    _, folder = finished
    assert sorted(os.listdir(folder)) == sorted(RESULT_NAMES)
    assert os.listdir(folder / "visualdl") and os.listdir(folder.parent) == ["out"], (
        "no staging directory stays")


def test_the_page_shows_this_result(finished):
    result, folder = finished
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "agreement" in text and "fc.w" in text and folder.name in text
    assert [layer.name for layer in result.report.layers] == ["a.w", "b.w", "c.w", "d.w", "fc.w"]
    assert all(len(unit.curve) > 1 for unit in result.report.units) and result.report.peak_memory


def test_a_job_ends_well_without_page_and_layers(model_dir, tmp_path, monkeypatch):
    """What only explains the result is a warning when it fails."""
    monkeypatch.setattr("paddle_mrecg.post.write.layer_errors", lambda *_: 1 / 0)
    monkeypatch.setattr("paddle_mrecg.post.write.page", lambda *_: 1 / 0)
    result = quant_post_mrecg(model_dir, batches(), settings(preset="none"), str(tmp_path / "out"))
    assert result.report.layers == [] and os.path.exists(result.prefix + ".pdmodel")
    assert not os.path.exists(tmp_path / "out" / "report.html")


def test_report_says_what_was_done(finished):
    result, folder = finished
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "complete" and report["seed"] == 0 and not result.interrupted
    assert (set(report["metrics"])
            == {"float", "nearest", "nearest_bias", "solved", "quantized"})
    assert report["metrics"]["float"]["agreement"] == 1.0
    assert report["metrics"]["nearest"]["agreement"] <= 1.0
    assert report["verification"]["max_abs_diff"] <= 1e-6 * report["verification"]["max_abs_output"]
    assert ({n: w["bits"] for n, w in report["weights"].items()}
            == {"a.w": 3, "b.w": 3, "c.w": 3, "d.w": 3, "fc.w": 8})
    assert (all(a["bits"] == 8 for a in report["activations"].values())
            and len(report["activations"]) == 5)
    assert sum(len(u["modules"]) for u in report["units"]) == 3 == len(report["first_pass"])
    assert report["samples"]["calibration"] == 48 and report["versions"]["numpy"] == np.__version__
    assert report["sizes"]["codes"] and all(v >= 0 for v in report["seconds"].values())
    assert Report.load(str(folder / "report.json")).units == result.report.units


def test_every_unit_is_better_than_nearest_rounding_or_stays_there(finished):
    units = finished[0].report.units
    assert any(u.loss_hard < u.loss_start for u in units)
    assert all(u.loss_hard < u.loss_start and not u.note or u.loss_hard == u.loss_start
               and u.note for u in units)
    with open(finished[1] / "units.csv", encoding="utf-8") as file:
        # 1.0: unit 1, inner block 0
        rows = [row for row in csv.DictReader(file) if "." not in row["index"]]
    assert [row["name"] for row in rows] == [u.name for u in units]


def test_plan_and_encodings_fit_the_program(finished):
    result, folder = finished
    plan = json.loads((folder / "plan.json").read_text())
    assert [w for u in plan["units"] for w in u["weights"]] == ["a.w", "b.w", "c.w", "d.w", "fc.w"]
    encodings = json.loads((folder / "encodings.json").read_text())
    assert set(encodings) == set(result.report.weights) | set(result.report.activations)
    assert len(encodings["b.w"]["scale"]) == 6 and encodings["b.w"]["bits"] == 3


def test_program_runs_and_stays_close_to_the_float_one(finished, model_dir):
    feed = {"image": tiny_samples(32, seed=9)["image"]}
    quantized, = Predictor(finished[0].prefix)(feed)
    exact, = Predictor(os.path.join(model_dir, "inference"))(feed)
    assert quantized.shape == exact.shape and 1e-5 < np.abs(quantized - exact).mean() < 0.1
    assert quantized.sum(1) == pytest.approx(1.0, abs=1e-5)


def test_the_resolved_config_repeats_the_run(finished, model_dir, tmp_path):
    again = quant_post_mrecg(model_dir, batches(), str(finished[1] / "resolved_config.yaml"),
                             str(tmp_path / "again"))
    assert content(again.save_dir) == content(finished[1])


def _dataclasses(_):
    return Config(global_=Global(visualdl=False), quant_post=QuantPost(**BITS),
                  mrecg=MRECG(**TRAINING))


def _yaml(folder):
    path = str(folder / "config.yaml")
    save_config(load_config(settings()), path)
    return path


@pytest.mark.parametrize("form", [_dataclasses, _yaml])
def test_every_form_of_config_gives_the_same_bytes(form, model_dir, reference, tmp_path):
    quant_post_mrecg(model_dir, batches(), form(tmp_path), str(tmp_path / "out"))
    assert content(tmp_path / "out") == reference


class Images(paddle.io.Dataset):
    def __getitem__(self, index):
        return tiny_samples()["image"][index], np.int64(index)

    def __len__(self):
        return 48


LOADERS = {
    "list of arrays": lambda: [b["image"] for b in batches()],
    "list of lists": lambda: [[b["image"]] for b in batches()],
    "generator of tensors": lambda: (paddle.to_tensor(b["image"]) for b in batches()),
    "one dict": tiny_samples,
    "single samples": lambda: [image[None] for image in tiny_samples()["image"]],
    "function": lambda: lambda: iter(batches()),
    "paddle.io.DataLoader": lambda: paddle.io.DataLoader(Images(), batch_size=20),
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_every_form_of_loader_gives_the_same_bytes(loader, model_dir, reference, tmp_path):
    quant_post_mrecg(model_dir, loader(), settings(), str(tmp_path / "out"))
    assert content(tmp_path / "out") == reference


def test_prefix_graph_and_model_dir_are_the_same_model(model_dir, reference, tmp_path):
    models = [os.path.join(model_dir, "inference"), tiny_graph(), None]
    for k, model in enumerate(models):
        quant_post_mrecg(model, batches(), settings({"Global": {"model_dir": model_dir}}),
                         str(tmp_path / str(k)))
        assert content(tmp_path / str(k))[1:] == reference[1:], (
            "the program may declare its variables in any order")


def test_other_seeds_give_other_bytes(model_dir, reference, tmp_path):
    quant_post_mrecg(model_dir, batches(), settings({"Global": {"seed": 1}}), str(tmp_path / "out"))
    assert content(tmp_path / "out") != reference


class TinyNet(paddle.nn.Layer):
    """Convolution, batch norm, residual block, linear."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = paddle.nn.Conv2D(3, 6, 3, padding=1), paddle.nn.BatchNorm2D(6)
        self.inner, self.last = paddle.nn.Conv2D(6, 6, 3, padding=1), paddle.nn.Linear(6, 4)

    def forward(self, x):
        x = paddle.nn.functional.relu(self.norm(self.first(x)))
        x = paddle.nn.functional.relu(x + self.inner(x))
        return paddle.nn.functional.softmax(self.last(x.mean([2, 3])))


def test_a_layer_with_input_spec_is_a_model(tmp_path):
    paddle.seed(0)
    layer = TinyNet()
    layer.train()
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "image")]
    result = quant_post_mrecg((layer, spec), [b["image"] for b in batches()], settings(),
                              str(tmp_path / "out"))
    image = tiny_samples(8, seed=3)["image"]
    quantized, = Predictor(result.prefix)([image])
    assert layer.training, "the layer is left as it was"
    layer.eval()
    assert 1e-6 < np.abs(quantized - layer(paddle.to_tensor(image)).numpy()).max() < 0.1
    assert len(result.report.weights) == 3


@pytest.mark.parametrize("granularity",
                         ["layer", "block", "explicit", "modcap", "loss", "loss_peaks", "optimal"])
def test_every_policy_runs(granularity, model_dir, tmp_path):
    given = dict(granularity=granularity, num_iters=10)
    if granularity == "explicit":
        given["units"] = [[0, 1], [2, 2]]
    config = settings(**given)
    result = quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "out"))
    assert result.plan.policy == granularity
    assert [w for u in result.plan.units for w in u.weights] == ["a.w", "b.w", "c.w", "d.w", "fc.w"]
    assert len(result.plan.modules) == (5 if granularity == "layer" else 3)
    if granularity == "explicit":
        assert result.plan.groups == [(0, 1), (2, 2)] and result.report.units[0].inner
    measured = granularity in ("loss", "loss_peaks", "optimal")
    assert bool(result.report.first_pass) == measured
    assert [u.weights for u in plan_post(model_dir, batches(), config).units], (
        "and so does the plan alone")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(preset, model_dir, tmp_path):
    iters = 0 if preset == "none" else 10
    config = dict(Global=dict(visualdl=False),
                  MRECG=dict(preset=preset, num_iters=iters, batch_size=16))
    result = quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "out"))
    units, bound = result.report.units, PRESETS[preset].get("train_above", 0.0)
    assert len(units) > 1
    assert all((u.iterations > 0) == (iters > 0 and u.relative_start > bound) for u in units)
    assert all(u.loss_hard <= u.loss_start for u in result.report.units)


@pytest.mark.parametrize("post, solved", [
    ({}, True), (dict(rounding="nearest", bias_correction=False), False)])
def test_without_training_few_samples_tell_the_losses(post, solved, model_dir, tmp_path,
                                                      monkeypatch):
    """The error of the network's outputs is that of the solve, on all samples."""
    walkers, make = [], job_module.Walker
    monkeypatch.setattr(job_module, "Walker",
                        lambda *args: walkers.append(make(*args)) or walkers[-1])
    config = dict(Global=dict(visualdl=False), QuantPost=post,
                  MRECG=dict(preset="none", loss="fisher"))
    job = []
    monkeypatch.setattr(job_module, "write_outcome", lambda made, *args: job.append(made))
    quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "out"))
    assert [len(w.network.samples["image"]) for w in walkers] == [16]
    assert all(r.start.error == r.hard.error > 0 for r in job[0].results)
    assert job[0].output_error == (job[0].solved_error if solved else walkers[0].output_error)


@pytest.mark.parametrize("extra",
                         [dict(loss="fisher"),
                          dict(activation_clip="symmetric_pact", scale_lr=1e-3),
                          dict(keep_prob=0.0), dict(keep_prob=1.0, scale_lr=0.0),
                          dict(warm_start=False),
                          dict(first_pass_ratio=0.0), dict(iters_scaling="per_unit")], ids=str)
def test_every_way_of_training_runs(extra, model_dir, tmp_path):
    config = settings({"Global": {"target": "simulation"}, "QuantPost": {"activation_bits": 4}},
                      **extra)
    report = quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "out")).report
    assert report.verification["max_abs_diff"] <= 1e-6 * report.verification["max_abs_output"]


@pytest.mark.parametrize("asked", [None, False, True])
def test_the_process_is_tuned_only_when_asked_for(asked, model_dir, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(job_module, "tune_cpu", lambda enabled: calls.append(enabled) or {})
    before = dict(os.environ)
    given = {} if asked is None else {"Global": {"tune_cpu": asked}}
    quant_post_mrecg(model_dir, batches(), settings(given, preset="none", num_iters=0),
                     str(tmp_path / "out"))
    assert calls == [bool(asked)] and dict(os.environ) == before
