# SPDX-License-Identifier: Apache-2.0
"""The whole post-training job, from a model and samples to a directory."""
import csv
import json
import os

import numpy as np
import paddle
import pytest

from paddle_mrecg.config import MRECG, PRESETS, Config, Global, QuantPost
from paddle_mrecg.config_io import load_config, save_config
from paddle_mrecg.errors import ConfigError, DataError, MrecgError, ModelError, OutputError
from paddle_mrecg.export.predictor import Predictor
from paddle_mrecg.graph.graph import Op, TensorInfo
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.quant_post import plan_post, quant_post_mrecg
from paddle_mrecg.report.result import Report
from paddle_mrecg.report.result_dir import RESULT_NAMES
from paddle_mrecg.walk import Walker

from .tiny import tiny_graph, tiny_samples

PROGRAM = ("model.pdmodel", "model.pdiparams")
BITS = dict(weight_bits=3, first_layer_weight_bits=3)
TRAINING = dict(num_iters=20, batch_size=16, rounding_lr=0.1, round_weight_relative=3.0)


def settings(sections=None, **mrecg):
    """Sections of a job that takes a second."""
    base = dict(Global=dict(visualdl=False), QuantPost=dict(BITS), MRECG=dict(TRAINING, **mrecg))
    for name, values in (sections or {}).items():
        base.setdefault(name, {}).update(values)
    return base


def batches(count=48):
    return [{"image": tiny_samples(count)["image"][k:k + 16]} for k in range(0, count, 16)]


def content(folder, names=PROGRAM + ("encodings.json",)):
    """The bytes of the files that must not depend on time or place."""
    result = []
    for name in names:
        with open(os.path.join(str(folder), name), "rb") as file:
            result.append(file.read())
    return result


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """The tiny graph as an exported model."""
    folder = tmp_path_factory.mktemp("float")
    save_program(tiny_graph(), str(folder / "inference"))
    return str(folder)


@pytest.fixture(scope="module")
def finished(model_dir, tmp_path_factory):
    """(result, folder) of one uninterrupted run with every file."""
    folder = tmp_path_factory.mktemp("result") / "out"
    feed = {"image": tiny_samples(64, seed=5)["image"]}
    labels = Predictor(os.path.join(model_dir, "inference"))(feed)[0].argmax(1)
    result = quant_post_mrecg(model_dir, batches(), settings({"Global": {"visualdl": True}}), str(folder),
                              evaluator=lambda predict: {"agreement": float(np.mean(predict(feed)[0].argmax(1) == labels))})
    return result, folder


def test_every_promised_file_is_there_and_nothing_else(finished):
    _, folder = finished
    assert sorted(os.listdir(folder)) == sorted(RESULT_NAMES)
    assert os.listdir(folder / "visualdl") and os.listdir(folder.parent) == ["out"], "no staging directory stays"


def test_report_says_what_was_done(finished):
    result, folder = finished
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "complete" and report["seed"] == 0 and not result.interrupted
    assert set(report["metrics"]) == {"float", "nearest", "quantized"} and report["metrics"]["float"]["agreement"] == 1.0
    assert report["metrics"]["nearest"]["agreement"] <= 1.0
    assert report["verification"]["max_abs_diff"] <= 1e-6 * report["verification"]["max_abs_output"]
    assert {n: w["bits"] for n, w in report["weights"].items()} == {"a.w": 3, "b.w": 3, "c.w": 3, "d.w": 3, "fc.w": 8}
    assert all(a["bits"] == 8 for a in report["activations"].values()) and len(report["activations"]) == 5
    assert sum(len(u["modules"]) for u in report["units"]) == 3 == len(report["first_pass"])
    assert report["samples"]["calibration"] == 48 and report["versions"]["numpy"] == np.__version__
    assert report["sizes"]["codes"] and all(v >= 0 for v in report["seconds"].values())
    assert Report.load(str(folder / "report.json")).units == result.report.units


