# SPDX-License-Identifier: Apache-2.0
"""Bin regularization (Han et al., ICCV 2021): pull the weights of every quantisation bin onto its level.

For a weight ``v`` with code ``q(v)`` and step ``s`` the paper adds to the loss, for every bin that holds weights,

    (mean of the bin - level)^2 + variance of the bin,      level = s q.

With the population variance this is the mean square of ``e = v - s q`` over
the bin, so the whole is one sum over weights, each divided by the size of its bin:

    L = sum_v e(v)^2 / V(q(v)),    dL/dv = 2 e / V,    dL/ds = -sum_v q dL/dv.

Counting the bins and looking V up costs the same at any number of bits. Every
occupied bin counts alike, however few weights it has: that tells bin
regularization from a plain quantisation error. A bin of one weight has no
variance; weights beyond the grid belong to the end bins and are pulled inwards.

A *quanter* here is any layer with ``step()``, ``codes()``, ``qmin``, ``qmax``, ``axis`` and ``gradient_scale()``.
"""
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

import paddle
from paddle.autograd import PyLayer

from ..config.training import BinRegularization
from ..errors import ConfigError

NEAR = 0.1  # a weight this close to its level, in steps, counts as collapsed onto it


def bin_reg_loss(weight: paddle.Tensor, quanter, unbiased: bool = False, grad_to_scale: bool = True) -> paddle.Tensor:
    """The bin regularization loss of one weight tensor.

    A per-channel quanter pools the channels: a bin is all weights of the
    tensor with the same code, and each weight is measured against the level of
    its own channel. Bins per channel would be almost empty in depthwise
    convolutions (9 weights for 16 levels), and the loss would grow with the
    number of channels. With equal steps this is the paper's loss.

    Args:
        weight(Tensor): float weights of any shape.
        quanter: the layer that quantises it.
        unbiased(bool, optional): divide the variance of a bin by V - 1, not V. Default: False.
        grad_to_scale(bool, optional): train the step on this loss too, with
            LSQ's factor on all gradients of a step, ``quanter.gradient_scale()``.
            The curvature is 2 sum(q^2) over the bins, 680 for 4 bits: at common
            learning rates plain gradients would diverge. Default: True.

    Returns:
        Tensor: scalar, float32, at least 0.
    """
    step = quanter.step()
    return _BinRegLoss.apply(weight, step if grad_to_scale else step.detach(), quanter, unbiased)


def inject(weight: paddle.Tensor, quanter, factor: Union[float, Callable[[], float]], unbiased: bool = False,
           grad_to_scale: bool = True) -> paddle.Tensor:
    """``weight`` unchanged, but its gradient becomes that of the loss plus ``factor * bin_reg_loss(weight)``.

    To be quantised in the place of ``weight``, once per forward pass; the other arguments are ``bin_reg_loss``'s.

    Args:
        factor(float or callable): number, or a function that is asked for it when gradients are computed.
    """
    step = quanter.step()
    return _Inject.apply(weight, step if grad_to_scale else step.detach(), quanter, factor, unbiased)


class _Bins(NamedTuple):
    """Where weights lie."""

    codes: paddle.Tensor
    error: paddle.Tensor  # weight - level
    bins: paddle.Tensor  # codes from 0, int32, flat
    counts: paddle.Tensor  # float32, one per bin

    @classmethod
    def of(cls, weight, step, quanter) -> "_Bins":
        weight = weight if weight.dtype == paddle.float32 else weight.astype("float32")
        codes, low, high = quanter.codes(weight), quanter.qmin, quanter.qmax
        bins = (codes - low).astype("int32").reshape([-1])  # int32: counted in half the time of int64
        counts = paddle.bincount(bins, minlength=high - low + 1).astype("float32")
        return cls(codes, weight - codes * _along(step, codes.ndim, quanter.axis), bins, counts)

    def mean(self, values) -> paddle.Tensor:
        """Mean of ``values`` (shaped as the weight) in every bin, 0 in empty ones."""
        sums = paddle.bincount(self.bins, weights=values.reshape([-1]), minlength=self.counts.shape[0])
        return sums.astype("float32") / self.counts.clip(min=1.0)

    def gradient(self, unbiased: bool) -> paddle.Tensor:
        """dL/dv, shaped as the weight. L is quadratic in the errors: it is half the sum of error * dL/dv."""
        if not unbiased:
            return self._look_up(2.0 / self.counts.clip(min=1.0)).multiply_(self.error)
        # (mean e)^2 + sum (e - mean e)^2 / (V - 1), by one e: 2 (e - mean e / V) / (V - 1); 2 e where V is 1.
        several, rest = (self.counts > 1.0).astype("float32"), (self.counts - 1.0).clip(min=1.0)
        shift = self.mean(self.error) * several / (self.counts.clip(min=1.0) * rest)
        return self._look_up(2.0 / rest).multiply_(self.error).subtract_(self._look_up(2.0 * shift))

    def step_gradient(self, gradient, quanter) -> paddle.Tensor:
        """dL/ds from dL/dv, shape [1] or [channels], with LSQ's factor."""
        product, axis = self.codes * gradient, quanter.axis
        total = product.sum().reshape([1]) if axis is None else product.sum([k for k in range(product.ndim) if k != axis])
        return total * -quanter.gradient_scale(self.codes)

    def _look_up(self, table):
        return paddle.gather(table, self.bins).reshape(self.error.shape)


