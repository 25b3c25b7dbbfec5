# SPDX-License-Identifier: Apache-2.0
"""What is looked at after every epoch of a quantized training."""
import math
from pathlib import Path
from typing import Callable, Dict, List

import paddle

from paddle_mrecg.aware.job import quantized_layers
from paddle_mrecg.report.bins import BinHistory


def watching(network: paddle.nn.Layer, penalty) -> Callable[[List[Dict]], Dict]:
    """A function that measures a prepared network, from ``penalty.statistics()``.

    Its dict has ``weight_error_db``, the quantization error's share of the weights' power in
    decibel, over all layers; ``near``, the percentage of weights within a tenth of a step of their
    level; and ``alphas``, the clips of symmetric PACT by layer, if there are any.
    """
    def measure(rows):
        alphas = penalty.alphas()
        power = sum(float(layer.float_weight().square().sum())
                    for _, layer in quantized_layers(network))
        error = sum(row["mse"] * row["weights"] for row in rows)
        near = (sum(row["near"] * row["weights"] for row in rows)
                / sum(row["weights"] for row in rows))
        found = dict(weight_error_db=10.0 * math.log10(max(error, 1e-30) / max(power, 1e-30)),
                     near=100.0 * near)
        return dict(found, alphas=alphas) if alphas else found
    return measure


class WeightBins:
    """How the weights gather on their levels: ``bins.csv``, VisualDL and, of the largest layer
    of few bits, ``bins.png``.

    Args:
        network(paddle.nn.Layer): a prepared network.
        folder(str): where the files go.
        resume(bool): go on with what is there.
    """

    def __init__(self, network: paddle.nn.Layer, folder: str, resume: bool):
        self._network, self._folder, self._history = (network, Path(folder),
                                                      BinHistory(folder, resume))

    def add(self, epoch: int, rows: List[Dict], board):
        """Note ``penalty.statistics()`` of ``epoch``, counted from 1."""
        self._history.add(epoch, rows, quantized_layers(self._network), board)

    def draw(self):
        """Make the picture of all epochs, if there are any."""
        if not self._history.rows:  # a finished run of before there was a history
            return
        self._history.draw(str(self._folder / "bins.png"))