def test_every_unit_is_better_than_nearest_rounding_or_stays_there(finished):
    units = finished[0].report.units
    assert any(u.loss_hard < u.loss_nearest for u in units)
    assert all(u.loss_hard < u.loss_nearest and not u.note or u.loss_hard == u.loss_nearest and u.note for u in units)
    with open(finished[1] / "units.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if "." not in row["index"]]  # 1.0 is the first inner block of unit 1
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
    again = quant_post_mrecg(model_dir, batches(), str(finished[1] / "resolved_config.yaml"), str(tmp_path / "again"))
    assert content(again.save_dir) == content(finished[1])


@pytest.fixture(scope="module")
def reference(model_dir, tmp_path_factory):
    """Bytes of a run with joined units and QDrop."""
    folder = str(tmp_path_factory.mktemp("reference") / "out")
    quant_post_mrecg(model_dir, batches(), settings(), folder)
    return content(folder)


def _dataclasses(_):
    return Config(global_=Global(visualdl=False), quant_post=QuantPost(**BITS), mrecg=MRECG(**TRAINING))


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
        quant_post_mrecg(model, batches(), settings({"Global": {"model_dir": model_dir}}), str(tmp_path / str(k)))
        assert content(tmp_path / str(k))[1:] == reference[1:], "codes, scales and names; variables may be declared in any order"


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
    result = quant_post_mrecg((layer, spec), [b["image"] for b in batches()], settings(), str(tmp_path / "out"))
    image = tiny_samples(8, seed=3)["image"]
    quantized, = Predictor(result.prefix)([image])
    assert layer.training, "the layer is left as it was"
    layer.eval()
    assert 1e-6 < np.abs(quantized - layer(paddle.to_tensor(image)).numpy()).max() < 0.1
    assert len(result.report.weights) == 3


@pytest.mark.parametrize("granularity", ["layer", "block", "explicit", "modcap", "loss", "loss_peaks", "optimal"])
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
    assert bool(result.report.first_pass) == measured == bool(result.report.saved_by_reuse)
    assert [u.weights for u in plan_post(model_dir, batches(), config).units], "and so does the plan alone"


def test_a_full_first_pass_is_taken_over_up_to_the_first_joined_unit(model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("paddle_mrecg.strategies.mrecg.loss_peaks", lambda *_: [(0, 0), (1, 2)])
    given = dict(granularity="loss_peaks", first_pass_ratio=1.0, warm_start=False)
    reused = quant_post_mrecg(model_dir, batches(), settings(**given), str(tmp_path / "reused"))
    again = quant_post_mrecg(model_dir, batches(), settings(granularity="explicit", units=[[0, 0], [1, 2]]),
                             str(tmp_path / "again"))
    assert [u.reused for u in reused.report.units] == [True, False]
    assert reused.report.saved_by_reuse["iterations"] == TRAINING["num_iters"]
    assert content(reused.save_dir) == content(again.save_dir), "training the first unit again would change nothing"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(preset, model_dir, tmp_path):
    iters = 0 if preset == "nearest" else 10
    config = dict(Global=dict(visualdl=False), MRECG=dict(preset=preset, num_iters=iters, batch_size=16))
    result = quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "out"))
    assert sum(u.iterations for u in result.report.units) == (iters and
                                                              sum(u.iterations for u in result.report.units))
    assert (sum(u.iterations for u in result.report.units) > 0) == (iters > 0)


@pytest.mark.parametrize("extra", [dict(loss="fisher"), dict(activation_clip="symmetric_pact", scale_lr=1e-3),
                                   dict(keep_prob=0.0), dict(keep_prob=1.0, scale_lr=0.0), dict(warm_start=False),
                                   dict(first_pass_ratio=0.0), dict(iters_scaling="per_unit")], ids=str)
def test_every_way_of_training_runs(extra, model_dir, tmp_path):
    config = settings({"Global": {"target": "simulation"}, "QuantPost": {"activation_bits": 4}}, **extra)
    report = quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "out")).report
    assert report.verification["max_abs_diff"] <= 1e-6 * report.verification["max_abs_output"]


