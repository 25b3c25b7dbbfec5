# SPDX-License-Identifier: Apache-2.0
"""The command line of deployment: where it takes its samples from, and what it refuses."""
import argparse

import numpy as np
import pytest
from PIL import Image

import paddle
from paddle_mrecg.cli import main as cli
from paddle_mrecg.cli.deploy import _calibration
from paddle_mrecg.config import Config
from paddle_mrecg.config.io import save_config
from paddle_mrecg.deploy.predictor import Predictor

from tests.tiny import tiny_graph


def test_check_takes_fewer_samples_than_a_training_step(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for k in range(6):
        Image.fromarray(np.full((8, 8, 3), 40 * k, np.uint8)).save(images / f"{k}.png")
    config = Config()
    config.data.image_dir, config.data.input_shape = str(images), [3, 8, 8]
    config.mrecg.batch_size = 64
    save_config(config, str(tmp_path / "resolved_config.yaml"))
    samples = _calibration(argparse.Namespace(model_dir=str(tmp_path), num_samples=4), tiny_graph())
    assert [v.shape for v in samples.values()] == [(4, 3, 8, 8)]


@pytest.mark.parametrize("command", [["export", "--target", "inference"], ["check"]])
def test_a_missing_model_is_one_sentence_and_exit_code_2(command, tmp_path, capsys):
    assert cli.main([*command, str(tmp_path / "nothing")]) == 2
    printed = capsys.readouterr()
    assert "nothing" in printed.err and "Traceback" not in printed.err + printed.out


@pytest.mark.parametrize("words",
                         ["export --target onnx model {}", "export model {} --target onnx",
                          "check model {} --json",
                          "lite-env {}", "lite-env --dir place {}"])
def test_a_setting_that_nothing_would_read_is_refused(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words.format("QuantPost.weight_bits=3").split())
    message = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == 2
    assert (f"{words.split()[0]} reads no settings, so 'QuantPost.weight_bits=3' has no "
            "effect: leave it out" in message)


@pytest.mark.parametrize("stem", ["inference", "model"])
def test_a_float_program_of_paddle_3_becomes_a_pdmodel(stem, tmp_path, capsys):
    """Under the name that it had: scripts look for it."""
    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.Sigmoid())
    net.eval()
    paddle.jit.save(net, str(tmp_path / "float" / stem),
                    [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")])
    assert (cli.main(["export", "--target", "inference", str(tmp_path / "float"), "--output",
                      str(tmp_path / "out")]) == 0)
    x = np.ones((2, 3, 8, 8), np.float32)
    np.testing.assert_allclose(Predictor(str(tmp_path / "out" / stem))(x)[0],
                               net(paddle.to_tensor(x)).numpy(), atol=1e-6)
    assert (cli.main(["export", "--target", "onnx", str(tmp_path / "float"), "--output",
                      str(tmp_path / "onnx")]) == 2)
    assert "is not quantized" in capsys.readouterr().err
