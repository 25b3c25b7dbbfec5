# SPDX-License-Identifier: Apache-2.0
"""The trial of hosts: small configs of theirs, what is asked of a result, and the table."""
import json

import numpy as np
import paddle
import pytest
import yaml
from paddle import nn

from demo import results
from demo.hosts import tiny, try_hosts
from paddle_mrecg.aware.job import export_quantized, quant_aware_prepare

READER = """\
worker_num: 6
TrainReader:
  sample_transforms: [Decode: {}]
  batch_transforms:
  - BatchRandomResize: {target_size: [256, 288, 320], keep_ratio: False}
EvalReader:
  sample_transforms: [Resize: {target_size: [320, 320]}]
TestReader:
  inputs_def: {image_shape: [1, 3, 320, 320]}
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder as a trial leaves it."""
    folder = tmp_path_factory.mktemp("trial")
    model, _ = quant_aware_prepare(nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Conv2D(4, 4, 3),
                                                 nn.ReLU(), nn.Conv2D(4, 2, 3)),
                                   {"QuantAware": {"weight_bits": 4}})
    model.train()
    model(paddle.rand([2, 3, 12, 12]))
    export_quantized(model, str(folder / "program" / "inference.mrecg"),
                     [paddle.static.InputSpec([None, 3, 12, 12], "float32", "x")])
    return folder


def test_a_result_has_its_codes_and_agrees(exported, monkeypatch):
    assert try_hosts.all_of(try_hosts.codes, exported) == "yes: 1 of 3 tensors at 4 bits"
    assert try_hosts.all_of(try_hosts.agreement, exported).startswith("yes")
    result, = (exported / "program").iterdir()
    report = json.loads((result / "report.json").read_text(encoding="utf-8"))
    report["verification"]["verdict"] = "differs"
    (result / "report.json").write_text(json.dumps(report), encoding="utf-8")
    assert try_hosts.all_of(try_hosts.agreement, exported) == "differs"


def test_codes_beyond_their_bits_are_found(exported, monkeypatch):
    from paddle_mrecg import load_graph as load

    def load_graph(*args, **kwargs):
        graph = load(*args, **kwargs)
        for name, values in graph.params.items():
            if values.dtype == np.int8 and values.shape == (4, 4, 3, 3):
                graph.params[name] = np.where(values == values.max(), 9, values)
        return graph
    monkeypatch.setattr("paddle_mrecg.load_graph", load_graph, raising=False)
    assert "to 9 with 4 bits" in try_hosts.all_of(try_hosts.codes, exported)


def test_nothing_exported_is_not_a_success(tmp_path):
    assert try_hosts.all_of(try_hosts.codes, tmp_path) == "nothing was quantized"


def test_a_script_that_fails_says_its_last_line(tmp_path):
    words = ["-c", "import sys; print('so far'); sys.exit('not today')"]
    assert try_hosts.logged(words, tmp_path / "x.log", tmp_path) == "exit code 1: not today"
    assert try_hosts.logged(["-c", "1"], tmp_path / "x.log", tmp_path) == try_hosts.OK


def test_readers_of_paddledetection_become_small(tmp_path):
    host = tmp_path / "host"
    config = host / tiny.MODELS["PaddleDetection"]["PicoDet-XS"]
    (config.parent / "_base_").mkdir(parents=True)
    config.write_text("_BASE_: [\n  '../datasets.yml',\n  '_base_/picodet_320_reader.yml',\n]\n"
                      "LearningRate:\n  schedulers:\n  - !CosineDecay\n    max_epochs: 3\n",
                      encoding="utf-8")
    (config.parent / "_base_" / "picodet_320_reader.yml").write_text(READER, encoding="utf-8")
    trial = tiny.prepare("PaddleDetection", "PicoDet-XS", host, tmp_path / "trial")
    text = (tmp_path / "trial" / "tiny.yml").read_text(encoding="utf-8")
    written = yaml.safe_load(text.replace("!COCODataSet", "").replace("!ImageFolder", ""))
    assert written["_BASE_"] == [str(config)]
    resize, = written["TrainReader"]["batch_transforms"]
    assert resize["BatchRandomResize"] == {"target_size": [tiny.SIDE], "keep_ratio": False}
    assert written["EvalReader"]["sample_transforms"][0]["Resize"]["target_size"] == [tiny.SIDE] * 2
    assert written["TestReader"]["inputs_def"]["image_shape"] == [1, 3, tiny.SIDE, tiny.SIDE]
    assert "pretrain_weights=FLOAT" in trial.train and "--slim_config" not in trial.pretrain
    boxes = json.loads((tmp_path / "trial" / "data" / "boxes.json").read_text(encoding="utf-8"))
    assert len(boxes["images"]) == tiny.IMAGES


def test_a_row_says_what_failed(tmp_path):
    assert try_hosts.table(tmp_path) == results.NOT_YET
    setting = dict(zip(try_hosts.SETTING, ("PaddleOCR", "2.6", "DB", "2.6.2")))
    results.save_results(results.cell_path(tmp_path, setting, 0), "python x.py", [
        results.run_record(setting, 0, {}, checks={"train": "yes", "eval": "exit code 1: no"})])
    assert try_hosts.table(tmp_path).splitlines()[2] == (
        "| PaddleOCR | 2.6 | DB | 2.6.2 | yes | exit code 1: no | – | – | – | – |")


def test_what_is_not_a_host_is_refused(tmp_path, capsys):
    assert try_hosts.main(["--host", str(tmp_path)]) == 2
    assert "give --host a checkout of PaddleDetection" in capsys.readouterr().err
