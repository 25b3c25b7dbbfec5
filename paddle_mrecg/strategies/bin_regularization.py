# SPDX-License-Identifier: Apache-2.0
"""Bin regularization (Han et al., ICCV 2021): pull the weights of every
quantization bin onto its level.

For a weight ``v`` with code ``q(v)`` and step ``s`` the paper adds to the loss, for
every bin that holds weights,

    (mean of the bin - level)^2 + variance of the bin,      level = s q.

With the population variance this is the mean square of ``e = v - s q`` over
the bin, so the whole is one sum over weights, each divided by the size of its bin:

    L = sum_v e(v)^2 / V(q(v)),    dL/dv = 2 e / V,    dL/ds = -sum_v q dL/dv.

Counting the bins and looking V up costs the same at any number of bits. Every
occupied bin counts alike, however few weights it has: that tells bin
regularization from a plain quantization error. A bin of one weight has no
variance; weights beyond the grid belong to the end bins and are pulled inwards.

A *quanter* here is any layer with ``step()``, ``codes()``, ``qmin``, ``qmax``, ``axis``
and ``gradient_scale()``.
"""
from typing import Callable, Dict, NamedTuple, Union

import paddle
from paddle.autograd import PyLayer

from ..compat import full_precision
from ..errors import DataError
from ..grids.affine import NEAR, along_axis


def bin_reg_loss(weight: paddle.Tensor, quanter, unbiased: bool = False,
                 grad_to_scale: bool = True) -> paddle.Tensor:
    """The bin regularization loss of one weight tensor.

    A per-channel quanter pools the channels: a bin is all weights of the
    tensor with the same code, and each weight is measured against the level of
    its own channel. Bins per channel would be almost empty in depthwise
    convolutions (9 weights for 16 levels), and the loss would grow with the
    number of channels. With equal steps this is the paper's loss.

    Args:
        weight(Tensor): float weights of any shape.
        quanter: the layer that quantizes it.
        unbiased(bool, optional): divide the variance of a bin by V - 1, not V. Default: False.
        grad_to_scale(bool, optional): train the step on this loss too, with
            LSQ's factor on all gradients of a step, ``quanter.gradient_scale()``:
            the curvature is 2 sum(q^2) over the bins, 2.8 million at 8 bits, where
            plain gradients diverge at a learning rate of 0.01. Default: True.

    Returns:
        Tensor: scalar, float32, at least 0.
    """
    return total_loss([(weight, quanter, Pull(unbiased=unbiased))], grad_to_scale)


class Pull(NamedTuple):
    """How one layer is pulled.

    ``factor`` multiplies the loss, a number or a function that is asked for it when gradients are
    computed; bins of fewer than ``least`` weights are pulled as if they had as many.
    """

    factor: Union[float, Callable[[], float]] = 1.0
    unbiased: bool = False
    least: float = 1.0

    def number(self) -> float:
        """The present factor."""
        return float(self.factor() if callable(self.factor) else self.factor)


def total_loss(rows, grad_to_scale):
    """The sum of ``bin_reg_loss`` over (weight, quanter, pull), as one node of the autograd graph.
    """
    # half precision would lose the small shares of full bins
    with full_precision():
        weights, steps = ([weight for weight, _, _ in rows],
                          [_step(quanter, grad_to_scale) for _, quanter, _ in rows])
        return _BinRegLoss.apply([(quanter, pull) for _, quanter, pull in rows], *weights, *steps)


def _step(quanter, grad_to_scale):
    step = quanter.step()
    return step if grad_to_scale else step.detach()


def inject(weight: paddle.Tensor, quanter, factor: Union[float, Callable[[], float]],
           unbiased: bool = False,
           grad_to_scale: bool = True) -> paddle.Tensor:
    """``weight`` unchanged, but its gradient becomes that of the loss plus
    ``factor * bin_reg_loss(weight)``.

    Quantize the result instead of ``weight``, once per forward pass; the other
    arguments are ``bin_reg_loss``'s.

    Args:
        factor(float or callable): number, or a function that is asked for it
            when gradients are computed.
    """
    return inject_pull(weight, quanter, Pull(factor, unbiased), grad_to_scale)


def inject_pull(weight, quanter, pull: Pull, grad_to_scale: bool):
    return _Inject.apply(weight, _step(quanter, grad_to_scale), quanter, pull)


