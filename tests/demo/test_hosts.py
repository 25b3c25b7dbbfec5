# SPDX-License-Identifier: Apache-2.0
"""The demo of hosts: released weights find their layers, and a missing clone is one sentence."""
import numpy as np
import pytest
import yaml

import paddle
from demo.hosts import paddleocr_cls
from demo.hosts.released_weights import load_released
from paddle_mrecg.errors import ModelError
from tests import training_nets


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A network and the program that was exported of it, batch norms in place."""
    net = training_nets.float_net(seed=3)
    net.eval()
    prefix = str(tmp_path_factory.mktemp("released") / "inference")
    paddle.jit.save(net, prefix,
                    [paddle.static.InputSpec([None, 3, training_nets.SIDE, training_nets.SIDE],
                                             "float32", "x")])
    return net, prefix


def test_released_weights_find_their_layers(released):
    net, prefix = released
    other = training_nets.float_net(seed=8)
    x = training_nets.images(2)
    assert load_released(other, prefix, x) == len(other.state_dict())
    assert other.training and other.norm.training
    other.eval()
    np.testing.assert_allclose(other(x).numpy(), net(x).numpy(), atol=1e-6)


def test_another_architecture_is_refused(released):
    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 8, 3), paddle.nn.BatchNorm2D(8))
    with pytest.raises(ModelError, match="another architecture"):
        load_released(net, released[1], training_nets.images(1))
    wide = training_nets.float_net()
    wide.head = paddle.nn.Linear(8, 7)
    with pytest.raises(ModelError, match="'head.weight' has shape"):
        load_released(wide, released[1], training_nets.images(1))


def test_data_and_config_are_what_paddleocr_reads(tmp_path):
    paddleocr_cls.render_data(tmp_path / "data", {"train": 3, "test": 2})
    rows = [row.split("\t") for row in (tmp_path / "data" / "train.txt").read_text().splitlines()]
    assert ([row[1] for row in rows] == ["0", "180", "0"]
            and all((tmp_path / "data" / row[0]).exists() for row in rows))
    config = yaml.safe_load(yaml.safe_dump(paddleocr_cls.host_config(tmp_path, 4, 1e-3)))
    assert config["Train"]["dataset"]["label_file_list"] == [str(tmp_path / "data" / "train.txt")]


def test_a_missing_clone_is_one_sentence(tmp_path, capsys):
    assert paddleocr_cls.main(["--paddleocr", str(tmp_path)]) == 2
    assert "give --paddleocr a clone of PaddleOCR" in capsys.readouterr().err


def test_methods_have_strategy_files_that_are_there(repository):
    assert all(file is None or (repository / file).exists()
               for file in paddleocr_cls.METHODS.values())
    assert set(paddleocr_cls.METHODS) == set(paddleocr_cls.BITS)
