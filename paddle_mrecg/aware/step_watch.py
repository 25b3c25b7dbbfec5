# SPDX-License-Identifier: Apache-2.0
"""Looks now and then, while a model trains, whether its steps do: they are numbers, and they move.
"""
from typing import Dict, List

import numpy as np
import paddle

from ..errors import DataError
from ..report.progress import get_logger
from .additions import addition_quanters
from .layers import quantized_layers

FIRST_LOOK, EVERY = 4, 50  # calls before the first look, and between looks


class StepWatch:
    """Told of every training step by ``Penalty``.

    Args:
        model(paddle.nn.Layer): a prepared model.
    """

    def __init__(self, model):
        quanters = {id(q): q for _, layer in quantized_layers(model) for q in layer.quanters()}
        quanters.update((id(q), q) for _, q in addition_quanters(model))
        self._quanters = [q for q in quanters.values() if q.step_parameters()]
        self._weights = [layer.weight for _, layer in quantized_layers(model)
                         if isinstance(layer.weight, paddle.Tensor)]
        self._calls, self._settled = 0, False
        self._start: Dict[int, np.ndarray] = {}

    def count(self):
        """A training step is made; every so often ``look``."""
        self._calls += 1
        if self._calls == 1 or self._calls == FIRST_LOOK or self._calls % EVERY == 0:
            self.look()

    def look(self):
        """Check all steps.

        Raises:
            DataError: a step is NaN or infinite; says of which layer.
        """
        steps = {id(q): q.step().numpy() for q in self._quanters if q.initialized}
        for quanter in self._quanters:
            if not np.isfinite(steps.get(id(quanter), 0.0)).all():
                raise DataError(f"the step of the {quanter.place} is NaN or infinite: the training "
                                "diverged; lower the learning rate, or QuantAware.scale_lr")
        if not self._settled:
            self._compare({id(q): _trained_values(q) for q in self._quanters if q.initialized})

    def _compare(self, steps: Dict[int, np.ndarray]):
        """Weights that train while no step does, because the optimizer does not know the steps.

        Args:
            steps(dict): what trains of the quanters that have a grid; a power of two need not move.
        """
        trained = [q for q in self._quanters if id(q) in steps
                   and any(not p.stop_gradient for p in q.step_parameters())]
        weights = _some(self._weights)
        if not self._start:
            self._start, self._weights_then = steps, weights
        elif trained and all(id(q) in self._start for q in trained):
            moved = any(not np.array_equal(steps[id(q)], self._start[id(q)]) for q in trained)
            if not moved and not np.array_equal(weights, self._weights_then):
                get_logger().warning("the weights train and no quantization step does: the "
                                     "optimizer was made before quant_aware_prepare, or without "
                                     "the steps; make it afterwards, with parameters="
                                     "penalty.parameter_groups()")
            self._settled = moved or not np.array_equal(weights, self._weights_then)
        else:  # grids that were found since
            self._start, self._weights_then = steps, weights


def _trained_values(quanter) -> np.ndarray:
    return np.concatenate([p.flatten().astype("float32").numpy()
                           for p in quanter.step_parameters()])


def _some(weights: List[paddle.Tensor]) -> np.ndarray:
    """A few values of a few layers."""
    return np.concatenate([w.flatten()[:8].astype("float32").numpy() for w in weights[:8]])
