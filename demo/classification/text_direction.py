# SPDX-License-Identifier: Apache-2.0
"""PP-OCR's text direction classifier for training: its network with the released weights, and
rendered lines of text. A line is 48 x 192 pixels, upright or turned by 180 degrees.

The network is MobileNetV3-small x 0.35 with the strides of PaddleOCR
(``ppocr/modeling/backbones/rec_mobilenet_v3.py``), which halve the height only.
"""
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from demo import sources
from demo.classification.training.data import DataSets, ImageArrays, View

SHAPE, SCALE, CLASSES = (3, 48, 192), 0.35, 2
MEAN = (0.5, 0.5, 0.5)  # and deviation, of PP-OCR's input
UNITS = [  # kernel, expanded channels, channels, squeeze-and-excitation, activation, stride
    (3, 16, 16, True, "relu", (2, 1)),
    (3, 72, 24, False, "relu", (2, 1)),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", (2, 1)),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", (2, 1)),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
]
LAST = 576


def channels(count: int) -> int:
    """``count`` scaled, and rounded to a multiple of eight."""
    scaled = count * SCALE
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def hardswish(x):
    """``F.hardswish``, whose gradient takes Paddle's CPU kernel twice as long."""
    return x * F.hardsigmoid(x)


class ConvNorm(nn.Layer):
    """Convolution, batch norm and, where one is named, an activation."""

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1, activation=None):
        super().__init__()
        self.conv = nn.Conv2D(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups,
                              bias_attr=False)
        self.norm = nn.BatchNorm2D(outputs)
        self.activation = {None: None, "relu": F.relu, "hardswish": hardswish}[activation]

    def forward(self, x):
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


class SqueezeExcite(nn.Layer):
    """A factor for every channel, from all channels' means."""

    def __init__(self, count):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.squeeze, self.excite = nn.Conv2D(count, count // 4, 1), nn.Conv2D(count // 4, count, 1)

    def forward(self, x):
        y = F.relu(self.squeeze(self.pool(x)))
        return x * F.hardsigmoid(self.excite(y), slope=0.2, offset=0.5)


class Unit(nn.Layer):
    """Expand, filter channel by channel, project; around it a shortcut where shapes allow it."""

    def __init__(self, inputs, kernel, middle, outputs, squeezes, activation, stride):
        super().__init__()
        layers = [ConvNorm(inputs, middle, 1, activation=activation),
                  ConvNorm(middle, middle, kernel, stride, middle, activation)]
        layers += [SqueezeExcite(middle)] if squeezes else []
        self.body = nn.Sequential(*layers, ConvNorm(middle, outputs, 1))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.shortcut else self.body(x)


class TextDirection(nn.Layer):
    """Logits of upright and turned."""

    def __init__(self):
        super().__init__()
        inputs, layers = channels(16), [ConvNorm(3, channels(16), 3, 2, activation="hardswish")]
        for kernel, middle, outputs, squeezes, activation, stride in UNITS:
            layers.append(Unit(inputs, kernel, channels(middle), channels(outputs), squeezes,
                               activation, stride))
            inputs = channels(outputs)
        self.body = nn.Sequential(*layers, ConvNorm(inputs, channels(LAST), 1,
                                                    activation="hardswish"),
                                  nn.MaxPool2D(2, 2), nn.AdaptiveAvgPool2D(1), nn.Flatten())
        self.head = nn.Linear(channels(LAST), CLASSES)

    def forward(self, x):
        return self.head(self.body(x))


def build() -> nn.Layer:
    """The network with the weights of the released program, in evaluation mode. Its batch norms
    keep their running statistics while it trains: those of 64 rendered lines raise the float
    network's loss from 0.21 to 0.76.
    """
    from demo.hosts.released_weights import load_released
    network = TextDirection()
    load_released(network, sources.model_dir("ppocr_cls"), paddle.zeros([1, *SHAPE]))
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._use_global_stats = True
    network.eval()
    return network


def load(folder: str, num_train: int, num_test: int) -> DataSets:
    """Lines to train on and held-out lines, rendered once into ``folder``."""
    return DataSets(_rendered("calibration", num_train, 1000, Path(folder)),
                    _rendered("evaluation", num_test, 0, Path(folder)), CLASSES,
                    View(SHAPE[1:], 0, False, MEAN, MEAN))


def _rendered(split: str, count: int, seed: int, folder: Path) -> ImageArrays:
    from demo.quickstart.render import rendered_set
    path = folder / f"{split}_{count}_{seed}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        images, labels = rendered_set(split, count, seed)
        part = path.with_suffix(".part.npz")
        np.savez(part, labels=labels, images=np.round((images + 1.0) * 127.5).astype(np.uint8))
        part.replace(path)
    with np.load(path) as kept:
        return ImageArrays(kept["images"], kept["labels"])
