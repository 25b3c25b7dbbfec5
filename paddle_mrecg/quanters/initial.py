# SPDX-License-Identifier: Apache-2.0
"""Where a learned grid starts: what was seen of a tensor, and the step that follows from it."""
from typing import List, Optional

import numpy as np
import paddle

from ..errors import ConfigError, DataError
from ..quantizers.affine import QuantSpec
from ..quantizers.ranges import SMALLEST_RANGE, grid, mse_range

KEPT = 1 << 14  # values kept of each activation for the search: a percent of error in the step matters little
INITS = ("mse", "lsq", "abs_max")


class Samples:
    """What calibration batches showed of one tensor.

    Args:
        axis(int, optional): axis with one grid per index. Default: None.
        whole(bool, optional): keep the last tensor with all its values (weights), not an even selection of every
            tensor's (activations). Default: False.
    """

    def __init__(self, axis: Optional[int] = None, whole: bool = False):
        self.axis, self.whole = axis, whole
        self.abs_max: List[float] = []  # of each batch
        self.low, self.high, self.count = np.inf, -np.inf, 0
        self._kept: List[np.ndarray] = []

    def add(self, x: paddle.Tensor):
        """Look at one more batch.

        Raises:
            DataError: NaN or infinity.
        """
        values = np.asarray(x.detach().cast("float32").numpy())
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError("NaN or infinity reached a quanter: check the model's weights and the calibration data")
        self.low, self.high, self.count = min(self.low, low), max(self.high, high), self.count + 1
        self.abs_max.append(max(-low, high))
        if self.axis is not None:
            values = np.moveaxis(values, self.axis, 0)
        rows = values.reshape(values.shape[0] if self.axis is not None else 1, -1)
        if self.whole:
            self._kept = [rows]
        else:
            self._kept.append(_thinned(rows))

    def rows(self) -> np.ndarray:
        """``[channels, values]``, one row without axis; the extremes are among the values."""
        rows = np.concatenate(self._kept, axis=1)
        if self.whole:
            return rows
        ends = np.full([len(rows), 2], [self.low, self.high], np.float32)
        return np.concatenate([_thinned(rows), ends], axis=1)


def _thinned(rows: np.ndarray) -> np.ndarray:
    """At most ``KEPT`` values of each row; an odd stride meets all columns of images whose sides are powers of two."""
    stride = -(-rows.shape[1] // KEPT)
    return rows[:, ::stride if stride == 1 else stride | 1].copy()


def initial_step(rows: np.ndarray, spec: QuantSpec, init: str) -> np.ndarray:
    """The step of each row, float32 ``[channels]``.

    Args:
        rows(array): ``[channels, values]``.
        spec(QuantSpec): a symmetric grid.
        init(str): 'lsq' for 2<|v|>/sqrt(qmax) (arXiv 1902.08153), 'abs_max' for a grid that covers all values, 'mse'
            for the part of that range with the least error (LSQ+, arXiv 2004.09576, with the norm of ``mse_range``).

    Raises:
        ConfigError: unknown ``init``.

    Examples:
        >>> initial_step(np.array([[-1.0, 3.0]]), QuantSpec(3, True, True), "abs_max").tolist()
        [1.0]
    """
    if init == "lsq":
        step = 2.0 * np.abs(rows).mean(1) / np.sqrt(spec.qmax)
        return np.maximum(step, SMALLEST_RANGE / spec.qmax).astype(np.float32)
    low, high = rows.min(1), rows.max(1)
    if init == "mse":
        low, high = mse_range(rows, low, high, spec)
    elif init != "abs_max":
        raise ConfigError(f"unknown init '{init}' of a quanter; choose one of {', '.join(INITS)}")
    return grid(low, high, spec)[0]
