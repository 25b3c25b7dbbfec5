# SPDX-License-Identifier: Apache-2.0
"""MobileNetV1 1.0 224 (Howard et al. 2017) with TensorFlow's SAME padding, batch
norms folded, 1001 classes.
"""
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

# (output channels, stride) of the 13 depthwise-separable blocks
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
          (512, 1), (512, 1),
          (1024, 2), (1024, 1))


def _same_conv(in_channels, out_channels, stride, groups=1):
    # SAME at stride 2 on even sizes pads only below and on the right, as TensorFlow does
    padding = [0, 1, 0, 1] if stride == 2 else 1
    return nn.Conv2D(in_channels, out_channels, 3, stride=stride, padding=padding, groups=groups)


class MobileNetV1(nn.Layer):
    """Input [N, 3, 224, 224] RGB as x / 127.5 - 1; output [N, 1001] logits,
    class 0 being the background.
    """

    def __init__(self, num_classes: int = 1001):
        super().__init__()
        convs = [_same_conv(3, 32, 2)]
        channels = 32
        for width, stride in BLOCKS:
            convs += [_same_conv(channels, channels, stride, groups=channels),
                      nn.Conv2D(channels, width, 1)]
            channels = width
        self.convs = nn.LayerList(convs)
        self.classifier = nn.Conv2D(channels, num_classes, 1)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu6(conv(x))
        return paddle.flatten(self.classifier(F.adaptive_avg_pool2d(x, 1)), 1)


def load_weights(model: MobileNetV1, path) -> MobileNetV1:
    """Fill ``model`` from an npz with ``conv0`` ... ``conv27`` (OIHW) and set it to inference."""
    layers = [*model.convs, model.classifier]
    with np.load(path, allow_pickle=False) as arrays:
        for index, layer in enumerate(layers):
            layer.set_state_dict({part: arrays[f"conv{index}.{part}"]
                                  for part in ("weight", "bias")})
    model.eval()
    return model
