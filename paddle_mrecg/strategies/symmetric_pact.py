# SPDX-License-Identifier: Apache-2.0
"""Symmetric PACT: a learned clip before the fake-quantizer of every quantized input.

PACT (Choi et al., arXiv 1805.06085) in PaddleSlim's symmetric form, ``clip(x,
-alpha, alpha)``, fused with the quantizer. Three defects of PaddleSlim's are
cured: alpha starts from calibration, not from a constant that activations never
reach; its L2 decay acts at any size of alpha, because the trained parameter is
alpha's distance from its start (a step of 2e-7 is lost in float32 at alpha =
20, not at 0); and one byte per value is kept for the backward pass, not two
more activations.
"""
import dataclasses
from typing import Callable, Union

import numpy as np
import paddle
from paddle.autograd import PyLayer

from ..errors import ConfigError
from ..grids.quanter import SMALLEST_STEP, Quanter
from ..grids.samples import Samples
from ..grids.fake_quantize import Grid, on_grid_values

CLIP_INITS = ("abs_max", "percentile")


@dataclasses.dataclass
class Injection:
    """Gradients that quanters add by themselves, so that a training loop needs no change;
    shared by those of a model.

    Args:
        enabled(bool, optional): default: False, the penalty is part of the loss.
        factor(float or callable, optional): multiplies what is added: the loss scale under AMP,
            1/k with gradients accumulated over k batches; a function is asked during the
            backward pass. Default: 1.0.
    """

    enabled: bool = False
    factor: Union[float, Callable[[], float]] = 1.0


class SymmetricPACTQuanter(Quanter):
    """``clip(x, -alpha, alpha)`` on the grid ``alpha / qmax``: codes ``-qmax .. qmax``,
    ``0 .. qmax`` where nothing is negative.

    ``dy/dx`` is 1 within the clip; ``dy/dalpha`` is the sign of what was clipped, and 0 within.

    Args: those of ``Quanter`` (activations only), with
        init(str, optional): alpha starts from the moving average of abs-max over the calibration
            batches
            ('abs_max') or from a percentile of |x| ('percentile'). Default: 'abs_max'.
        momentum(float, optional): of the moving average. Default: 0.9.
        percentile(float, optional): share of |x| below alpha. Default: 0.999.
        decay(float, optional): weight of ``alpha^2 / 2`` in the penalty. Default: 1e-4.
    """

    def __init__(self, layer=None, *, init="abs_max", momentum=0.9, percentile=0.999, decay=1e-4,
                 **arguments):
        if arguments.get("role") == "weight" or init not in CLIP_INITS:
            raise ConfigError("symmetric PACT clips activations and starts from "
                              f"{' or '.join(CLIP_INITS)}; use another quanter for weights")
        super().__init__(layer,
                         **dict(arguments, init=init, narrow=arguments.get("signed") is not False))
        self.momentum, self.percentile, self.decay = momentum, percentile, decay
        self.injection = Injection()
        self.register_buffer("alpha_start", paddle.ones([1], "float32"))
        self.alpha_shift = self.create_parameter(
            [1], dtype="float32", default_initializer=paddle.nn.initializer.Constant(0.0)
        )

    def alpha(self) -> paddle.Tensor:
        """The clip, shape ``[1]``, positive: the magnitude of what the optimizer made of it."""
        return paddle.clip(paddle.abs(self.alpha_start.cast("float32")
                                      + self.alpha_shift.cast("float32")), min=SMALLEST_STEP)

    def step(self):
        return self.alpha() / float(self.qmax)

    def clip_penalty(self) -> paddle.Tensor:
        """``decay alpha^2 / 2``, shape ``[1]``; its gradient is PaddleSlim's L2 decay of alpha."""
        return 0.5 * self.decay * self.alpha().square()

    def step_parameters(self):
        return []

    def clip_parameters(self):
        return [self.alpha_shift]

    def _start(self, samples: Samples):
        if self.init == "percentile":
            alpha = float(np.quantile(np.abs(samples.rows()), self.percentile))
        else:
            alpha = samples.average_abs_max(self.momentum)
        self._set_step(np.array([alpha], np.float32) / np.float32(self.qmax))

    def _set_step(self, step):
        self.alpha_start.set_value(np.maximum(np.asarray(step, np.float32) * np.float32(self.qmax),
                                              SMALLEST_STEP))
        self.alpha_shift.set_value(np.zeros([1], self.alpha_shift.numpy().dtype))

    def _quantize(self, x):
        alpha, spec = self.alpha(), self.spec
        if self.injection.enabled:
            alpha = _AddGradient.apply(alpha, self.decay, self.injection)
        return _ClipAndQuantize.apply(x, alpha, Grid(spec.qmin, spec.qmax))


class _ClipAndQuantize(PyLayer):
    """Keeps its output, which the layer behind keeps anyway, and one byte per value."""

    @staticmethod
    def forward(ctx, x, alpha, grid):
        y = on_grid_values(x, alpha / float(grid.qmax), None, grid)
        outside = x.abs() > alpha if grid.qmin else (x > alpha) | (x < 0)
        ctx.save_for_backward(y, outside, alpha)
        ctx.wanted = [not x.stop_gradient, not alpha.stop_gradient]
        return y

    @staticmethod
    def backward(ctx, grad):
        y, outside, alpha = ctx.saved_tensor()
        clipped = outside.cast(grad.dtype).multiply_(grad)
        total = (clipped * y).sum().reshape([1]) / alpha if ctx.wanted[1] else None
        return grad - clipped if ctx.wanted[0] else None, total


class _AddGradient(PyLayer):
    """Identity whose backward adds ``decay * x`` to the gradient, times
    the factor of ``injection``.
    """

    @staticmethod
    def forward(ctx, x, decay, injection):
        ctx.save_for_backward(x)
        ctx.decay, ctx.injection = decay, injection
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensor()
        factor = ctx.injection.factor
        return grad + ctx.decay * (factor() if callable(factor) else factor) * x
