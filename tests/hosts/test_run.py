# SPDX-License-Identifier: Apache-2.0
"""``paddle-mrecg run``: training, evaluation, export and post-training scripts of each host,
unchanged, with our sections.
"""
import copy
import csv
import glob
import json
import os

import numpy as np
import pytest

import paddle
from paddle_mrecg.aware.export import ExportedModel
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.errors import DataError
from paddle_mrecg.slim import registration
from paddleslim.dygraph.quant import QAT
from tests.slim_nets import TinyNet, images

pytestmark = pytest.mark.host
OURS = {"QuantAware": {"weight_bits": 3}, "BinRegularization": {"lambda": 0.5}, "SymmetricPACT": {}}
POST = {"QuantPost": {"weight_bits": 4},
        "MRECG": {"preset": "fast", "num_iters": 10, "batch_size": 8}}
CLAS = {"Global": {"epochs": 3, "output_dir": "."}, "Slim": {"quant": {"name": "pact"}}}
DET = {"epoch": 3, "output_dir": "."}
DET_QAT = {"slim": "QAT",
           "QAT": {"quant_config": {"activation_preprocess_type": "PACT", "weight_bits": 8}}}
OCR = {"Global": {"epoch_num": 3, "save_model_dir": "."}, "Train": {"need_reset": False}}
SWITCHED_ON = ["epoch 1 of 3: bin regularization is off", "epoch 2 of 3: bin regularization is on",
               "epoch 3 of 3: bin regularization is on"]
TRAINED = {
    "clas": ("clas/train", "clas/export_model", {"c.yml": {**CLAS, **OURS}}, ("-c", "c.yml"),
             "latest", "inference_int8"),
    "det": ("det/train", "det/export_model", {"c.yml": DET, "s.yml": {**DET_QAT, **OURS}},
            ("-c", "c.yml", "--slim_config", "s.yml"), "model_final", "model"),
    "ocr": ("ocr/quant", "ocr/export_model", {"c.yml": {**OCR, **OURS}}, ("-c", "c.yml"), "latest",
            "inference"),
}


def methods(cls):
    return {name: value for name, value in vars(cls).items() if callable(value)}


def epochs(host):
    return [message.split(";")[0] for message in host.messages if message.startswith("epoch ")]


@pytest.mark.parametrize("name", TRAINED)
def test_training_and_export(name, host):
    train, export, files, arguments, weights, prefix = TRAINED[name]
    before = methods(QAT)
    assert host(train, files, *arguments) == 0
    assert epochs(host) == SWITCHED_ON
    assert any("QuantAware and BinRegularization and SymmetricPACT of" in m for m in host.messages)
    state = paddle.load(f"{weights}.pdparams")
    alphas = [v for k, v in state.items() if k.endswith("alpha_start")]
    # of training data, not of what a summary runs on
    assert alphas and all(0 < float(a) < 100 for a in alphas)
    assert any(abs(float(v)) > 0 for k, v in state.items() if k.endswith("alpha_shift"))

    changed = [dict(files[n]) for n in files]
    files = dict(zip(files, changed))
    if name == "clas":
        files["c.yml"]["Global"] = {**CLAS["Global"], "pretrained_model": "latest"}
    assert host(export, files, *arguments) == 0
    with open(f"{prefix}.mrecg/encodings.json", encoding="utf-8") as file:
        encodings = json.load(file)
    # first and last: 8
    assert (sorted(e["bits"] for n, e in encodings.items() if len(np.ravel(e["scale"])) > 1)
            == [3, 8, 8])
    with open(f"{prefix}.mrecg/report.json", encoding="utf-8") as file:
        assert json.load(file)["verification"]["max_abs_diff"] < 1e-4
    steps = [np.abs(v.numpy()) for k, v in state.items() if k.endswith("weight_quanter.scale")]
    stored = [np.ravel(e["scale"]) for e in encodings.values()]
    assert all(any(s.shape == t.shape and np.allclose(s, t) for t in stored) for s in steps)
    assert not registration.registered() and before == methods(QAT)


@pytest.mark.parametrize("name", TRAINED)
def test_a_solved_start(name, host):
    """Of the first batch of training; the export's checkpoint has roundings of its own."""
    train, export, files, arguments, weights, _ = TRAINED[name]
    file = list(files)[-1]
    files = {**files, file: {**files[file], "QuantAware": {"weight_bits": 3, "rounding": "solve"}}}
    assert host(train, files, *arguments) == 0
    started = [m for m in host.messages if "roundings were solved for the first batch" in m]
    assert len(started) == 1
    if name == "clas":
        files["c.yml"]["Global"] = {**CLAS["Global"], "pretrained_model": "latest"}
    assert host(export, files, *arguments) == 0
    assert [m for m in host.messages if "roundings were solved" in m] == started


def test_the_export_of_paddleocr_2_8(host):
    """Without the call that 2.10 breaks, and that the other tests have."""
    files = {"c.yml": {**OCR, **OURS}}
    assert host("ocr/quant", files, "-c", "c.yml") == 0
    assert host("ocr/export_model_28", files, "-c", "c.yml") == 0
    with open("inference.mrecg/report.json", encoding="utf-8") as file:
        assert json.load(file)["verification"]["max_abs_diff"] < 1e-4


