# SPDX-License-Identifier: Apache-2.0
"""Against oscillating weights in quant-aware training (Nagel et al., ICML 2022, arXiv 2203.11086).

With straight-through gradients many weights settle at the edge between two
levels and jump from one to the other at every few steps; batch norms then
track statistics of a network that never stands still. Three remedies, each usable alone:

* ``DampeningLoss``: a loss that pulls weights to the middle of their bin. Unlike bin regularization
  it sums over weights, not bins, leaves clipped weights alone and does not train the steps.
* ``IterativeFreezing``: weights that oscillate too often are fixed at the level where they
  have been most of the time.
* ``reestimate_batch_norm``: statistics of the network as it is now, before evaluation and export.

A *quanter* here is any layer with ``step()``, ``codes()``, ``qmin``, ``qmax`` and ``axis``.
"""
import math
from typing import Callable, Dict, Iterable, List, Optional, Tuple

import paddle
from paddle.autograd import PyLayer

from ..compat import full_precision
from ..errors import ConfigError, DataError, ModelError
from ..grids.affine import along_axis

REDUCTIONS = ("sum", "mean")
MOST_BITS = 4  # finer grids oscillate too, but by steps that hardly matter
BATCH_NORMS = (paddle.nn.BatchNorm, paddle.nn.BatchNorm1D, paddle.nn.BatchNorm2D,
               paddle.nn.BatchNorm3D,
               paddle.nn.SyncBatchNorm)


def cosine(epoch: int, epochs: int, start: float, begin: float, end: float) -> float:
    """``begin`` until the share ``start`` of the epochs is over, then along half a cosine to
    ``end`` in the last epoch.

    Examples:
        >>> [round(cosine(epoch, 5, 0.0, 0.0, 1.0), 3) for epoch in range(5)]
        [0.0, 0.146, 0.5, 0.854, 1.0]
    """
    first, last = start * epochs, epochs - 1
    done = 1.0 if last <= first else min(1.0, max(0.0, (epoch - first) / (last - first)))
    return end + (begin - end) * 0.5 * (1.0 + math.cos(math.pi * done))


def dampening_loss(weight: paddle.Tensor, quanter, reduction: str = "sum") -> paddle.Tensor:
    """Squared distance of the weights, clipped to the grid, from their levels, which
    count as constants (eq. 4).

    Args:
        weight(Tensor): float weights of any shape.
        quanter: the layer that quantizes it.
        reduction(str, optional): 'sum' or 'mean' over the weights. Default: 'sum'.

    Returns:
        Tensor: scalar, float32.

    Raises:
        ConfigError: unknown ``reduction``.
    """
    if reduction not in REDUCTIONS:
        raise ConfigError(f"unknown reduction '{reduction}' of the dampening loss; choose "
                          f"{' or '.join(REDUCTIONS)}")
    return _Dampening.apply(weight, quanter, 1.0 if reduction == "sum" else 1.0 / weight.size)


class _Dampening(PyLayer):

    @staticmethod
    def forward(ctx, weight, quanter, factor):
        with full_precision():
            value, step = (weight.astype("float32"),
                           along_axis(quanter.step(), quanter.axis, weight.ndim))
            clipped = paddle.minimum(paddle.maximum(value, step * quanter.qmin),
                                     step * quanter.qmax)
            error = clipped - quanter.codes(value) * step  # 0 where clipped
            loss = error.square().sum() * factor
        ctx.save_for_backward(error)
        ctx.factor, ctx.dtype = 2.0 * factor, weight.dtype
        return loss

    @staticmethod
    def backward(ctx, grad):
        error, = ctx.saved_tensor()
        return (error * (grad * ctx.factor)).astype(ctx.dtype)