class CtrlC:
    """Raises KeyboardInterrupt instead of the n-th training of a unit, once."""

    def __init__(self, monkeypatch, turn):
        self.left, step = turn, Walker.step

        def interrupted(walker, *args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return step(walker, *args, **kwargs)
        monkeypatch.setattr(Walker, "step", interrupted)

    def disarm(self):
        self.left = -1


@pytest.mark.parametrize("finished_units", [0, 1, 2])
def test_ctrl_c_leaves_a_usable_program_and_resume_ends_as_if_nothing_happened(finished_units, model_dir, tmp_path,
                                                                               monkeypatch):
    config, folder = settings(granularity="block"), str(tmp_path / "out")
    quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "whole"))
    CtrlC(monkeypatch, finished_units + 1)
    partial = quant_post_mrecg(model_dir, batches(), config, folder)
    assert partial.interrupted and partial.report.status == "interrupted" and len(partial.report.units) == finished_units
    assert np.isfinite(Predictor(partial.prefix)(tiny_samples(4))[0]).all()
    if finished_units < 2:
        assert content(folder) != content(tmp_path / "whole")
    resumed = quant_post_mrecg(model_dir, batches(), settings({"Global": {"resume": True}}, granularity="block"), folder)
    assert [u.reused for u in resumed.report.units] == [k < finished_units for k in range(3)]
    assert content(folder) == content(tmp_path / "whole")
    assert sorted(os.listdir(tmp_path)) == ["out", "whole"] and not os.path.exists(os.path.join(folder, ".partial"))


@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_resume_repeats_the_first_pass_as_well(steps, model_dir, tmp_path, monkeypatch, reference):
    folder = str(tmp_path / "out")
    ctrl_c = CtrlC(monkeypatch, steps)
    if steps <= 3:  # without a plan there is nothing to keep but checkpoints
        with pytest.raises(KeyboardInterrupt):
            quant_post_mrecg(model_dir, batches(), settings(), folder)
        assert not os.path.exists(folder)
    else:
        assert quant_post_mrecg(model_dir, batches(), settings(), folder).interrupted or steps > 4
    ctrl_c.disarm()
    quant_post_mrecg(model_dir, batches(), settings({"Global": {"resume": True}}), folder)
    assert content(folder) == reference


def test_resume_with_other_settings_starts_afresh(model_dir, tmp_path, monkeypatch, reference):
    folder = str(tmp_path / "out")
    CtrlC(monkeypatch, 4)
    assert quant_post_mrecg(model_dir, batches(), settings({"QuantPost": {"weight_bits": 4}}), folder).interrupted
    quant_post_mrecg(model_dir, batches(), settings({"Global": {"resume": True}}), folder)
    assert content(folder) == reference


def _refused(kind, match, folder, *args, **kwargs):
    with pytest.raises(kind, match=match) as caught:
        quant_post_mrecg(*args, **dict(dict(config=settings(), save_dir=str(folder / "out")), **kwargs))
    assert isinstance(caught.value, MrecgError) and "\n" not in str(caught.value), "one sentence"
    assert sorted(os.listdir(folder)) == [], "nothing half-written"


def _nan():
    images = [b["image"].copy() for b in batches()]
    images[1][3, 0, 0, 0] = np.nan
    return images


@pytest.mark.parametrize("loader, match", [
    ([], "empty"), (batches()[:0], "empty"), (iter(()), "empty"), (_nan(), "NaN"),
    ([np.zeros((4, 3, 9, 8), np.float32)], "shape"), ([np.zeros((4, 8, 8, 3), np.float32)], "shape"),
    ([np.zeros((4, 3, 8, 8), np.uint8)], "uint8"), ([{"picture": np.zeros((4, 3, 8, 8), np.float32)}], "image"),
    (batches(16)[0]["image"][:4], "too few"), (None, "no data"), (3, "int"), ("images", "str")], ids=str)
def test_bad_data_is_refused_in_one_sentence(loader, match, model_dir, tmp_path):
    _refused(DataError, match, tmp_path, model_dir, loader)


def test_bad_models_are_refused_in_one_sentence(model_dir, tmp_path_factory, tmp_path):
    _refused(ModelError, "nowhere", tmp_path, os.path.join(model_dir, "nowhere"), batches())
    _refused(ModelError, "model_dir", tmp_path, None, batches())
    _refused(ModelError, "int", tmp_path, 7, batches())
    for suffix in (".pdmodel", ".pdiparams"):
        for share in (0.0, 0.5, 0.99):
            broken = tmp_path_factory.mktemp("broken")
            save_program(tiny_graph(), str(broken / "inference"))
            path = str(broken / "inference") + suffix
            with open(path, "rb") as file:
                whole = file.read()
            with open(path, "wb") as file:
                file.write(whole[:int(share * len(whole))])
            _refused(ModelError, "inference", tmp_path, str(broken), batches())


