# SPDX-License-Identifier: Apache-2.0
"""A small model and its images for the tests of ``slim``."""
import numpy as np

import paddle
from paddle_mrecg.compat import framework_pb2, old_ir

SHAPE = (3, 8, 8)
RATE = 0.5  # learning rate of StaticNet
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


class DictNet(paddle.nn.Layer):
    """Takes a dict, as PaddleDetection's models do."""

    def __init__(self):
        super().__init__()
        self.net = TinyNet()

    def forward(self, inputs):
        return self.net(inputs["image"]) * inputs["scale_factor"][:, :1]


DICT_SPEC = [{"image": paddle.static.InputSpec([None, *SHAPE], "float32", "image"),
              "scale_factor": paddle.static.InputSpec([None, 2], "float32", "scale_factor")}]


def save_tiny(folder):
    """``TinyNet`` as a program of the form that all Paddles read; its directory."""
    paddle.seed(0)
    net = TinyNet()
    net.eval()
    with old_ir():
        paddle.jit.save(net, str(folder / "model"),
                        [paddle.static.InputSpec([None, *SHAPE], "float32", "x")])
    return str(folder)


def images(count=16, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def program(prefix):
    """Parameters and ops of a saved program, without names, which count up within a process."""
    desc = framework_pb2().ProgramDesc()
    with open(f"{prefix}.pdmodel", "rb") as file:
        desc.ParseFromString(file.read())
    ops = [(op.type,
            sorted(str(a) for a in op.attrs if a.name not in ("op_callstack", "op_namescope")))
           for op in desc.blocks[0].ops]
    with open(f"{prefix}.pdiparams", "rb") as file:
        return ops, file.read()


class StaticNet:
    """Two convolutions in a static program, its optimizer, and values by name."""

    def __init__(self, executor):
        self.executor, self.main, self.start = (executor, paddle.static.Program(),
                                                paddle.static.Program())
        self.main.random_seed = self.start.random_seed = 7
        with paddle.static.program_guard(self.main, self.start):
            x = paddle.static.data("x", [-1, *SHAPE])
            x.stop_gradient = False
            y = paddle.static.nn.conv2d(x, 6, 3, padding=1, act="relu")
            y = paddle.static.nn.conv2d(y, 4, 3, padding=1)
            self.loss = paddle.mean(y * y)
            self.test, self.output = self.main.clone(for_test=True), y
            paddle.optimizer.SGD(RATE).minimize(self.loss)
        executor.run(self.start)

    def weights(self):
        return {p.name: self.value(p.name) for p in self.main.all_parameters()}

    @staticmethod
    def value(name):
        return np.array(paddle.static.global_scope().find_var(name).get_tensor())

    def step(self, program, seed=0):
        return self.executor.run(program, feed={"x": images(8, seed)}, fetch_list=[self.loss])[0]


def train(model, penalty=None, steps=2):
    """A training loop of a host, with or without a penalty."""
    model.train()
    optimizer = paddle.optimizer.SGD(0.01, parameters=model.parameters())
    for seed in range(steps):
        loss = model(paddle.to_tensor(images(8, seed))).square().mean()
        (loss + penalty() if penalty else loss).backward()
        optimizer.step()
        optimizer.clear_grad()