class DampeningLoss:
    """The dampening loss of a model, with a weight that grows along a cosine.

    Args:
        layers(iterable of (str, Layer)): quantized layers, with ``weight`` and ``weight_quanter``.
        weight(float): of the loss, in the last epoch.
        start(float, optional): share of the epochs before it begins to grow from 0. Default: 0.25.
        reduction(str, optional): see ``dampening_loss``. Default: 'sum'.

    Examples:
        .. code-block:: python

            dampening = DampeningLoss(quantized_layers(model), weight=1e-3)
            for epoch in range(epochs):
                dampening.on_epoch(epoch, epochs)
                for x, y in loader:
                    loss = criterion(model(x), y) + dampening.loss()
    """

    def __init__(self, layers: Iterable[Tuple[str, paddle.nn.Layer]], weight: float,
                 start: float = 0.25,
                 reduction: str = "sum"):
        self.layers, self.weight, self.start, self.reduction = (list(layers), weight, start,
                                                                reduction)
        self.now = 0.0  # the weight in this epoch

    def on_epoch(self, epoch: int, epochs: int):
        """To be called before every epoch, 0 to ``epochs - 1``."""
        self.now = cosine(epoch, epochs, self.start, 0.0, self.weight)

    def loss(self) -> paddle.Tensor:
        """The weighted sum over the layers, a scalar."""
        if self.now == 0.0:
            return paddle.zeros([], "float32")
        return self.now * paddle.add_n([dampening_loss(_float_weight(layer), layer.weight_quanter,
                                                       self.reduction)
                                        for _, layer in self.layers])


def _float_weight(layer):
    """What the weight's quanter quantizes: with a batch norm folded in, a product."""
    return layer.float_weight() if hasattr(layer, "float_weight") else layer.weight


class FreezingState(paddle.nn.Layer):
    """What is remembered of one weight tensor, in buffers of its shape (algorithm 1 of the paper).

    Attributes:
        codes(Tensor): int16, codes after the last step.
        average(Tensor): float32, moving average of the codes.
        direction(Tensor): int8, -1 or 1, of the last change; 0 before the first.
        frequency(Tensor): float32, moving average of "went back where it came from".
        frozen(Tensor): bool.
    """

    def __init__(self, codes: paddle.Tensor):
        super().__init__()
        self.register_buffer("codes", codes.astype("int16"))
        self.register_buffer("average", codes.astype("float32"))
        self.register_buffer("direction", paddle.zeros(codes.shape, "int8"))
        self.register_buffer("frequency", paddle.zeros(codes.shape, "float32"))
        self.register_buffer("frozen", paddle.zeros(codes.shape, "bool"))

    def update(self, codes: paddle.Tensor, momentum: float, threshold: float):
        """Note the codes after a step; freeze what oscillates above ``threshold`` (0: nothing)."""
        codes = paddle.where(self.frozen, self.codes.astype("float32"), codes)
        change = paddle.sign(codes - self.codes.astype("float32"))
        direction = self.direction.astype("float32")
        turned = (change * direction < 0).astype("float32")
        frequency = self.frequency + momentum * (turned - self.frequency)
        if threshold > 0:
            freeze = paddle.logical_and(frequency > threshold, paddle.logical_not(self.frozen))
            codes = paddle.where(freeze, paddle.round(self.average), codes)
            self.frozen.set_value(paddle.logical_or(self.frozen, freeze))
        self.average.set_value(self.average + momentum * (codes - self.average))
        self.direction.set_value(paddle.where(change != 0, change, direction).astype("int8"))
        self.frequency.set_value(frequency)
        self.codes.set_value(codes.astype("int16"))


