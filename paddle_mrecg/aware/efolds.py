# SPDX-License-Identifier: Apache-2.0
"""How strongly bin regularization pulls, said in e-folds instead of lambda.

The gradient of the term on a weight is ``2 lambda e / V``: ``e`` its distance to its level, ``V``
the weights in its bin. With learning rates ``r_t`` and momentum ``m`` it alone shrinks the
distance by the factor ``exp(-n)``, with

    n = 2 lambda sum(r_t) / ((1 - m) V)   e-folds.

V runs from 2 to tens of thousands, so one lambda for all layers closes small layers long before
large ones move, and a short training ends before anything has moved. With ``efolds`` given, each
layer gets the lambda for which ``n`` is the wanted number at the end of training. V is then the
layer's mean, weights divided by occupied bins; the lambda grows from 0 along a cosine.

Adam divides the sum of all gradients by its root mean square ``g`` of the past, weight by weight:
while the task's gradients are the larger ones the pull is ``2 lambda e / (V g)``, and where they
have died down it is a step of the learning rate, whatever lambda is. ``g`` is not known before the
training and differs within a layer by orders, so nothing is planned for Adam.
"""
import copy
import math
from typing import Iterable, List, Optional

from paddle.optimizer.lr import LRScheduler

from ..config.aware import BinRegularization
from ..errors import ConfigError

PLANNABLE = "SGD", "Momentum"  # optimizers whose steps are proportional to gradients
WEAK = 0.3  # e-folds below which the term hardly moves a weight
# A bin with few weights would be pulled as many times harder than the layer's mean, up to
# thousands, and momentum makes it swing: no bin counts less than this share of the mean.
LEAST_SHARE = 0.1


def predictable(settings: BinRegularization) -> bool:
    """Whether the term starts at a known share of the steps, which the law needs."""
    return settings.schedule == "S1" or (settings.schedule == "S2" and settings.start < 1)


def weak_pull(efolds: Iterable[float]) -> Optional[str]:
    """What to say of predicted e-folds, one number for each layer, where some are below ``WEAK``;
    None where none is.
    """
    efolds = list(efolds)
    weak = sum(n < WEAK for n in efolds)
    return (f"bin regularization will hardly act in {weak} of {len(efolds)} layers (less than "
            f"{WEAK:g} e-folds)") if weak else None


class RatePlan:
    """The learning rates of a training, step by step, and how the term grows in it.

    Args:
        optimizer(paddle.optimizer.Optimizer): SGD or Momentum, before its first step.
        steps(int): optimizer steps of the whole training.
        start(float): share of the steps before the term begins.
        growing(bool): from 0 along a cosine, else at full weight at once.
        steps_per_lr(int): optimizer steps between two steps of the learning rate's scheduler.

    Raises:
        ConfigError: no steps, or an optimizer whose steps are not proportional to gradients.

    Attributes:
        growth(list[float]): the term's share of its full weight, 0 to 1, for each step.
        pulls(list[float]): ``growth`` times the learning rates with which the gradient of a step
            acts until the end, ``rate / (1 - momentum)`` where they are equal: 2 lambda / V times
            their sum are the e-folds.
    """

    def __init__(self, optimizer, steps: int, start: float, growing: bool, steps_per_lr: int = 1):
        if steps < 1 or steps_per_lr < 1:
            raise ConfigError(f"a training of {steps} steps, {steps_per_lr} for each learning "
                              "rate: both must be at least 1")
        kind = type(optimizer).__name__
        if kind not in PLANNABLE:
            raise ConfigError(f"the e-folds of bin regularization cannot be planned for {kind}, "
                              "which divides every gradient by its own size, so the pull depends "
                              "on the task's gradients: use SGD or Momentum, or "
                              "BinRegularization.lambda instead of efolds")
        momentum = float(getattr(optimizer, "_momentum", 0.0))
        rates = _rates(optimizer, steps, steps_per_lr)
        self.steps, self.growth = steps, [_growth(k / steps, start, growing) for k in range(steps)]
        self.pulls = [g * r for g, r in zip(self.growth, _with_momentum(rates, momentum))]

    def efolds(self, lambda_: float, bin_size: float, done: int) -> float:
        """Predicted e-folds after ``done`` steps of a bin of that size."""
        return 2.0 * lambda_ * sum(self.pulls[:done]) / bin_size

    def lambda_for(self, efolds: float, bin_size: float) -> float:
        """The full weight of the term for that number of e-folds at the end of training."""
        total = sum(self.pulls)
        return efolds * bin_size / (2.0 * total) if total else 0.0


def _growth(share: float, start: float, growing: bool) -> float:
    if share < start:
        return 0.0
    return 0.5 * (1.0 - math.cos(math.pi * (share - start) / (1.0 - start))) if growing else 1.0


def _with_momentum(rates: List[float], momentum: float) -> List[float]:
    """A gradient acts in its own step, and ever less in those that follow."""
    acting, later = [], 0.0
    for rate in reversed(rates):
        later = rate + momentum * later
        acting.append(later)
    return acting[::-1]


def _rates(optimizer, steps: int, steps_per_lr: int) -> List[float]:
    """The learning rate of each step, from a copy of the optimizer's scheduler."""
    scheduler = optimizer._learning_rate
    if not isinstance(scheduler, LRScheduler):
        return [float(optimizer.get_lr())] * steps
    scheduler, rates = copy.deepcopy(scheduler), []
    for step in range(steps):
        if step and step % steps_per_lr == 0:
            scheduler.step()
        rates.append(float(scheduler()))
    return rates


def rate_plan(settings: BinRegularization, optimizer, steps: int,
              steps_per_lr: int = 1) -> RatePlan:
    """The plan of a training with a ``predictable`` term; arguments and errors as of ``RatePlan``.
    """
    start = 0.0 if settings.schedule == "S1" else settings.start
    return RatePlan(optimizer, steps, start, settings.efolds is not None, steps_per_lr)
