# SPDX-License-Identifier: Apache-2.0
"""Learned step and offset for activations (LSQ+, Bhalgat et al., arXiv 2004.09576)."""
import numpy as np
import paddle

from ...errors import ConfigError
from ...grids.affine import QuantSpec
from ...grids.ranges import grid as covering_grid
from ...grids.samples import Samples, initial_range
from ...grids.fake_quantize import FakeQuantize, Grid
from .lsq import LSQQuanter


class LSQPlusQuanter(LSQQuanter):
    """LSQ with a trained offset, for activations such as those of swish whose small negative
    part a signed grid wastes.

    The paper's offset is a real number; here the grid's zero point ``z =
    round(-offset / step)`` is an integer in ``0 .. 2^b - 1``, so that 0.0 and
    padding stay exact and programs can express the grid. A zero point is for
    simulation only: Paddle Lite's int8 kernels have none. Step and offset
    start from the least error.

    Args: those of ``Quanter``, and
        offset(bool, optional): False trains the step alone, on a signed or
            unsigned grid as in LSQ. Default: True.

    Raises:
        ConfigError: an offset on weights, on a signed grid, or with an ``init`` of LSQ.
    """

    def __init__(self, layer=None, *, offset=True, signed=None, **arguments):
        if (offset
            and (arguments.get("role") == "weight" or signed
                 or arguments.get("init", "mse") == "lsq")):
            raise ConfigError("an offset is for activations on an unsigned grid whose range starts "
                              "from mse or abs_max; drop role, signed and init, "
                              "or set offset to False")
        super().__init__(layer, signed=False if offset else signed, **arguments)
        self.offset = None
        self.symmetric = not offset
        if offset:
            self.offset = self.create_parameter(
                [1], dtype="float32", default_initializer=paddle.nn.initializer.Constant(0.0)
            )

    def zero_points(self):
        return self._zero(self.step()) if self.offset is not None else super().zero_points()

    def _zero(self, step):
        with paddle.no_grad():
            return paddle.clip(paddle.round(-self.offset.cast("float32") / step), 0,
                               2**self.bits - 1)

    def _start(self, samples: Samples):
        if self.offset is None:
            super()._start(samples)
            return
        spec = QuantSpec(self.bits, False, False)
        step, zero = covering_grid(*initial_range(samples, spec, self.init), spec)
        self._set_step(step)
        self.offset.set_value(np.asarray(-zero * step,
                                         np.float32).astype(self.offset.numpy().dtype))

    def _quantize(self, x):
        if self.offset is None:
            return super()._quantize(x)
        step, spec = self.step(), self.spec
        grid = Grid(spec.qmin, spec.qmax, None, self.gradient_scale(x))
        return FakeQuantize.apply(x, step, self.offset.cast("float32"), self._zero(step), grid)
