# SPDX-License-Identifier: Apache-2.0
"""A residual network with everything that training must handle, small enough for milliseconds."""
import numpy as np
import paddle
from paddle import nn

from paddle_mrecg.aware.job import quant_aware_prepare

CLASSES, SIDE = 5, 8


class Residual(nn.Layer):
    """Convolutions with and without bias and batch norm, depthwise, hardswish, a
    residual addition, Linear.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 8, 3, padding=1, bias_attr=False), nn.BatchNorm2D(8),
                                  nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2D(8, 8, 3, padding=1, groups=8), nn.BatchNorm2D(8),
                                       nn.ReLU())
        self.pointwise, self.norm = nn.Conv2D(8, 8, 1, bias_attr=False), nn.BatchNorm2D(8)
        self.plain, self.relu = (nn.Conv2D(8, 8, 3, stride=2, padding=1, padding_mode="replicate"),
                                 nn.ReLU())
        self.pool, self.head = nn.AdaptiveAvgPool2D(1), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        x = self.relu(x + self.norm(self.pointwise(self.depthwise(x))))
        return self.head(paddle.flatten(self.pool(self.relu(self.plain(x))), 1))


LAYERS = ["stem.0", "depthwise.0", "pointwise", "plain", "head"]


def images(count=8, seed=0):
    values = np.random.default_rng(seed).standard_normal((count, 3, SIDE, SIDE))
    return paddle.to_tensor(values.astype(np.float32))


def float_net(seed=0):
    """Weights of ``seed``; batch norms that have seen data."""
    paddle.seed(seed)
    net = Residual()
    for k in range(3):
        net(images(seed=100 + k))
    for parameter in net.parameters():  # scales and shifts that are not 1 and 0
        noise = np.random.default_rng(7).standard_normal(parameter.shape).astype(np.float32)
        parameter.set_value(parameter.numpy() + 0.1 * noise)
    return net


def prepared(config=None, calibration=True, seed=0):
    return quant_aware_prepare(float_net(seed), config,
                               [images(seed=k) for k in (1, 2)] if calibration else None)


def train(model, penalty, steps=3, lr=0.01, seed=20):
    """A few steps of plain SGD; returns the losses."""
    sgd = paddle.optimizer.SGD(lr, parameters=penalty.parameter_groups())
    losses = []
    model.train()
    for step in range(steps):
        penalty.on_epoch(step, steps)
        loss = model(images(seed=seed + step)).square().mean() + penalty()
        loss.backward()
        sgd.step()
        sgd.clear_grad()
        losses.append(loss.item())
    model.eval()
    return losses