class IterativeFreezing(paddle.nn.Layer):
    """Freezes weights that oscillate at the level where they have been most of the time.

    Its state is in buffers: save ``state_dict()`` with the optimizer's, and load it to resume.

    Args:
        layers(iterable of (str, Layer)): quantized layers, with ``weight`` and ``weight_quanter``;
            those of more than 4 bits are left alone.
        threshold(float, optional): frequency (oscillations per step) above which a
            weight is frozen. Default: 0.1.
        end(float, optional): what the threshold falls to along a cosine. Default: 0.01.
        momentum(float, optional): weight of the newest step in the moving averages; a
            lone oscillation counts as this frequency, so it must be well below the
            thresholds. Default: 0.001.

    Raises:
        ConfigError: ``momentum`` is not below the thresholds: a single
            oscillation would freeze a weight.
        ModelError: batch norms are folded into the weights, which then have no
            level of their own to rest on.

    Examples:
        .. code-block:: python

            freezing = IterativeFreezing(quantized_layers(model))
            for epoch in range(epochs):
                freezing.on_epoch(epoch, epochs)
                for x, y in loader:
                    ...
                    optimizer.step()
                    freezing.step()
    """

    def __init__(self, layers: Iterable[Tuple[str, paddle.nn.Layer]], threshold: float = 0.1,
                 end: float = 0.01,
                 momentum: float = 0.001):
        super().__init__()
        if not 0 < momentum < min(threshold, end):
            raise ConfigError(f"momentum {momentum} of the oscillation frequency must be above 0 "
                              f"and below the thresholds {threshold} and {end}, or a single "
                              "oscillation would freeze a weight")
        self.threshold, self.end, self.momentum, self.now = threshold, end, momentum, threshold
        self._layers = [(name, layer) for name, layer in layers
                        if layer.weight_quanter.bits <= MOST_BITS]
        folded = [name for name, layer in self._layers if _float_weight(layer) is not layer.weight]
        if folded:
            raise ModelError(f"the weight of layer '{folded[0]}' is quantized as a product with "
                             "its batch norm and cannot be frozen; set QuantAware.fold_batch_norm: "
                             "false, or use dampening")
        self.states = paddle.nn.LayerDict(
            {
                name: FreezingState(layer.weight_quanter.codes(layer.weight))
                for name, layer in self._layers
            }
        )

    def on_epoch(self, epoch: int, epochs: int):
        """To be called before every epoch, 0 to ``epochs - 1``."""
        self.now = cosine(epoch, epochs, 0.0, self.threshold, self.end)

    @paddle.no_grad()
    def step(self):
        """Call after every step of the optimizer: tracks oscillations, restores frozen weights."""
        for name, layer in self._layers:
            state, quanter, weight = self.states[name], layer.weight_quanter, layer.weight
            state.update(quanter.codes(weight), self.momentum, self.now)
            level = (state.codes.astype("float32")
                     * along_axis(quanter.step(), quanter.axis, weight.ndim))
            weight.set_value(paddle.where(state.frozen, level.astype(weight.dtype), weight))

    def statistics(self) -> List[Dict]:
        """One row per layer: share of weights ``frozen``, and ``oscillating`` above ``end``."""
        def share(mask):
            return float(mask.astype("float32").mean())
        return [dict(layer=name, frozen=share(state.frozen),
                     oscillating=share(state.frequency > self.end))
                for name, state in self.states.items()]


@paddle.no_grad()
def reestimate_batch_norm(model: paddle.nn.Layer, batches: Iterable, count: int = 50,
                          forward: Optional[Callable] = None):
    """Replace the running statistics of all batch norms by plain averages over ``count`` batches.

    Only batch norms run in training mode meanwhile (those with ``use_global_stats`` do not take
    part); the modes of all layers are as before afterwards.

    Args:
        model(paddle.nn.Layer): the trained network.
        batches(iterable): of batches of the training data.
        count(int, optional): how many to use. Default: 50.
        forward(callable, optional): ``forward(model, batch)`` runs the network. Default: None,
            ``model(batch)``, or of a list or tuple its first entry.

    Raises:
        ModelError: the network has no batch norm.
        DataError: ``batches`` is empty.
    """
    forward = (forward
               or (lambda model, batch: model(batch[0] if isinstance(batch, (list, tuple))
                                              else batch)))
    norms = [layer for layer in model.sublayers(include_self=True)
             if isinstance(layer, BATCH_NORMS) and not layer._use_global_stats]
    if not norms:
        raise ModelError("the network has no batch norm whose statistics could be "
                         "estimated again; leave this step out")
    before = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    momenta, seen = [norm._momentum for norm in norms], 0
    try:
        model.eval()
        for norm in norms:
            norm.train()
        for seen, batch in enumerate(batches, 1):
            for norm in norms:
                norm._momentum = 1.0 - 1.0 / seen  # share of the average so far
            forward(model, batch)
            if seen == count:
                break
    finally:
        for norm, momentum in zip(norms, momenta):
            norm._momentum = momentum
        for layer, training in before:
            layer.training = training
    if not seen:
        raise DataError("no batch to estimate the statistics of batch norms from; give an iterable "
                        "that is not used up")
