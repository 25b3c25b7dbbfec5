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
from typing import Callable, Dict, Iterable, List, NamedTuple, Tuple, Union

import paddle
from paddle.autograd import PyLayer

from ..config.aware import BinRegularization
from ..errors import ConfigError, DataError
from ..grids.affine import along_axis

NEAR = 0.1  # a weight this close to its level, in steps, counts as collapsed onto it


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
    return _total_loss([(weight, quanter)], unbiased, grad_to_scale)


def _total_loss(pairs, unbiased, grad_to_scale):
    """The sum of ``bin_reg_loss`` over (weight, quanter), as one node of the autograd graph."""
    # half precision would lose the small shares of full bins
    with paddle.amp.auto_cast(enable=False):
        weights, steps = ([weight for weight, _ in pairs],
                          [_step(quanter, grad_to_scale) for _, quanter in pairs])
        return _BinRegLoss.apply([quanter for _, quanter in pairs], unbiased, *weights, *steps)


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
    return _Inject.apply(weight, _step(quanter, grad_to_scale), quanter, factor, unbiased)


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

    def gradient(self, unbiased: bool, factor: float = 1.0) -> paddle.Tensor:
        """``factor`` dL/dv, flat. L is quadratic in the errors: it is half
        the sum of error * dL/dv.
        """
        if not unbiased:
            return self.look_up(2.0 * factor / self.counts.clip(min=1.0)).multiply_(self.error)
        # (mean e)^2 + sum (e - mean e)^2 / (V - 1), by one e: 2 (e - mean e / V) /
        # (V - 1); 2 e where V is 1.
        several, rest = (self.counts > 1.0).astype("float32"), (self.counts - 1.0).clip(min=1.0)
        shift = self.mean(self.error) * several / (self.counts.clip(min=1.0) * rest)
        return self.look_up(2.0 * factor
                            / rest).multiply_(self.error).subtract_(self.look_up(2.0 * factor
                                                                                 * shift))

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
    def forward(ctx, quanters, unbiased, *weights_and_steps):
        count = len(quanters)
        weights, steps = weights_and_steps[:count], weights_and_steps[count:]
        ctx.gradients, losses = [None] * (2 * count), []
        for k, (weight, step, quanter) in enumerate(zip(weights, steps, quanters)):
            bins = _Bins.of(weight, step, quanter)
            gradient = bins.gradient(unbiased)
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
            added = bins.gradient(unbiased, float(factor() if callable(factor) else factor))
            by_step = (None if step.stop_gradient
                       else bins.step_gradient(added, weight.shape, quanter))
            return (None if weight.stop_gradient
                    else grad + _as(added, grad.dtype).reshape(grad.shape), by_step)


class Phase(NamedTuple):
    """What an epoch does."""

    regularize: bool
    train_weights: bool = True
    train_scales: bool = True


def phase_of(settings: BinRegularization, epoch: int, epochs: int) -> Phase:
    """What the schedule does in ``epoch``, 0 to ``epochs - 1``.

    * S1: bin regularization from the start.
    * S2, the paper's choice: from ``start`` on, when the steps have settled; bins that
      move pull to wrong levels.
    * S3: epochs 0, 2, ... train the scales and not the quantized weights; 1, 3, ... the weights,
      with bin regularization, and not the scales. The task's loss is there in all epochs, and what
      is not quantized (biases, batch norms) always trains.
    """
    if settings.schedule == "S3":
        odd = epoch % 2 == 1
        return Phase(regularize=odd, train_weights=odd, train_scales=not odd)
    start = 0 if settings.schedule == "S1" else settings.start
    return Phase(epoch >= (round(start * epochs) if start < 1 else start))