def test_a_quantised_model_is_no_float_model(finished, tmp_path):
    _refused(ModelError, "already quantised", tmp_path, str(finished[1]), batches())


def test_weights_that_are_not_finite_are_refused(tmp_path):
    graph = tiny_graph()
    graph.params["c.w"][0, 0, 0, 0] = np.nan
    _refused(ModelError, "c.w", tmp_path, graph, batches())


def test_a_model_with_nothing_to_quantise_is_refused(tmp_path):
    graph = tiny_graph()
    graph.ops, graph.outputs = [op for op in graph.ops if op.type == "softmax"], ["probability"]
    graph.ops[0].inputs["X"] = ["image"]
    graph.params.clear()
    _refused(ModelError, "nothing to quantise", tmp_path, graph, batches())


def test_bad_settings_are_refused(model_dir, tmp_path):
    _refused(ConfigError, "activation_bits", tmp_path, model_dir, batches(),
             config=settings({"QuantPost": {"activation_bits": 4}}))
    _refused(ConfigError, "nothing.*", tmp_path, model_dir, batches(), config=settings({"QuantPost": {"skip": ["nothing.*"]}}))
    _refused(ConfigError, "units", tmp_path, model_dir, batches(),
             config=settings(granularity="explicit", units=[[0, 0], [2, 2]]))


def test_places_that_cannot_be_written_are_refused(model_dir, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below", model_dir):
        with pytest.raises(OutputError):
            quant_post_mrecg(model_dir, batches(), settings(), str(place))
    assert os.listdir(tmp_path) == ["file"] and sorted(os.listdir(model_dir)) == ["inference.pdiparams", "inference.pdmodel"]


def test_an_error_during_the_run_leaves_nothing(model_dir, tmp_path):
    def broken(predict):
        raise DataError("the evaluator is broken")
    with pytest.raises(DataError):
        quant_post_mrecg(model_dir, batches(), settings(), str(tmp_path / "out"), evaluator=broken)
    assert not os.path.exists(tmp_path / "out")


def _with_unsupported(graph, behind):
    """Insert an op that dygraph cannot run, which Paddle Inference can, behind tensor ``behind``."""
    info = graph.tensors[behind]
    copy = graph.tensors["copied"] = TensorInfo("copied", info.shape)
    for op in graph.ops:
        for names in op.inputs.values():
            names[:] = [copy.name if n == behind else n for n in names]
    graph.outputs = [copy.name if n == behind else n for n in graph.outputs]
    place = next((k for k, op in enumerate(graph.ops) if behind in op.output_names), -1)
    graph.ops.insert(place + 1, Op("lrn", {"X": [behind]}, {"Out": [copy.name], "MidOut": ["middle"]},
                                   dict(n=3, k=1.0, alpha=1e-4, beta=0.75, data_format="NCHW")))
    graph.tensors["middle"] = TensorInfo("middle", info.shape)
    return graph


def test_an_unsupported_op_in_the_middle_leaves_what_follows_float(tmp_path):
    result = quant_post_mrecg(_with_unsupported(tiny_graph(), "c.relu"), batches(), settings(), str(tmp_path / "out"))
    assert set(result.report.weights) == {"a.w", "b.w", "c.w"}
    assert set(result.report.float_tensors) == {"d.w", "fc.w"} and "lrn" in result.report.float_tensors["d.w"]
    assert np.isfinite(Predictor(result.prefix)(tiny_samples(4))[0]).all()


def test_an_unsupported_op_at_the_end_changes_nothing_before_it(tmp_path):
    graph = tiny_graph()
    graph.outputs.append("d.relu")
    result = quant_post_mrecg(_with_unsupported(graph, "d.relu"), batches(), settings(), str(tmp_path / "out"))
    assert set(result.report.weights) == {"a.w", "b.w", "c.w", "d.w"} and result.plan.modules[-1].outputs == ["d.relu"]
    checked = result.report.verification
    assert checked["outputs"] and checked["max_abs_diff"] <= 1e-6 * checked["max_abs_output"], "compared where possible"


def test_an_unsupported_op_before_everything_is_refused(tmp_path):
    _refused(ModelError, "lrn", tmp_path, _with_unsupported(tiny_graph(), "image"), batches())
