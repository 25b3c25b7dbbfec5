# SPDX-License-Identifier: Apache-2.0
"""Means and powers of values that come in chunks, without holding them."""
from typing import Sequence

import numpy as np


class Means:
    """Means of arrays over all axes but some.

    Args:
        kept(Sequence[int], optional): axes with a mean for every position; of the same size in
            every chunk. Default: none, one mean of everything.
    """

    def __init__(self, kept: Sequence[int] = ()):
        self._kept, self._sum, self._count = tuple(kept), 0.0, 0

    def add(self, values: np.ndarray):
        """Take in another chunk."""
        kept = [axis % values.ndim for axis in self._kept]
        others = tuple(axis for axis in range(values.ndim) if axis not in kept)
        self._sum = self._sum + values.sum(others, dtype=np.float64)
        self._count += int(np.prod([values.shape[axis] for axis in others]))

    @property
    def value(self) -> np.ndarray:
        """float64, of the shape of the kept axes."""
        return self._sum / self._count


class Powers(Means):
    """The same, and sums of squares.

    Attributes:
        squares(float): sum of the squares of all values.
    """

    def __init__(self, kept: Sequence[int] = ()):
        super().__init__(kept)
        self.squares = 0.0

    def add(self, values: np.ndarray):
        super().add(values)
        self.squares += float(np.square(values, dtype=np.float64).sum())

    def variation(self) -> float:
        """Sum of the squared differences from the means; 0 before the first chunk."""
        if not self._count:
            return 0.0
        return max(0.0, self.squares - float(np.square(self._sum).sum()) / self._count)
