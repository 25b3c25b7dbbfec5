# SPDX-License-Identifier: Apache-2.0
"""Layers whose result no sample changes stay float, and the report says so."""
import numpy as np
import paddle
import pytest

import paddle_mrecg
from paddle_mrecg.errors import ModelError

SETTINGS = {"Global": {"visualdl": False, "tune_cpu": False}, "MRECG": {"preset": "none"},
            "Data": {"num_samples": 8, "batch_size": 4}}


class Positions(paddle.nn.Layer):
    """Adds a linear layer of the pixels' places, made from the size of the feature map."""

    def __init__(self, image_too):
        super().__init__()
        self.conv, self.places = paddle.nn.Conv2D(3, 4, 3, padding=1), paddle.nn.Linear(2, 4)
        self.image_too = image_too

    def forward(self, x):
        height, width = paddle.shape(x)[2], paddle.shape(x)[3]
        ys, xs = paddle.meshgrid(paddle.arange(height), paddle.arange(width))
        places = self.places(paddle.stack([ys, xs], -1).astype("float32"))
        y = self.conv(x) if self.image_too else x.mean(1, keepdim=True)
        return y + places.transpose([2, 0, 1]).unsqueeze(0)


def quantize(layer, folder):
    paddle.seed(2)
    layer.eval()
    rows = np.random.RandomState(0).uniform(-1, 1, [8, 3, 8, 8]).astype("float32")
    spec = [paddle.static.InputSpec([-1, 3, 8, 8], "float32", "x")]
    return paddle_mrecg.quant_post_mrecg((layer, spec), [[rows[:4]], [rows[4:]]], SETTINGS,
                                         save_dir=str(folder / "out")).report


def test_layers_that_no_sample_changes_stay_float_and_are_named(tmp_path):
    report = quantize(Positions(True), tmp_path)
    assert len(report.weights) == 1
    (name, reason), = report.float_tensors.items()
    assert name.startswith("linear") and "does not depend on the samples" in reason
    assert "of all weights" in reason
    assert report.verification["verdict"] == "agrees"


def test_nothing_but_such_layers_is_refused(tmp_path):
    with pytest.raises(ModelError, match="depend on no input"):
        quantize(Positions(False), tmp_path)
    assert not (tmp_path / "out").exists()