class BinRegularizer:
    """Bin regularization of a model's quantized weights.

    Either add ``loss()`` to the training loss, or quantize ``inject(weight, quanter)`` instead of
    every weight. What rests in schedule S3 is marked ``stop_gradient``; a ``DataParallel`` model
    then needs ``find_unused_parameters=True``.

    Args:
        layers(iterable of (str, Layer)): quantized layers by name, with ``weight``,
            ``weight_quanter`` and ``activation_quanter`` (None where the input stays float).
        settings(BinRegularization): the section of the config.

    Attributes:
        gradient_factor(float or callable): factor on what ``inject`` adds. With a loss scale and
            ``k`` accumulated batches per optimizer step it is ``scale / k``, e.g.
            ``lambda: float(scaler.state_dict()["scale"]) / k``.
    """

    def __init__(self, layers: Iterable[Tuple[str, paddle.nn.Layer]], settings: BinRegularization):
        self.layers, self.settings = list(layers), settings
        # unknown before the first on_epoch
        self.phase = Phase(True) if settings.schedule == "S1" else None
        self._options = dict(unbiased=settings.unbiased, grad_to_scale=settings.grad_to_scale)
        self.gradient_factor: Union[float, Callable[[], float]] = 1.0
        quanters = [q for _, layer in self.layers
                    for q in (layer.weight_quanter, layer.activation_quanter) if q is not None]
        self._weights = [layer.weight for _, layer in self.layers if not layer.weight.stop_gradient]
        self._scales = [p for q in quanters for p in q.parameters() if not p.stop_gradient]

    def on_epoch(self, epoch: int, epochs: int):
        """To be called before every epoch, 0 to ``epochs - 1``."""
        self.phase = phase_of(self.settings, epoch, epochs)
        for tensors, trains in ((self._weights, self.phase.train_weights),
                                (self._scales, self.phase.train_scales)):
            for tensor in tensors:
                tensor.stop_gradient = not trains

    @property
    def active(self) -> bool:
        """Whether the schedule has bin regularization on.

        Raises:
            ConfigError: ``on_epoch`` has not been called, and the schedule depends on it.
        """
        if self.phase is None:
            raise ConfigError(f"bin regularization with schedule {self.settings.schedule} must "
                              "know the epoch: call on_epoch(epoch, epochs) before every epoch, or "
                              "choose schedule S1")
        return self.phase.regularize and self.settings.lambda_ > 0

    def loss(self) -> paddle.Tensor:
        """``lambda`` times the sum of ``bin_reg_loss`` over the layers, a scalar;
        0 while it is not active.
        """
        if not self.active:
            return paddle.zeros([], "float32")
        return _total_loss([(layer.weight, layer.weight_quanter) for _, layer in self.layers],
                           **self._options) * self.settings.lambda_

    def inject(self, weight: paddle.Tensor, quanter) -> paddle.Tensor:
        """``weight`` with the gradient of ``loss()`` added in backward; to be called
        wherever it is quantized.

        A layer that runs several times in one forward pass would be regularized as
        often: call it once there.
        """
        if not paddle.is_grad_enabled() or not self.active:
            return weight
        return inject(weight, quanter, self._injected_factor, **self._options)

    def _injected_factor(self) -> float:
        factor = self.gradient_factor
        return self.settings.lambda_ * (factor() if callable(factor) else factor)

    @paddle.no_grad()
    def statistics(self) -> List[Dict]:
        """One row per layer: how close weights are to their levels; see ``bin_statistics``."""
        return [dict(layer=name, **bin_statistics(layer.weight, layer.weight_quanter))
                for name, layer in self.layers]


@paddle.no_grad()
def bin_statistics(weight: paddle.Tensor, quanter) -> Dict[str, float]:
    """Numbers of one weight tensor; distances are in steps, and every occupied bin counts alike.

    Returns:
        dict: ``bits``, ``weights``, ``occupied`` bins, ``mean_error`` (mean of
            |mean of the bin - level|),
        ``variance`` (mean of the bins' variances), ``near`` (share of weights within 0.1
        step of their level), ``mse`` (mean square of weight - level, not in steps) and
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
                  near=(error.abs() <= NEAR).astype("float32").mean(),
                  mse=bins.error.square().mean(),
                  loss=bin_reg_loss(weight, quanter))
    return dict(bits=quanter.bits, weights=int(weight.size), occupied=int(count),
                **{k: float(v) for k, v in values.items()})