def _along(step, ndim, axis):
    """Steps per channel shaped to broadcast over a tensor of ``ndim`` dimensions."""
    return step if axis is None else step.reshape([-1 if k == axis else 1 for k in range(ndim)])


# Both layers switch mixed precision off: shares of full bins underflow in half precision.


class _BinRegLoss(PyLayer):

    @staticmethod
    def forward(ctx, weight, step, quanter, unbiased):
        with paddle.amp.auto_cast(enable=False):
            bins = _Bins.of(weight, step, quanter)
            gradient = bins.gradient(unbiased)
            by_step = None if step.stop_gradient else bins.step_gradient(gradient, quanter)
            loss = (bins.error * gradient).sum() * 0.5
        ctx.save_for_backward(None if weight.stop_gradient else gradient, by_step)
        ctx.dtypes = weight.dtype, step.dtype
        return loss

    @staticmethod
    def backward(ctx, grad):
        return tuple(None if g is None else (g * grad).astype(dtype) for g, dtype in zip(ctx.saved_tensor(), ctx.dtypes))


class _Inject(PyLayer):

    @staticmethod
    def forward(ctx, weight, step, quanter, factor, unbiased):
        ctx.save_for_backward(weight, step)
        ctx.rule = quanter, factor, unbiased
        return weight.clone()

    @staticmethod
    def backward(ctx, grad):
        weight, step = ctx.saved_tensor()
        quanter, factor, unbiased = ctx.rule
        with paddle.amp.auto_cast(enable=False):
            bins = _Bins.of(weight, step, quanter)
            added = bins.gradient(unbiased).scale_(factor() if callable(factor) else factor)
            by_step = None if step.stop_gradient else bins.step_gradient(added, quanter).astype(step.dtype)
            return None if weight.stop_gradient else grad + added.astype(grad.dtype), by_step


class Phase(NamedTuple):
    """What an epoch does."""
    regularize: bool
    train_weights: bool = True
    train_scales: bool = True


class Schedule:
    """Which phase an epoch is in; ``phase`` is None until ``on_epoch`` is called."""

    phase: Optional[Phase] = None

    def on_epoch(self, epoch: int, epochs: int) -> Phase:
        """Go to ``epoch``, 0 to ``epochs - 1``."""
        raise NotImplementedError


class FromStart(Schedule):
    """S1: bin regularization from the first step on; needs no ``on_epoch``."""

    phase = Phase(regularize=True)

    def on_epoch(self, epoch: int, epochs: int) -> Phase:
        return self.phase


class AfterStart(Schedule):
    """S2, the paper's choice: first let the steps settle, since bins that move pull to wrong levels.

    Args:
        start(float): first epoch with bin regularization; below 1 it is a share of all epochs.
    """

    def __init__(self, start: float):
        self.start = start

    def on_epoch(self, epoch: int, epochs: int) -> Phase:
        self.phase = Phase(epoch >= (round(self.start * epochs) if self.start < 1 else self.start))
        return self.phase


class Alternating(Schedule):
    """S3: epochs 0, 2, ... train the scales and not the quantised weights; 1, 3, ... the weights with bin regularization.

    The task's loss is there in all epochs, and what is not quantised (biases,
    batch norms) always trains. What rests is marked ``stop_gradient``, so a
    ``DataParallel`` model needs ``find_unused_parameters=True``.
    """

    def on_epoch(self, epoch: int, epochs: int) -> Phase:
        odd = epoch % 2 == 1
        self.phase = Phase(regularize=odd, train_weights=odd, train_scales=not odd)
        return self.phase


def make_schedule(settings: BinRegularization) -> Schedule:
    """The schedule that ``settings`` name."""
    return dict(S1=FromStart, S2=lambda: AfterStart(settings.start), S3=Alternating)[settings.schedule]()


