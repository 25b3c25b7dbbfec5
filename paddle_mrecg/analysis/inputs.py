# SPDX-License-Identifier: Apache-2.0
"""What the activations that layers read are like, channel by channel."""
import dataclasses
from typing import Dict, Mapping

import numpy as np


@dataclasses.dataclass
class InputStatistics:
    """What a layer reads, over all samples and positions.

    Attributes:
        largest(array): ``[channels]``, largest magnitude.
        power(array): ``[channels]``, mean square.
        count(int): values of a channel.
    """

    largest: np.ndarray
    power: np.ndarray
    count: int

    @classmethod
    def of(cls, values: np.ndarray) -> "InputStatistics":
        """From ``[N, C, H, W]``, or ``[..., C]`` of a matrix product."""
        axis = 1 if values.ndim == 4 else values.ndim - 1
        others = tuple(k for k in range(values.ndim) if k != axis)
        return cls(np.abs(values).max(others), np.square(values, dtype=np.float64).mean(others),
                   values.size // values.shape[axis])

    def merged(self, other: "InputStatistics") -> "InputStatistics":
        """Of both."""
        count = self.count + other.count
        return InputStatistics(np.maximum(self.largest, other.largest),
                               (self.count * self.power + other.count * other.power) / count, count)


def input_statistics(values: Mapping[str, np.ndarray],
                     known: Dict[str, InputStatistics]) -> Dict[str, InputStatistics]:
    """``known`` with another batch of activations taken in."""
    for name, value in values.items():
        new = InputStatistics.of(value)
        known[name] = known[name].merged(new) if name in known else new
    return known
