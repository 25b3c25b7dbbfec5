# SPDX-License-Identifier: Apache-2.0
"""Last epochs in which only the scales and shifts of batch norms train, channel by channel.

Weights on their grids stay where they are, and what the outputs lost by them is made good by
numbers that cost nothing when the model is deployed: they fold into scales and biases.
"""
from typing import List

import paddle

from ..errors import ModelError
from .statistics import NORMS


class AffineOnly:
    """Lets everything else rest in the last epochs.

    Args:
        model(paddle.nn.Layer): a prepared model.
        count(int): how many epochs, at the end.

    Raises:
        ModelError: no batch norm has a scale or shift that trains.

    Attributes:
        resting(bool): the present epoch is one of them.
    """

    def __init__(self, model, count: int):
        kept = {id(p) for layer in model.sublayers(include_self=True) if isinstance(layer, NORMS)
                for p in (layer.weight, layer.bias) if p is not None and not p.stop_gradient}
        if not kept:
            raise ModelError("QuantAware.affine_epochs trains scales and shifts of batch norms, "
                             "and the model has none that train: leave it out")
        self._others: List[paddle.Tensor] = [p for p in model.parameters() if id(p) not in kept]
        self._count, self.resting = count, False
        self._stopped: List[paddle.Tensor] = []

    def on_epoch(self, epoch: int, epochs: int):
        """To be called before every epoch, after all schedules."""
        self.resting = epoch >= epochs - self._count
        if self.resting:
            moving = [p for p in self._others if not p.stop_gradient]
            self._stopped += moving
        for tensor in self._stopped:
            tensor.stop_gradient = self.resting
        if not self.resting:
            self._stopped = []
