# SPDX-License-Identifier: Apache-2.0
"""Learned step size quantization (LSQ, Esser et al., arXiv 1902.08153)."""
import numpy as np
import paddle

from ...grids.quanter import SMALLEST_STEP, Quanter
from ...grids.fake_quantize import FakeQuantize, Grid


class LSQQuanter(Quanter):
    """Fake quantizer that trains its step.

    The gradient of the step is scaled by ``g = 1 / sqrt(N qmax)``, which makes
    the ratio of update to value alike for steps and weights. A step that the
    optimizer pushes below zero is used by its magnitude.

    Args: those of ``Quanter``.

    Examples:
        >>> quanter = LSQQuanter(bits=2, role="weight", init="abs_max")
        >>> quanter(paddle.to_tensor([-3.0, 0.4, 0.6, 1.0])).numpy().tolist()
        [-3.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, layer=None, **arguments):
        super().__init__(layer, **arguments)
        one = paddle.nn.initializer.Constant(1.0)
        self.scale = self.create_parameter([self.channels], dtype="float32",
                                           default_initializer=one)

    def step(self):
        scale = self.scale
        scale = scale if scale.dtype == paddle.float32 else scale.cast("float32")
        return paddle.clip(paddle.abs(scale), min=SMALLEST_STEP)

    def _set_step(self, step):
        self.scale.set_value(np.asarray(step, np.float32).astype(self.scale.numpy().dtype))

    def _quantize(self, x):
        spec = self.spec
        grid = Grid(spec.qmin, spec.qmax, self.axis, self.gradient_scale(x))
        return FakeQuantize.apply(x, self.step(), None, None, grid)
