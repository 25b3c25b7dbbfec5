# SPDX-License-Identifier: Apache-2.0
"""Yolo-Fastest as a Paddle network, built from darknet's own two files: a ``.cfg`` of
layers and a ``.weights``.

The network ends at the raw heads; sigmoid, anchors and suppression are ``boxes.py``, outside of
the graph as in deployment.
"""
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

EPSILON = 1e-5  # darknet's batch norm
ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
}
# layers that compute nothing here; they count in the numbering all the same
PASSES = ("dropout", "yolo")


class Section(NamedTuple):
    """One ``[kind]`` of a cfg with its settings as text."""

    kind: str
    settings: Dict[str, str]

    def number(self, key: str, default: int = 0) -> int:
        return int(self.settings.get(key, default))

    def numbers(self, key: str) -> List[int]:
        return [int(word) for word in self.settings[key].split(",")]


class Head(NamedTuple):
    """What decoding one output needs.

    Attributes:
        anchors(np.ndarray): [A, 2] widths and heights in pixels of the network's input.
        classes(int): how many.
        scale_xy(float): stretch of the centre's sigmoid around the middle of its cell.
    """

    anchors: np.ndarray
    classes: int
    scale_xy: float


def parse_cfg(path: Path) -> List[Section]:
    """The sections of a darknet cfg in order; ``[net]`` is the first."""
    sections: List[Section] = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            sections.append(Section(line.strip("[]"), {}))
        elif line:
            key, _, value = line.partition("=")
            sections[-1].settings[key.strip()] = value.strip()
    return sections


def read_heads(path: Path) -> List[Head]:
    """The ``[yolo]`` sections of a cfg, in the order of the network's outputs."""
    heads = []
    for section in parse_cfg(path):
        if section.kind == "yolo":
            anchors = np.array(section.numbers("anchors"),
                               np.float32).reshape(-1, 2)[section.numbers("mask")]
            heads.append(Head(anchors, section.number("classes"),
                              float(section.settings.get("scale_x_y", 1))))
    return heads


class Convolution(nn.Layer):
    """Convolution, batch norm if the cfg wants it, activation."""

    def __init__(self, channels: int, section: Section):
        super().__init__()
        self.filters, size = section.number("filters"), section.number("size", 1)
        padding = size // 2 if section.number("pad") else section.number("padding")
        norm = section.number("batch_normalize")
        self.conv = nn.Conv2D(channels, self.filters, size, section.number("stride", 1), padding,
                              groups=section.number("groups", 1), bias_attr=False if norm else None)
        self.bn = nn.BatchNorm2D(self.filters, epsilon=EPSILON) if norm else None
        self.activation = ACTIVATIONS[section.settings.get("activation", "linear")]

    def forward(self, x):
        x = self.conv(x)
        return self.activation(x if self.bn is None else self.bn(x))

    def parameters_in_file_order(self) -> List[paddle.Tensor]:
        """darknet writes shift, scale, mean, variance and then the kernel."""
        norm = ([self.conv.bias] if self.bn is None
                else [self.bn.bias, self.bn.weight, self.bn._mean, self.bn._variance])
        return [*norm, self.conv.weight]


class YoloFastest(nn.Layer):
    """A detector of darknet's.

    Args:
        cfg(Path): with convolutional, route, shortcut, upsample, maxpool, dropout and yolo layers.

    Input [N, 3, H, W] RGB in 0 to 1; one output [N, anchors * (5 + classes), h, w] per ``[yolo]``.

    Raises:
        ValueError: the cfg has another kind of layer.
    """

    def __init__(self, cfg: Path):
        super().__init__()
        net, *self.sections = parse_cfg(cfg)
        self.input_shape = (net.number("channels"), net.number("height"), net.number("width"))
        widths: List[int] = []  # channels that each layer gives
        self.blocks = nn.LayerList()
        # the layers that each layer reads, counted from 0; -1 is the input
        self.sources: List[Tuple[int, ...]] = []
        for index, section in enumerate(self.sections):
            reads = self._reads(index, section)
            channels = [widths[k] if k >= 0 else self.input_shape[0] for k in reads]
            block, width = self._block(section, channels)
            self.blocks.append(block)
            self.sources.append(reads)
            widths.append(width)

    @staticmethod
    def _reads(index: int, section: Section) -> Tuple[int, ...]:
        key = {"route": "layers", "shortcut": "from"}.get(section.kind)
        named = [k if k >= 0 else index + k for k in section.numbers(key)] if key else []
        return tuple(named) if section.kind == "route" else (index - 1, *named)

    @staticmethod
    def _block(section: Section, channels: List[int]):
        """What a layer computes, and its output's channels."""
        kind, stride = section.kind, section.number("stride", 1)
        if kind == "convolutional":
            return Convolution(channels[0], section), section.number("filters")
        if kind == "maxpool":
            size = section.number("size", stride)
            before = section.number("padding", size - 1) // 2
            after = section.number("padding", size - 1) - before
            return (nn.MaxPool2D(size, stride, before if before == after
                                 else [before, after, before, after]), channels[0])
        if kind == "upsample":
            return (nn.Upsample(scale_factor=section.number("stride", 2), mode="nearest"),
                    channels[0])
        if kind in ("route", "shortcut", *PASSES):
            groups = section.number("groups", 1) if kind == "route" else 1
            if any(n % groups for n in channels):
                raise ValueError(f"a route of {channels} channels has no {groups} equal groups")
            return nn.Identity(), sum(channels) // groups if kind == "route" else channels[0]
        raise ValueError(f"darknet layer [{kind}] is not supported")

    @staticmethod
    def _route(section: Section, values):
        """Of every source the channels of one group, side by side."""
        groups, chosen = section.number("groups", 1), section.number("group_id")
        values = [v if groups == 1 else paddle.split(v, groups, axis=1)[chosen] for v in values]
        return values[0] if len(values) == 1 else paddle.concat(values, axis=1)

    def forward(self, x):
        outputs, heads = [], []
        for section, block, reads in zip(self.sections, self.blocks, self.sources):
            values = [outputs[k] if k >= 0 else x for k in reads]
            if section.kind == "route":
                value = self._route(section, values)
            elif section.kind == "shortcut":
                value = ACTIVATIONS[section.settings.get("activation",
                                                         "linear")](values[0] + values[1])
            else:
                value = block(values[0])
            outputs.append(value)
            if section.kind == "yolo":
                heads.append(value)
        return heads


def load_weights(model: YoloFastest, path: Path) -> YoloFastest:
    """Fill ``model`` from a darknet ``.weights`` file and set it to inference.

    Raises:
        ValueError: the file holds more or fewer numbers than the network.
    """
    content = Path(path).read_bytes()
    major, minor = np.frombuffer(content, np.int32, 2)
    header = 20 if major * 10 + minor >= 2 else 16  # the count of images seen grew to 64 bits
    numbers = np.frombuffer(content, np.float32, offset=header)
    tensors = [t for b in model.blocks if isinstance(b, Convolution)
               for t in b.parameters_in_file_order()]
    wanted = sum(int(np.prod(t.shape)) for t in tensors)
    if len(numbers) != wanted:
        raise ValueError(f"{path} has {len(numbers)} numbers, the network {wanted}")
    for tensor in tensors:
        count = int(np.prod(tensor.shape))
        tensor.set_value(numbers[:count].reshape(tensor.shape))
        numbers = numbers[count:]
    model.eval()
    return model
