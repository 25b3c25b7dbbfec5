# SPDX-License-Identifier: Apache-2.0
"""What the small networks are made of."""
import paddle.nn as nn


def conv(i, o, kernel=3, stride=1, groups=1, act=nn.ReLU):
    """Convolution, batch norm, activation."""
    layers = [nn.Conv2D(i, o, kernel, stride, kernel // 2, groups=groups, bias_attr=False)]
    return nn.Sequential(*layers, nn.BatchNorm2D(o), *([act()] if act else []))


class Of(nn.Layer):
    """Layers by name and a function of them and the input."""

    def __init__(self, function, **layers):
        super().__init__()
        self._function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self._function(self, x)
