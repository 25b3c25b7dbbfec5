# SPDX-License-Identifier: Apache-2.0
"""The trainer's command line: what it writes, what it says, and what several processes do."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import paddle
from demo.classification import train
from demo.classification.training import checkpoint, data, networks

SMALL = ["--scale", "0.25", "--epoch_images", "64", "--batch_size", "32", "--no_visualdl"]
LSQ = "configs/classification/cifar_mobilenet_v3_small_lsq_w4a4.yaml"


@pytest.fixture
def few_digits(monkeypatch):
    """Fifty of them to score."""
    sets = data.load("digits")
    few = sets._replace(test=data.ImageArrays(*sets.test.take(np.arange(50))))
    monkeypatch.setattr(data, "load", lambda *args: few)


def test_float_then_quantized(tmp_path, few_digits, repository, monkeypatch):
    monkeypatch.chdir(repository)
    first, second, scores = tmp_path / "float", tmp_path / "w4a4", tmp_path / "scores.json"
    assert (train.main([*SMALL, "--epochs", "1", "--save_dir", str(first), "--results",
                        str(scores)]) == 0)
    assert {"weights.pdparams", "best.pdparams", "curves.json"} <= {p.name for p in first.iterdir()}
    assert list((first / "model").glob("inference.*"))
    assert train.main([*SMALL, "--epochs", "1", "--lr", "0.001", "--init",
                       str(first / "weights.pdparams"), "--save_dir",
                       str(second), "--config_path", LSQ, "--results", str(scores)]) == 0
    row, = json.loads((second / "curves.json").read_text())
    assert row["weight_error_db"] < 0 and 0 <= row["near"] <= 100
    assert ((second / "bins.png").stat().st_size > 1000
            and (second / "bins.csv").read_text().startswith("epoch,layer,bits"))
    encodings = json.loads((second / "model" / "encodings.json").read_text())
    assert (encodings
            and json.loads((second / "model"
                            / "report.json").read_text())["verification"]["samples"] == 4)
    settings = [run["setting"]["config"] for run in json.loads(scores.read_text())["runs"]]
    assert settings == ["float", "cifar_mobilenet_v3_small_lsq_w4a4"]


@pytest.mark.parametrize("arguments, said", [
    (["--model", "resnet17"], "resnet18"),
    (["--data", "no_such_folder"], "train/ and val/"),
    (["--epochs", "0"], "epochs 0: must be at least 1"),
    (["--init", "no_such_file"], "does not exist"),
    (["QuantAware.weight_bits=4"], "--config_path"),
    (["--config_path", LSQ, "QuantAware.weigth_bits=4"], "weight_bits"),
    (["--num_train", "5000"], "1437 training images"),
])
def test_mistakes_are_one_sentence_and_exit_code_2(arguments, said, tmp_path, capfd, repository,
                                                   monkeypatch):
    monkeypatch.chdir(repository)
    assert train.main([*arguments, "--save_dir", str(tmp_path / "run")]) == 2
    error = capfd.readouterr().err
    assert error.startswith("train.py: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_help_shows_commands_that_parse(repository):
    text = subprocess.run([sys.executable, "demo/classification/train.py", "--help"],
                          cwd=repository, check=True,
                          capture_output=True, text=True).stdout
    commands = [c for c in text.replace("\\\n", " ").splitlines()
                if "demo/classification/train.py" in c and "python" in c]
    assert len(commands) >= 4
    for command in commands:
        arguments = train.parse_args(command.split("demo/classification/train.py")[1].split())
        assert arguments.config_path is None or (repository / arguments.config_path).exists()


def started(arguments, save_dir, repository, launcher=()):
    command = [sys.executable, "-W", "ignore", *launcher, "demo/classification/train.py", *SMALL,
               "--save_dir", str(save_dir)]
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(repository))
    return subprocess.Popen([*command, *arguments], cwd=repository, env=environment,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def state(save_dir):
    return {name: tensor.numpy()
            for name, tensor in checkpoint.load(save_dir / "weights.pdparams").items()}


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bits(tmp_path, repository):
    arguments = ["--epochs", "4", "--config_path", LSQ]
    whole = started(arguments, tmp_path / "whole", repository)
    assert whole.communicate()[1] is None and whole.returncode == 0
    killed = started(arguments, tmp_path / "killed", repository)
    while not (tmp_path / "killed" / "checkpoint.pdparams").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    again = started([*arguments, "--resume"], tmp_path / "killed", repository)
    again.communicate()
    assert again.returncode == 0
    before, after = state(tmp_path / "whole"), state(tmp_path / "killed")
    assert (before.keys() == after.keys()
            and all(np.array_equal(before[k], after[k]) for k in before))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--config_path", LSQ]], ids=["float", "quantized"])
def test_two_processes_train_one_network(tmp_path, repository, arguments):
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir",
                str(tmp_path / "log")]
    run = started([*arguments, "--epochs", "2"], tmp_path / "run", repository, launcher)
    output = run.communicate()[0]
    logs = "\n".join(p.read_text() for p in (tmp_path / "log").glob("workerlog.*"))
    assert run.returncode == 0, output + logs
    rows = json.loads((tmp_path / "run" / "curves.json").read_text())
    assert ([row["epoch"] for row in rows] == [1, 2]
            and all(np.isfinite(row["loss"]) for row in rows))
    network = networks.build("cifar_mobilenet_v3_small", 10, 0.25)
    trained = state(tmp_path / "run")
    assert set(network.state_dict()) <= set(trained)
    assert not any(np.array_equal(trained[n], p.numpy()) for n, p in network.named_parameters()
                   if p.ndim == 4)
    assert paddle.distributed.get_world_size() == 1