class _Bins(NamedTuple):
    """Where weights lie; all flat, float32 but for ``bins``."""

    codes: paddle.Tensor
    error: paddle.Tensor  # weight - level
    bins: paddle.Tensor  # codes from 0, int32
    counts: paddle.Tensor  # one per bin

    @classmethod
    def of(cls, weight, step, quanter) -> "_Bins":
        weight = _as(weight, paddle.float32)
        codes, low, high = quanter.codes(weight), quanter.qmin, quanter.qmax
        flat = codes.reshape([-1])
        bins = (flat - low).astype("int32")  # counted in half the time of int64
        try:
            counts = paddle.bincount(bins, minlength=high - low + 1).astype("float32")
        except ValueError as error:  # a weight that is NaN has no bin
            raise DataError("a weight or its step is NaN: the training diverged; "
                            "lower the learning rate") from error
        return cls(flat,
                   (weight - _times(codes, along_axis(step, quanter.axis,
                                                      codes.ndim))).reshape([-1]),
                   bins, counts)

    def mean(self, values) -> paddle.Tensor:
        """Mean of ``values``, one per weight, in every bin; 0 in empty ones."""
        sums = paddle.bincount(self.bins, weights=values, minlength=self.counts.shape[0])
        return sums.astype("float32") / self.counts.clip(min=1.0)

    def gradient(self, pull: Pull) -> paddle.Tensor:
        """``factor`` dL/dv, flat. L is quadratic in the errors: it is half
        the sum of error * dL/dv.
        """
        twice = 2.0 * pull.number()
        if not pull.unbiased:
            return self.look_up(twice / self.counts.clip(min=pull.least)).multiply_(self.error)
        # (mean e)^2 + sum (e - mean e)^2 / (V - 1), by one e: 2 (e - mean e / V) /
        # (V - 1); 2 e where V is 1.
        several = (self.counts > 1.0).astype("float32")
        rest = (self.counts - 1.0).clip(min=pull.least)
        shift = self.mean(self.error) * several / (self.counts.clip(min=1.0) * rest)
        return self.look_up(twice / rest).multiply_(self.error).subtract_(
            self.look_up(twice * shift))

    def step_gradient(self, gradient, shape, quanter) -> paddle.Tensor:
        """dL/ds from dL/dv of a weight of that shape, [1] or [channels], with LSQ's factor."""
        if quanter.axis is None:
            total = paddle.matmul(self.codes, gradient).reshape([1])
        else:
            total = (self.codes * gradient).reshape(shape).sum([k for k in range(len(shape))
                                                                if k != quanter.axis])
        return total * -quanter.gradient_scale(gradient)

    def look_up(self, table) -> paddle.Tensor:
        """The entry of every weight's bin."""
        return paddle.gather(table, self.bins)


def _as(x, dtype):
    return x if x.dtype == dtype else x.astype(dtype)  # astype copies


def _times(x, factor):
    """``x * factor``; a single factor is taken as a number on a CPU, in half the time."""
    return (paddle.scale(x, factor.item()) if factor.size == 1 and x.place.is_cpu_place()
            else x * factor)


class _BinRegLoss(PyLayer):

    @staticmethod
    def forward(ctx, rules, *weights_and_steps):
        count = len(rules)
        weights, steps = weights_and_steps[:count], weights_and_steps[count:]
        ctx.gradients, losses = [None] * (2 * count), []
        for k, (weight, step, (quanter, pull)) in enumerate(zip(weights, steps, rules)):
            bins = _Bins.of(weight, step, quanter)
            gradient = bins.gradient(pull)
            losses.append(paddle.matmul(bins.error, gradient))
            ctx.gradients[k] = None if weight.stop_gradient else gradient.reshape(weight.shape)
            ctx.gradients[count + k] = (None if step.stop_gradient
                                        else bins.step_gradient(gradient, weight.shape, quanter))
        ctx.dtypes = [x.dtype for x in weights_and_steps]
        return paddle.add_n(losses) * 0.5

    @staticmethod
    def backward(ctx, grad):
        return tuple(None if g is None else _as(_times(g, grad), dtype)
                     for g, dtype in zip(ctx.gradients, ctx.dtypes))


class _Inject(PyLayer):

    @staticmethod
    def forward(ctx, weight, step, quanter, pull):
        ctx.save_for_backward(weight, step)
        ctx.rule = quanter, pull
        return weight.clone()

    @staticmethod
    def backward(ctx, grad):
        weight, step = ctx.saved_tensor()
        quanter, pull = ctx.rule
        with full_precision():
            bins = _Bins.of(weight, step, quanter)
            added = bins.gradient(pull)
            by_step = (None if step.stop_gradient
                       else bins.step_gradient(added, weight.shape, quanter))
            return (None if weight.stop_gradient
                    else grad + _as(added, grad.dtype).reshape(grad.shape), by_step)


@paddle.no_grad()
def bin_statistics(weight: paddle.Tensor, quanter) -> Dict[str, float]:
    """Numbers of one weight tensor; distances are in steps, and every occupied bin counts alike.

    Returns:
        dict: ``bits``, ``weights``, ``occupied`` bins, ``mean_error`` (mean of
            |mean of the bin - level|),
        ``variance`` (mean of the bins' variances), ``distance`` (mean of |weight - level|),
        ``near`` (share of weights within 0.1 step of their level), ``mse`` (mean square of
        weight - level, not in steps) and
        ``loss`` (``bin_reg_loss``).
    """
    step = quanter.step()
    bins = _Bins.of(weight, step, quanter)
    error = (bins.error.reshape(weight.shape)
             / along_axis(step, quanter.axis, weight.ndim)).reshape([-1])
    occupied, mean = (bins.counts > 0).astype("float32"), bins.mean(error)
    spread = bins.mean((error - bins.look_up(mean)).square())
    count = occupied.sum()
    values = dict(mean_error=mean.abs().sum() / count, variance=spread.sum() / count,
                  distance=error.abs().mean(),
                  near=(error.abs() <= NEAR).astype("float32").mean(),
                  mse=bins.error.square().mean(),
                  loss=bin_reg_loss(weight, quanter))
    return dict(bits=quanter.bits, weights=int(weight.size), occupied=int(count),
                **{k: float(v) for k, v in values.items()})
