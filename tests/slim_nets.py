# SPDX-License-Identifier: Apache-2.0
"""A small model and its images for the tests of ``slim``."""
import numpy as np

import paddle
from paddle_mrecg.compat import framework_pb2

SHAPE = (3, 8, 8)
# A job that takes a second.
FAST = dict(preset="fast", num_iters=10, mrecg_batch_size=8, visualdl=False)


class TinyNet(paddle.nn.Layer):
    """Two convolutions, a batch norm, a residual addition and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = paddle.nn.Conv2D(3, 6, 3, padding=1, bias_attr=False)
        self.bn = paddle.nn.BatchNorm2D(6)
        self.relu = paddle.nn.ReLU()
        self.conv2 = paddle.nn.Conv2D(6, 6, 3, padding=1)
        self.pool = paddle.nn.AdaptiveAvgPool2D(2)
        self.fc = paddle.nn.Linear(24, 4)

    def forward(self, x):
        x = self.relu(self.bn(self.conv1(x)))
        x = self.relu(self.conv2(x) + x)
        return self.fc(paddle.flatten(self.pool(x), 1))


def images(count=16, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def program(prefix):
    """Parameters and ops of a saved program, without names, which count up within a process."""
    desc = framework_pb2().ProgramDesc()
    with open(f"{prefix}.pdmodel", "rb") as file:
        desc.ParseFromString(file.read())
    ops = [(op.type, sorted(str(a) for a in op.attrs if a.name not in ("op_callstack", "op_namescope")))
           for op in desc.blocks[0].ops]
    with open(f"{prefix}.pdiparams", "rb") as file:
        return ops, file.read()
