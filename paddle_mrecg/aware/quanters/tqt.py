# SPDX-License-Identifier: Apache-2.0
"""Trained quantization thresholds with power-of-two steps (TQT, Jain et al., arXiv 1903.08066)."""
import math

import numpy as np
import paddle
from paddle.autograd import PyLayer

from ...grids.quanter import Quanter
from ...grids.fake_quantize import FakeQuantize, Grid, power_of_two


class TQTQuanter(Quanter):
    """Fake quantizer whose step is a power of two, so that a device rescales by shifting.

    The threshold ``t`` is trained as ``log2 t``: ``step = 2^ceil(log2 t) /
    2^(b-1)``, or ``/ 2^b`` on an unsigned grid, and ``ceil`` passes gradients,
    so that ``dy/dlog2 t = step ln 2 (round(x/s) - x/s | qmin | qmax)``. What
    counts as inside is decided after rounding, as in the paper; halves round to
    the even code, which adds no bias. The gradient carries LSQ's factor ``1 /
    sqrt(N qmax)``: nothing to Adam, which the paper uses, but SGD needs it.

    Args: those of ``Quanter``.
    """

    def __init__(self, layer=None, **arguments):
        super().__init__(layer, **arguments)
        zero = paddle.nn.initializer.Constant(0.0)
        self.log2_threshold = self.create_parameter([self.channels], dtype="float32",
                                                    default_initializer=zero)

    def step(self):
        return _PowerOfTwo.apply(self.log2_threshold.cast("float32"), self._levels_log2())

    def _levels_log2(self) -> int:
        return self.bits - 1 if self.signed else self.bits

    def _set_step(self, step):
        # In the middle of the power of two that is nearest in the logarithm:
        # small changes keep the step.
        log2 = np.round(np.log2(np.asarray(step, np.float64))) + self._levels_log2() - 0.5
        self.log2_threshold.set_value(log2.astype(self.log2_threshold.numpy().dtype))

    def _quantize(self, x):
        spec = self.spec
        grid = Grid(spec.qmin, spec.qmax, self.axis, self.gradient_scale(x), margin=0.5)
        return FakeQuantize.apply(x, self.step(), None, None, grid)


class _PowerOfTwo(PyLayer):
    """``2^(ceil(v) - levels_log2)``, the gradient as if ``ceil`` were not there."""

    @staticmethod
    def forward(ctx, log2_threshold, levels_log2):
        step = power_of_two(paddle.ceil(log2_threshold) - float(levels_log2))
        ctx.save_for_backward(step)
        return step

    @staticmethod
    def backward(ctx, grad):
        step, = ctx.saved_tensor()
        return grad * step * math.log(2.0)
