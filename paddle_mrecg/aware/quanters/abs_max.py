# SPDX-License-Identifier: Apache-2.0
"""Nothing learned: the range of the data sets the step. The baseline that
PaddleSlim's plain training uses.
"""
import numpy as np
import paddle

from ...grids import processes
from ...grids.quanter import SMALLEST_STEP, Quanter
from ...grids.samples import Samples
from ...grids.fake_quantize import FakeQuantize, Grid, power_of_two


class AbsMaxQuanter(Quanter):
    """``step = abs-max / qmax``: a weight's present one, an activation's moving
    average over training batches.

    With several processes the moving average takes the mean over them, so that all stay alike.

    Args: those of ``Quanter`` without ``init``, and
        momentum(float, optional): of the moving average. Default: 0.9, as in PaddleSlim.
        power_of_two(bool, optional): take the next larger power of two as step. Default: False.
    """

    def __init__(self, layer=None, *, momentum=0.9, power_of_two=False, **arguments):
        super().__init__(layer, **dict(arguments, init="abs_max"))
        self.momentum, self.power_of_two = momentum, power_of_two
        self.register_buffer("abs_max", paddle.ones([self.channels], "float32"))

    def step(self):
        step = paddle.clip(self.abs_max / float(self.qmax), min=SMALLEST_STEP)
        return power_of_two(paddle.ceil(paddle.log2(step))) if self.power_of_two else step

    def step_parameters(self):
        return []

    def _follow(self, x):
        axes = [k for k in range(x.ndim) if k != self.axis]
        with paddle.no_grad():
            now = x.detach().abs().max(axes).reshape([self.channels])
            if self.role == "activation":
                now = (self.abs_max * self.momentum
                       + processes.mean(now) * (1.0 - self.momentum))
            self.abs_max.set_value(now)

    def _start(self, samples: Samples):
        if self.role == "weight":
            super()._start(samples)
            return
        average = samples.average_abs_max(self.momentum)
        self.abs_max.set_value(np.array([average], np.float32))

    def _set_step(self, step):
        self.abs_max.set_value(np.asarray(step, np.float32) * np.float32(self.qmax))

    def _quantize(self, x):
        spec = self.spec
        return FakeQuantize.apply(x, self.step(), None, None,
                                  Grid(spec.qmin, spec.qmax, self.axis, margin=0.5))