class BinRegularizer:
    """Bin regularization of a model's quantised weights.

    Either add ``loss()`` to the training loss, or quantise ``inject(weight, quanter)`` instead of every weight.

    Args:
        layers(iterable of (str, Layer)): quantised layers by name, with ``weight``, ``weight_quanter`` and
            ``activation_quanter`` (None where the input stays float).
        settings(BinRegularization): the section of the config.

    Attributes:
        gradient_factor(float or callable): factor on what ``inject`` adds. With a loss scale and ``k`` accumulated
            batches per optimiser step it is ``scale / k``, e.g. ``lambda: float(scaler.state_dict()["scale"]) / k``.
    """

    def __init__(self, layers: Iterable[Tuple[str, paddle.nn.Layer]], settings: BinRegularization):
        self.layers, self.settings, self.schedule = list(layers), settings, make_schedule(settings)
        self._options = dict(unbiased=settings.unbiased, grad_to_scale=settings.grad_to_scale)
        self.gradient_factor: Union[float, Callable[[], float]] = 1.0
        quanters = [q for _, layer in self.layers for q in (layer.weight_quanter, layer.activation_quanter) if q is not None]
        self._weights = [layer.weight for _, layer in self.layers if not layer.weight.stop_gradient]
        self._scales = [p for q in quanters for p in q.parameters() if not p.stop_gradient]

    def on_epoch(self, epoch: int, epochs: int):
        """To be called before every epoch, 0 to ``epochs - 1``."""
        phase = self.schedule.on_epoch(epoch, epochs)
        for tensors, trains in ((self._weights, phase.train_weights), (self._scales, phase.train_scales)):
            for tensor in tensors:
                tensor.stop_gradient = not trains

    @property
    def active(self) -> bool:
        """Whether the schedule has bin regularization on.

        Raises:
            ConfigError: ``on_epoch`` has not been called, and the schedule depends on it.
        """
        if self.schedule.phase is None:
            raise ConfigError(f"bin regularization with schedule {self.settings.schedule} must know the epoch: call "
                              "on_epoch(epoch, epochs) before every epoch, or choose schedule S1")
        return self.schedule.phase.regularize and self.settings.lambda_ > 0

    def loss(self) -> paddle.Tensor:
        """``lambda`` times the sum of ``bin_reg_loss`` over the layers, a scalar; 0 while it is not active."""
        if not self.active:
            return paddle.zeros([], "float32")
        losses = [bin_reg_loss(layer.weight, layer.weight_quanter, **self._options) for _, layer in self.layers]
        return paddle.add_n(losses) * self.settings.lambda_

    def inject(self, weight: paddle.Tensor, quanter) -> paddle.Tensor:
        """``weight`` with the gradient of ``loss()`` added in backward; to be called wherever it is quantised.

        A layer that runs several times in one forward pass would be regularized as often: call it once there.
        """
        if not paddle.is_grad_enabled() or not self.active:
            return weight
        return inject(weight, quanter, self._injected_factor, **self._options)

    def _injected_factor(self) -> float:
        factor = self.gradient_factor
        return self.settings.lambda_ * (factor() if callable(factor) else factor)

    @paddle.no_grad()
    def statistics(self) -> List[Dict]:
        """One row per layer: how far its weights have collapsed onto their levels; see ``bin_statistics``."""
        return [dict(layer=name, **bin_statistics(layer.weight, layer.weight_quanter)) for name, layer in self.layers]


@paddle.no_grad()
def bin_statistics(weight: paddle.Tensor, quanter) -> Dict[str, float]:
    """Numbers of one weight tensor; distances are in steps, and every occupied bin counts alike.

    Returns:
        dict: ``bits``, ``weights``, ``occupied`` bins, ``mean_error`` (mean of |mean of the bin - level|),
        ``variance`` (mean of the bins' variances), ``near`` (share of weights within 0.1 step of their level),
        ``mse`` (mean square of weight - level, not in steps) and ``loss`` (``bin_reg_loss``).
    """
    step = quanter.step()
    bins = _Bins.of(weight, step, quanter)
    error = bins.error / _along(step, bins.error.ndim, quanter.axis)
    occupied, mean = (bins.counts > 0).astype("float32"), bins.mean(error)
    spread = bins.mean((error - paddle.gather(mean, bins.bins).reshape(error.shape)).square())
    count = occupied.sum()
    values = dict(mean_error=mean.abs().sum() / count, variance=spread.sum() / count,
                  near=(error.abs() <= NEAR).astype("float32").mean(), mse=bins.error.square().mean(),
                  loss=bin_reg_loss(weight, quanter))
    return dict(bits=quanter.bits, weights=int(weight.size), occupied=int(count), **{k: float(v) for k, v in values.items()})