def test_a_data_set_of_which_every_sample_fails_ends():
    from paddle_mrecg.hosts import paddleocr
    from tests.hosts.stubs.ocr.ppocr.data.simple_dataset import SimpleDataSet

    class Mended(SimpleDataSet):
        __getitem__ = paddleocr._giving_up(SimpleDataSet.__getitem__)

    def broken(index):
        raise ValueError
    with pytest.raises(DataError, match="failed one after another"):
        Mended(broken, 4)[0]

    def one_good(index):
        return [broken, broken, str][index](index)
    samples = Mended(one_good, 3)
    assert [samples[0] for _ in range(50)] == ["2"] * 50


def test_a_resumed_run_of_paddleocr_and_one_that_reads_its_data_anew(host):
    config = {"Global": {**OCR["Global"], "start_epoch": 3}, "Train": {"need_reset": True}, **OURS}
    assert host("ocr/quant", {"c.yml": config}, "-c", "c.yml") == 0
    assert epochs(host)[-1] == SWITCHED_ON[-1]


def test_a_training_can_be_watched(host):
    """One row per layer and epoch, and one for the end; the picture is
    there; a resumed run goes on.
    """
    assert host("ocr/quant", {"c.yml": {**OCR, **OURS}}, "--watch=watched", "-c", "c.yml") == 0
    with open("watched/bins.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted({int(row["epoch"]) for row in rows}) == [0, 1, 2, 3] and len(rows) == 3 * 4
    assert os.path.getsize("watched/bins.png") > 1000 and os.listdir("watched/visualdl")
    config = {**OCR, **OURS, "Global": {**OCR["Global"], "start_epoch": 3}}
    assert host("ocr/quant", {"c.yml": config}, "--watch=watched", "-c", "c.yml") == 0
    with open("watched/bins.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3 * 4


def test_a_model_in_training_can_be_copied(tmp_path):
    """PaddleClas copies it to export between epochs; what watches it is not copied along."""
    from paddle_mrecg.config.io import load_training_config
    from paddle_mrecg.hosts.sections import Strategies
    from paddle_mrecg.hosts.switches import Switches
    from paddle_mrecg.slim.qat import MrecgQAT
    settings = load_training_config({"QuantAware": {"penalty_mode": "injection"},
                                     "BinRegularization": {}, "SymmetricPACT": {}})
    switches = Switches(Strategies(settings, None, {}), "host", str(tmp_path / "watched"))
    qat = MrecgQAT(settings)
    switches._models.append(qat)
    model = qat.quantize(TinyNet())
    switches.on_epoch(0, 2)
    model(paddle.to_tensor(images(8)))
    copied = copy.deepcopy(model)
    np.testing.assert_array_equal(copied(paddle.to_tensor(images(8))).numpy(),
                                  model(paddle.to_tensor(images(8))).numpy())


def test_accumulated_gradients_are_divided(host, monkeypatch):
    from paddle_mrecg.hosts import switches
    made = []
    original = switches.Switches.__init__
    monkeypatch.setattr(switches.Switches, "__init__",
                        lambda self, *a: (original(self, *a), made.append(self))[0])
    config = {**CLAS, **OURS, "Global": {**CLAS["Global"], "update_freq": 4}}
    assert host("clas/train", {"c.yml": config}, "-c", "c.yml") == 0
    assert made[0].gradient_factor() == 0.25


@pytest.mark.parametrize("name", TRAINED)
def test_efolds_are_planned_from_the_hosts_own_optimizer_and_epochs(name, host, monkeypatch,
                                                                    caplog):
    from paddle_mrecg.hosts import switches
    from paddle_mrecg.report.progress import get_logger
    monkeypatch.setattr(get_logger(), "handlers", [*get_logger().handlers, caplog.handler])
    made = []
    original = switches.Switches.__init__
    monkeypatch.setattr(switches.Switches, "__init__",
                        lambda self, *a: (original(self, *a), made.append(self))[0])
    train, _, files, arguments, *_ = TRAINED[name]
    bins = {"BinRegularization": {"efolds": 1.5, "schedule": "S1"}}
    assert host(train, {n: {**f, **bins} if "QuantAware" in f else f for n, f in files.items()},
                *arguments) == 0
    rows = made[0]._models[0].penalty.statistics()
    assert [row["predicted_efolds"] for row in rows] == pytest.approx([1.5] * len(rows))
    said = [record.getMessage() for record in caplog.records]
    assert any("e-folds so far, median of the layers: predicted 0, measured 0" in text
               for text in said)


def test_the_loss_scale_of_mixed_precision_is_followed():
    from paddle_mrecg.hosts.sections import Strategies
    from paddle_mrecg.hosts.switches import Switches
    from paddle_mrecg.slim.patches import Patches
    switches, patches = Switches(Strategies(None, None, {}), "host"), Patches()

    class Scaler:
        """Stands for a GradScaler, which Paddle switches off on a CPU."""

        def state_dict(self):
            return {"scale": np.array([1024.0], np.float32)}

    assert switches.gradient_factor() == 1.0
    switches._behind_scale(lambda scaler, loss: loss)(Scaler(), 1.0)
    assert switches.gradient_factor() == 1024.0
    switches.accumulated = 2
    assert switches.gradient_factor() == 512.0
    scaler = paddle.amp.GradScaler(enable=False)
    switches.install(patches)
    scaler.scale(paddle.ones([1]))
    patches.restore()
    assert switches.gradient_factor() == 0.5  # a scaler that is switched off scales nothing


@pytest.mark.parametrize("script, files, arguments, prefix", [
    ("det/post_quant",
     {"c.yml": DET,
      "s.yml": {"slim": "PTQ", "PTQ": {"ptq_config": {"activation_quantizer": "HistQuantizer"}},
                **POST}}, ("-c", "c.yml", "--slim_config", "s.yml"), "model"),
    ("ocr/quant_kl", None, ("-c", "c.yml"), "model"),
])
def test_post_training(script, files, arguments, prefix, host, float_dir):
    if files is None:  # batch_nums=1 in the script, yet Data decides
        files = {"c.yml": {"Global": {"inference_model": float_dir, "save_model_dir": "out"},
                           **POST, "Data": {"num_samples": 24}}}
    assert host(script, files, *arguments) == 0
    report, = glob.glob("**/*.mrecg/report.json", recursive=True)
    with open(report, encoding="utf-8") as file:
        report = json.load(file)
    assert report["samples"]["calibration"] == (24 if script == "ocr/quant_kl" else 32)
    predictor = Predictor(glob.glob(f"**/{prefix}.pdmodel", recursive=True)[0][:-len(".pdmodel")])
    x = images(4)
    feed = {"image": x, "scale_factor": x[:, 0, 0, :2]} if "image" in predictor.input_names else x
    assert np.isfinite(predictor(feed)[0]).all()


@pytest.mark.skipif(paddle.__version__ < "3", reason="Paddle 2 writes no .json")
def test_quant_kl_reads_what_paddle_3_has_exported(host):
    """The script asks for model.pdmodel; the host's export has written model.json."""
    net = TinyNet()
    net.eval()
    paddle.jit.save(net, "float/model", [paddle.static.InputSpec([None, *images().shape[1:]],
                                                                 "float32", "x")])
    assert os.path.isfile("float/model.json") and not os.path.isfile("float/model.pdmodel")
    config = {"Global": {"inference_model": "float", "save_model_dir": "out"},
              "QuantPost": {"weight_bits": 4}, "MRECG": {"preset": "none"}}
    assert host("ocr/quant_kl", {"c.yml": config}, "-c", "c.yml") == 0
    assert glob.glob("out/*.pdmodel")


def test_names_of_ours_in_paddledetections_own_settings_survive_its_export(host):
    ours = {"activation_preprocess_type": "SymmetricPACT", "weight_quantize_type": "lsq",
            "weight_bits": 3,
            "bin_regularization": {"schedule": "S2"}}
    files = {"c.yml": DET, "s.yml": {"slim": "QAT", "QAT": {"quant_config": ours}}}
    arguments = ("-c", "c.yml", "--slim_config", "s.yml")
    assert host("det/train", files, *arguments) == 0
    assert epochs(host) == SWITCHED_ON
    assert host("det/export_model", files, *arguments) == 0
    with open("model.mrecg/report.json", encoding="utf-8") as file:
        assert json.load(file)["verification"]["max_abs_diff"] < 1e-4


def test_a_script_without_our_sections_runs_as_ever(host):
    """PaddleSlim's own quantizer, and nothing about epochs."""
    assert host("clas/train", {"c.yml": CLAS}, "-c", "c.yml") == 0
    state = paddle.load("latest.pdparams")
    assert not epochs(host) and not [k for k in state if "alpha" in k and "shift" in k]


def test_sections_that_nothing_reads_are_named(host):
    assert host("clas/train", {"c.yml": {**CLAS, **POST}}, "-c", "c.yml") == 0
    assert any("QuantPost and MRECG had no effect" in m for m in host.messages)


def test_paddleclas_must_be_asked_to_quantize(host, capsys):
    assert host("clas/train", {"c.yml": {**OURS, "Global": CLAS["Global"]}}, "-c", "c.yml") == 2
    assert "add `Slim: {quant: {name: pact}}`" in capsys.readouterr().err
    assert (host("clas/train", {"c.yml": {**CLAS, **OURS, "EMA": {"decay": 0.9}}}, "-c", "c.yml")
            == 2)
    assert "EMA: PaddleClas copies the model" in capsys.readouterr().err
    assert not registration.registered()


def test_a_program_that_differs_from_the_trained_model_is_exit_code_1(host, monkeypatch):
    train, export, files, arguments, weights, _ = TRAINED["clas"]
    assert host(train, files, *arguments) == 0
    monkeypatch.setattr(ExportedModel, "agrees", False)
    trained = {**files["c.yml"], "Global": {**CLAS["Global"], "pretrained_model": weights}}
    assert host(export, {"c.yml": trained}, *arguments) == 1
