# SPDX-License-Identifier: Apache-2.0
"""The quantizer of one activation while a unit is reconstructed: its scale (LSQ, arXiv 1902.08153)
or its clip (PACT, arXiv 1805.06085) may learn, and QDrop may leave elements float.

What counts as inside the grid is decided after rounding, as in PyTorch's learnable fake-quantize
kernel, BRECQ and QDrop; the maths is in ``grids/fake_quantize.py``.
"""
import dataclasses
from typing import List, Optional

import numpy as np
import paddle

from ..errors import ConfigError
from ..grids.affine import Encoding
from ..grids.fake_quantize import FakeQuantize, Grid

CLIPS = ("none", "symmetric_pact")
_SMALLEST = 1e-10


class ActivationQuantizer:
    """Per-tensor fake quantizer whose scale may be trained.

    Args:
        encoding(Encoding): the starting grid, without axis.
        learn(bool, optional): train the scale (or alpha). Default: False.
        clip(str, optional): 'none' trains the scale by LSQ; 'symmetric_pact'
            trains a clip alpha that sets the scale, and replaces a grid with a
            zero point by a symmetric one of the same reach. Default: 'none'.
        grad_scale(float, optional): factor on the gradient of the scale; LSQ
            and QDrop's code use 1/sqrt(values * qmax), MQBench's QDrop 1. Default: 1.0.

    Raises:
        ConfigError: a per-channel encoding, or unknown ``clip``.

    Examples:
        >>> from paddle_mrecg.grids.affine import QuantSpec
        >>> quantizer = ActivationQuantizer(Encoding(QuantSpec(2, True, True), 1.0, 0), learn=True)
        >>> quantizer(paddle.to_tensor([-3.0, 0.4, 0.6, 3.0])).numpy().tolist()
        [-2.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, encoding: Encoding, learn: bool = False, clip: str = "none",
                 grad_scale: float = 1.0):
        if encoding.spec.axis is not None:
            raise ConfigError("activations are quantized per tensor; use an encoding without axis")
        if clip not in CLIPS:
            raise ConfigError(f"unknown activation clip '{clip}'; choose one of {', '.join(CLIPS)}")
        self.learn = learn
        clips = learn and clip == "symmetric_pact"
        self._encoding = _without_zero_point(encoding) if clips else encoding
        spec = self._encoding.spec
        self._grid = Grid(spec.qmin, spec.qmax, grad_scale=grad_scale, margin=0.5,
                          unit=float(spec.qmax) if clips else 1.0, clip=clips, by_dots=True)
        self.parameter = None
        if learn:  # the scale, or alpha = qmax * scale
            start = paddle.nn.initializer.Constant(float(self._encoding.scale) * self._grid.unit)
            self.parameter = paddle.create_parameter([1], "float32", default_initializer=start)

    def parameters(self) -> List[paddle.Tensor]:
        """The trainable scale or alpha, shape ``[1]``; empty when nothing is learned."""
        return [self.parameter] if self.learn else []

    def __call__(self, x: paddle.Tensor, mask: Optional[paddle.Tensor] = None,
                 float_x: paddle.Tensor = None) -> paddle.Tensor:
        """Quantize ``x``.

        Args:
            x(Tensor): float32, any shape.
            mask(Tensor, optional): same shape, zeros and ones; elements under a zero take
                ``float_x`` (QDrop). Default: None, all are quantized.
            float_x(Tensor, optional): same shape as ``x``. Default: None, ``x`` itself.
        """
        step = self._positive() if self.learn else float(self._encoding.scale)
        return FakeQuantize.apply(x, step, None, float(self._encoding.zero_point), self._grid, mask,
                                  float_x)

    def _positive(self) -> paddle.Tensor:
        """The parameter, made positive again where an optimizer pushed it below zero."""
        if not self.parameter.place.is_cpu_place():  # looking at it would wait for the device
            with paddle.no_grad():  # set_value would go through the host on Paddle 2.6
                paddle.assign(paddle.clip(self.parameter.abs(), min=_SMALLEST), self.parameter)
        elif self.parameter.item() < _SMALLEST:
            value = max(abs(self.parameter.item()), _SMALLEST)
            self.parameter.set_value(np.array([value], np.float32))
        return self.parameter

    def scale(self) -> float:
        """The current step size."""
        if not self.learn:
            return float(self._encoding.scale)
        return float(np.float32(self._positive().item() / self._grid.unit))

    def encoding(self) -> Encoding:
        """The current grid.

        Raises:
            DataError: training drove the scale to NaN or Inf.
        """
        return Encoding(self._encoding.spec, np.float32(self.scale()), self._encoding.zero_point)


def _without_zero_point(encoding: Encoding) -> Encoding:
    """The grid without zero point that reaches as far."""
    spec, (low, high) = encoding.spec, encoding.range
    if not encoding.zero_point.any() and not (spec.signed and not spec.symmetric):
        return Encoding(dataclasses.replace(spec, symmetric=True), encoding.scale, 0)
    spec = dataclasses.replace(spec, signed=True, symmetric=True)
    return Encoding(spec, max(-low, high) / spec.qmax, 0)
