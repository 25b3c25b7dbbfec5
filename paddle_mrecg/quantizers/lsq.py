# SPDX-License-Identifier: Apache-2.0
"""Fake quantization of activations with a learned scale (LSQ, arXiv 1902.08153)
or a learned clip (PACT).

Forward, per tensor: ``y = (clip(round(x / s + z), qmin, qmax) - z) * s``.
Gradients pass straight through rounding and stop outside the grid, where
"outside" is decided after rounding, as in PyTorch's learnable fake-quantize
kernel, BRECQ and QDrop. With ``m`` = 1 inside and 0 outside:

* LSQ: ``dy/ds = y/s - m x/s``, that is ``round(t) - t`` inside, ``qmin - z``
  below, ``qmax - z`` above;
* PACT: ``dy/dalpha = (1 - m) y/alpha``, +1 above and -1 below, ``alpha = qmax s`` (arXiv 1805.06085
  in PaddleSlim's symmetric form; below it is ``qmin/qmax`` on a grid that is not narrow, whose
  lowest code lies beyond -alpha).

Either sum is two dot products, and the mask is arithmetic: on a CPU faster than
comparisons, casts and reductions. The difference of the two costs digits: the
gradient of the scale is within 0.6 % of float64's on 3.6 million values.
"""
import dataclasses
from typing import List, Optional

import numpy as np
import paddle
from paddle.autograd import PyLayer

from ..errors import ConfigError
from .affine import Encoding
from .drop import DropMask

CLIPS = ("none", "symmetric_pact")
# float32 has no digits after the point between 2^23 and 2^24: adding 1.5 * 2^23 rounds to integer,
# halves to even, on every Paddle version (paddle.round rounds halves away from zero up to 2.6), and
# costs no pass of its own.
ROUNDER = 12582912.0
_STEEP = 65536.0  # makes a 0/1 mask of the distance to the grid's end
_SMALLEST = 1e-10


