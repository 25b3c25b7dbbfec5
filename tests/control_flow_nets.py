# SPDX-License-Identifier: Apache-2.0
"""Small networks with loops and branches that depend on data, as heads of detectors have them."""
import paddle
from paddle import nn

SHAPE = (3, 8, 8)
SPEC = [paddle.static.InputSpec([None, *SHAPE], "float32", "x")]


class _Net(nn.Layer):

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4)
        self.fc = nn.Linear(4, 4)


class Loop(_Net):
    """Two variables of the loop change places in every step (Paddle 2.6's exporter gives them their
    next values one after the other, in any order).
    """

    def forward(self, x):
        y = nn.functional.relu(self.norm(self.conv(x)))
        a = y.mean([2, 3])
        b, i = a * 2, paddle.zeros([1], "int64")
        while i < 3:
            a, b = b, self.fc(a) + paddle.to_tensor([0.1, 0.2, 0.3, 0.4])
            i = i + 1
        return a + b * 0.5, y


class Branch(_Net):
    """One side is far above the other."""

    def forward(self, x):
        y = self.conv(x).mean([2, 3])
        if y.mean() > 0:
            z = y + 100
        else:
            z = self.fc(y)
        return z


class Nested(_Net):
    """A branch in a loop, whose result the loop goes on with."""

    def forward(self, x):
        y = self.conv(x).mean([2, 3])
        i = paddle.zeros([1], "int64")
        while i < 4:
            if y.mean() > 0.1:
                y = y - 0.2
            else:
                y = self.fc(y) + 0.3
            i = i + 1
        return y


class Arrays(_Net):
    """A list of results, one for each sample, and a layer behind the loop."""

    def forward(self, x):
        y, found = self.conv(x), []
        for k in range(x.shape[0]):
            found.append(self.norm(y)[k] * 2)
        return self.fc(paddle.stack(found).mean([2, 3])) + found[0].mean()


class Decoder(_Net):
    """Writes one step after the other into its result, as table recognizers do."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 4)

    def forward(self, x):
        y = nn.functional.relu(self.conv(x)).mean([2, 3])
        found = paddle.zeros([paddle.shape(y)[0], 5, 4])
        state, i, steps = paddle.zeros_like(y), 0, paddle.shape(y)[1] + 1
        while i < steps:
            step, state = self.cell(y, state)
            found[:, i] = step
            y = self.fc(step) + nn.functional.one_hot(step.argmax(-1), 4)
            i = i + 1
        return nn.functional.softmax(found, -1)


class Inside(_Net):
    """Nothing stands in front of the branch."""

    def forward(self, x):
        if x.mean() > 0:
            y = self.conv(x)
        else:
            y = self.conv(-x)
        return y


NETS = {"Loop": Loop, "Branch": Branch, "Nested": Nested, "Arrays": Arrays, "Decoder": Decoder}
