# SPDX-License-Identifier: Apache-2.0
"""Minimal quantized layers: only what the training strategies need of the real ones."""
import numpy as np
import paddle


class PlainQuanter(paddle.nn.Layer):
    """Signed grid with a trained step; the protocol of ``paddle_mrecg.quanters``."""

    def __init__(self, step, bits, axis=None, gradient_scale=1.0):
        super().__init__()
        value = np.atleast_1d(np.asarray(step, np.float32))
        self.parameter = self.create_parameter(
            value.shape, default_initializer=paddle.nn.initializer.Assign(value)
        )
        self.bits, self.axis, self.factor = bits, axis, gradient_scale
        self.qmin, self.qmax = -2**(bits - 1), 2**(bits - 1) - 1

    def step(self):
        return self.parameter * 1.0

    def gradient_scale(self, x):
        return self.factor

    def along(self, ndim):
        return (self.step() if self.axis is None
                else self.step().reshape([-1 if k == self.axis else 1 for k in range(ndim)]))

    @paddle.no_grad()
    def codes(self, x):
        return paddle.round(x / self.along(x.ndim)).clip(self.qmin, self.qmax)

    def forward(self, x):
        place = x / self.along(x.ndim)
        rounded = place + (paddle.round(place) - place).detach()
        return rounded.clip(self.qmin, self.qmax) * self.along(x.ndim)


class PlainLinear(paddle.nn.Layer):
    """``x @ quantized weight``; ``inject`` replaces the weight before it is quantized."""

    def __init__(self, weight, quanter):
        super().__init__()
        self.weight = self.create_parameter(
            weight.shape, default_initializer=paddle.nn.initializer.Assign(weight)
        )
        self.weight_quanter, self.activation_quanter, self.inject = (quanter, None,
                                                                     lambda weight, quanter: weight)

    def forward(self, x):
        return paddle.matmul(x, self.weight_quanter(self.inject(self.weight, self.weight_quanter)))


def weights(bits, shape=(16, 8, 3, 3), seed=0):
    """Normal weights over 1.3 times the grid's range: some are clipped, some bins
    of 8 bits hold one or none.
    """
    step = 0.3 / 2**(bits - 1)
    return (np.random.default_rng(seed).normal(size=shape).astype(np.float32) * np.float32(0.13),
            step)