class ActivationQuantizer:
    """Per-tensor fake quantizer whose scale may be trained.

    Args:
        encoding(Encoding): the starting grid, without axis.
        learn(bool, optional): train the scale (or alpha). Default: False.
        clip(str, optional): 'none' trains the scale by LSQ; 'symmetric_pact'
            trains a clip alpha that sets the scale, and replaces a grid with a
            zero point by a symmetric one of the same reach. Default: 'none'.
        mask(DropMask, optional): source of QDrop's masks; made when it is
            needed and missing. Default: None.
        grad_scale(float, optional): factor on the gradient of the scale; LSQ
            uses 1/sqrt(values * qmax), QDrop's reference code 1. Default: 1.0.

    Raises:
        ConfigError: a per-channel encoding, or unknown ``clip``.

    Examples:
        >>> from paddle_mrecg.quantizers.affine import QuantSpec
        >>> quantizer = ActivationQuantizer(Encoding(QuantSpec(2, True, True), 1.0, 0), learn=True)
        >>> quantizer(paddle.to_tensor([-3.0, 0.4, 0.6, 3.0])).numpy().tolist()
        [-2.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, encoding: Encoding, learn: bool = False, clip: str = "none",
                 mask: Optional[DropMask] = None,
                 grad_scale: float = 1.0):
        if encoding.spec.axis is not None:
            raise ConfigError("activations are quantized per tensor; use an encoding without axis")
        if clip not in CLIPS:
            raise ConfigError(f"unknown activation clip '{clip}'; choose one of {', '.join(CLIPS)}")
        self.learn, self.clip, self.mask, self.grad_scale = learn, clip, mask, grad_scale
        self._encoding = _symmetric(encoding) if clip == "symmetric_pact" and learn else encoding
        self._unit = float(self._encoding.spec.qmax) if clip == "symmetric_pact" else 1.0
        self.parameter = None
        if learn:  # the scale, or alpha = qmax * scale
            start = paddle.nn.initializer.Constant(float(self._encoding.scale) * self._unit)
            self.parameter = paddle.create_parameter([1], "float32", default_initializer=start)

    def parameters(self) -> List[paddle.Tensor]:
        """The trainable scale or alpha, shape ``[1]``; empty when nothing is learned."""
        return [self.parameter] if self.learn else []

    def __call__(self, x: paddle.Tensor, keep_prob: float = 1.0,
                 float_x: paddle.Tensor = None) -> paddle.Tensor:
        """Quantize ``x``.

        Args:
            x(Tensor): float32, any shape.
            keep_prob(float, optional): probability that an element is
                quantized (QDrop); the others take ``float_x``. Default: 1.0.
            float_x(Tensor, optional): same shape as ``x``. Default: None, ``x`` itself.
        """
        spec, zero = self._encoding.spec, float(self._encoding.zero_point)
        grid = (self.scale(), zero, float(spec.qmin), float(spec.qmax))
        mask = self._draw(x.shape, keep_prob) if keep_prob < 1.0 else None
        rule = _Rule(grid, self.learn and self.clip == "symmetric_pact", self._unit,
                     self.grad_scale)
        return _FakeQuantize.apply(x, self.parameter, mask, float_x, rule)

    def _draw(self, shape, keep_prob):
        if self.mask is None or self.mask.keep_prob != keep_prob:
            self.mask = DropMask(keep_prob)
        return self.mask.draw(shape)

    def scale(self) -> float:
        """The current step size; a parameter that an optimizer pushed below
        zero is made positive again.
        """
        if not self.learn:
            return float(self._encoding.scale)
        value = float(self.parameter.item())
        if value < _SMALLEST:
            value = max(abs(value), _SMALLEST)
            self.parameter.set_value(np.array([value], np.float32))
        return float(np.float32(value / self._unit))

    def encoding(self) -> Encoding:
        """The current grid.

        Raises:
            DataError: training drove the scale to NaN or Inf.
        """
        return Encoding(self._encoding.spec, np.float32(self.scale()), self._encoding.zero_point)


def _symmetric(encoding: Encoding) -> Encoding:
    """The grid without zero point that reaches as far."""
    spec, (low, high) = encoding.spec, encoding.range
    if not encoding.zero_point.any() and not (spec.signed and not spec.symmetric):
        return Encoding(dataclasses.replace(spec, symmetric=True), encoding.scale, 0)
    spec = dataclasses.replace(spec, signed=True, symmetric=True)
    return Encoding(spec, max(-low, high) / spec.qmax, 0)


# Below, what ends in "_" works in place: half the memory traffic, on tensors that
# nobody else has seen yet.


def on_grid(x, scale, zero, qmin, qmax):
    """``(clip(round(x / scale + zero), qmin, qmax) - zero) * scale`` for Python
    numbers; ``x`` is float32.
    """
    codes = paddle.scale(x, 1.0 / scale, zero + ROUNDER).clip_(qmin + ROUNDER, qmax + ROUNDER)
    return codes.scale_(scale, -(zero + ROUNDER), bias_after_scale=False)


def inside(x, scale, zero, qmin, qmax, margin=0.5):
    """1 where ``x / scale + zero`` is at most ``margin`` beyond ``qmin .. qmax``, else 0; 0.5:
    where it rounds to a code.
    """
    middle, reach = 0.5 * (qmin + qmax), 0.5 * (qmax - qmin) + margin
    distance = paddle.scale(x, 1.0 / scale, zero - middle).abs_()
    return distance.scale_(-_STEEP, _STEEP * reach).clip_(0.0, 1.0)


def _dot(a, b):
    return paddle.matmul(a.reshape([1, -1]), b.reshape([-1, 1])).reshape([1])


@dataclasses.dataclass(frozen=True)
class _Rule:
    """How to quantize (scale, zero point, qmin, qmax), and which gradient the parameter gets."""

    grid: tuple
    pact: bool
    unit: float
    grad_scale: float


class _FakeQuantize(PyLayer):
    """``y = other + mask * (quantized x - other)``; ``other`` None is ``x`` itself,
    ``mask`` None is 1 everywhere.

    ``parameter`` is the scale, alpha or None; its value is in ``rule.grid`` already.
    """

    @staticmethod
    def forward(ctx, x, parameter, mask, other, rule):
        y = on_grid(x, *rule.grid)
        if mask is not None:
            base = x if other is None else other
            y.subtract_(base).multiply_(mask).add_(base)
        ctx.save_for_backward(x, y, mask)
        ctx.rule, ctx.inputs = (rule,
                                [None if t is None else not t.stop_gradient
                                 for t in (x, parameter, mask, other)])
        return y

    @staticmethod
    def backward(ctx, grad):
        x, y, mask = ctx.saved_tensor()
        rule, (wants_x, wants_parameter, masked, wants_other) = ctx.rule, ctx.inputs
        kept = grad if masked is None else grad * mask
        passed = inside(x, *rule.grid).multiply_(kept)
        total = None
        if wants_parameter:
            # PACT: outside only, where y = +-alpha. LSQ: all of y less the straight-through
            # part of x. That y is not the quantized x where the mask is 0 does not matter:
            # kept and passed are 0 there.
            total = _dot(kept, y) - _dot(passed, y if rule.pact else x)
            total = total * (rule.grad_scale / (rule.grid[0] * rule.unit))
        if wants_x and masked is not None and wants_other is None:
            passed.add_(grad).subtract_(kept)
        gradients = passed if wants_x else None, total, None, grad - kept if wants_other else None
        # one per tensor given
        return tuple(g for g, wanted in zip(gradients, ctx.inputs) if wanted is not None)
