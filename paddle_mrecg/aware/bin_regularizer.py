# SPDX-License-Identifier: Apache-2.0
"""Bin regularization of a whole model: which layers, how strongly, in which epochs."""
import math
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

import paddle

from ..config.aware import BinRegularization
from ..errors import ConfigError, DataError, numbered
from ..report.progress import get_logger
from ..strategies.bin_regularization import Pull, bin_statistics, inject_pull, total_loss
from .efolds import LEAST_SHARE, RatePlan, predictable, rate_plan, weak_pull


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
        self._lambdas = [settings.lambda_] * len(self.layers)
        self._numbers = {id(layer.weight_quanter): k for k, (_, layer) in enumerate(self.layers)}
        self._plan: Optional[RatePlan] = None  # of the training, where it has been told
        self.gradient_factor: Union[float, Callable[[], float]] = 1.0
        quanters = [q for _, layer in self.layers
                    for q in (layer.weight_quanter, layer.activation_quanter) if q is not None]
        self._weights = [layer.weight for _, layer in self.layers if not layer.weight.stop_gradient]
        self._scales = [p for q in quanters for p in q.parameters() if not p.stop_gradient]

    def on_epoch(self, epoch: int, epochs: int):
        """To be called before every epoch, 0 to ``epochs - 1``."""
        self.phase = phase_of(self.settings, epoch, epochs)
        if self._plan is not None:  # a resumed training has made steps that were not counted here
            self._done = [round(self._plan.steps * epoch / epochs)] * len(self.layers)
        for tensors, trains in ((self._weights, self.phase.train_weights),
                                (self._scales, self.phase.train_scales)):
            for tensor in tensors:
                tensor.stop_gradient = not trains

    def plan(self, optimizer, steps: int, steps_per_lr: int = 1):
        """Tell how the training goes, which ``efolds`` and the prediction need.

        Args:
            optimizer(paddle.optimizer.Optimizer): SGD or Momentum, before its first step; its
                scheduler is copied, not moved.
            steps(int): optimizer steps of the whole training.
            steps_per_lr(int, optional): optimizer steps between two steps of the learning
                rate's scheduler, e.g. those of an epoch. Default: 1.

        Raises:
            ConfigError: no steps, or an optimizer that cannot be planned for.
        """
        settings = self.settings
        if not predictable(settings):
            return
        plan = rate_plan(settings, optimizer, steps, steps_per_lr)
        rows = [bin_statistics(layer.weight, layer.weight_quanter) for _, layer in self.layers]
        self._sizes = [row["weights"] / row["occupied"] for row in rows]
        self._distances = [row["distance"] for row in rows]
        if settings.efolds is not None:
            self._lambdas = [plan.lambda_for(settings.efolds, size) for size in self._sizes]
        self._plan, self._done = plan, [0] * len(rows)
        pulls = sorted((plan.efolds(lambda_, size, steps), name) for (name, _), lambda_, size
                       in zip(self.layers, self._lambdas, self._sizes))
        get_logger().info("bin regularization alone will pull the weights of %s by %.2g "
                          "('%s') to %.2g e-folds ('%s')", numbered(len(pulls), "layer"),
                          *pulls[0], *pulls[-1])
        weak = weak_pull(n for n, _ in pulls)
        if weak:
            get_logger().warning("%s; set BinRegularization.efolds: 2, or train longer", weak)

    @property
    def active(self) -> bool:
        """Whether the schedule has bin regularization on.

        Raises:
            ConfigError: ``on_epoch`` or ``plan`` has not been called, and the schedule depends
                on it.
        """
        if self.settings.efolds is not None:
            if self._plan is None:
                raise ConfigError("BinRegularization.efolds must know the training: call "
                                  "penalty.plan(optimizer, steps) before the first step, or give "
                                  "lambda instead")
            return self.settings.efolds > 0
        if self.phase is None:
            raise ConfigError(f"bin regularization with schedule {self.settings.schedule} must "
                              "know the epoch: call on_epoch(epoch, epochs) before every epoch, or "
                              "choose schedule S1")
        return self.phase.regularize and self.settings.lambda_ > 0

    def loss(self) -> paddle.Tensor:
        """The sum of ``lambda bin_reg_loss`` over the layers, a scalar; 0 while it is not active.

        With a plan, each call counts as one step.
        """
        active = self.active
        factors = [self._lambdas[k] * self._grown(k) for k in range(len(self.layers))]
        if not active or not any(factors):
            return paddle.zeros([], "float32")
        try:
            return total_loss([(layer.weight, layer.weight_quanter, self._pull(k, factors[k]))
                               for k, (_, layer) in enumerate(self.layers)],
                              self.settings.grad_to_scale)
        except DataError as error:
            raise DataError(f"layer '{self._first_nan()}': {error}") from error

    def _first_nan(self) -> str:
        return next(name for name, layer in self.layers for values in
                    (layer.weight, layer.weight_quanter.step()) if not values.isfinite().all())

    def inject(self, weight: paddle.Tensor, quanter) -> paddle.Tensor:
        """``weight`` with the gradient of ``loss()`` added in backward; to be called
        wherever it is quantized.

        A layer that runs several times in one forward pass would be regularized as
        often: call it once there.
        """
        if not paddle.is_grad_enabled() or not self.active:
            return weight
        k = self._numbers[id(quanter)]
        lambda_ = self._lambdas[k] * self._grown(k)
        if not lambda_:
            return weight
        return inject_pull(weight, quanter, self._pull(k, lambda: lambda_ * self._rescaled()),
                           self.settings.grad_to_scale)

    def _pull(self, k: int, factor) -> Pull:
        least = self._sizes[k] * LEAST_SHARE if self.settings.efolds is not None else 1.0
        return Pull(factor, self.settings.unbiased, max(1.0, least))

    def _grown(self, k: int) -> float:
        """The share of its full weight that the term of layer ``k`` has now; counts the step."""
        if self._plan is None:
            return 1.0
        step, self._done[k] = self._done[k], self._done[k] + 1
        if self.settings.efolds is None:
            return 1.0
        return self._plan.growth[min(step, self._plan.steps - 1)]

    def _rescaled(self) -> float:
        factor = self.gradient_factor
        return float(factor() if callable(factor) else factor)

    @paddle.no_grad()
    def statistics(self) -> List[Dict]:
        """One row per layer: how far its weights have collapsed onto their levels; see
        ``bin_statistics``.

        With a plan also ``lambda``, and ``predicted_efolds`` and ``measured_efolds`` since it was
        made: what the term alone does, and what became of the mean distance to the levels.
        """
        rows = [dict(layer=name, **bin_statistics(layer.weight, layer.weight_quanter))
                for name, layer in self.layers]
        if self._plan is not None:
            for k, row in enumerate(rows):
                row["lambda"] = self._lambdas[k]
                row["predicted_efolds"] = self._plan.efolds(self._lambdas[k], self._sizes[k],
                                                            self._done[k])
                row["measured_efolds"] = math.log(max(self._distances[k], 1e-12)
                                                  / max(row["distance"], 1e-12))
        return rows
