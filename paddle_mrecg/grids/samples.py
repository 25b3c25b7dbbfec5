# SPDX-License-Identifier: Apache-2.0
"""Where a learned grid starts: what was seen of a tensor, and the step that follows from it."""
from typing import List, Optional, Tuple

import numpy as np
import paddle

from ..errors import ConfigError, DataError
from .affine import QuantSpec
from .ranges import MSE_SHRINK, SMALLEST_RANGE, grid, mse_range

# values kept of each activation for the search: a percent of error in the step matters little
KEPT = 1 << 14
STEP_INITS = ("mse", "lsq", "abs_max")
# Bottlenecks of MobileNetV2 have single values fifty times the mean: with two bits the best range
# is a few percent of theirs.
_MSE_SHRINKS = np.concatenate([MSE_SHRINK, 0.2 * 0.9 ** np.arange(25)])


class Samples:
    """What calibration batches showed of one tensor.

    Args:
        axis(int, optional): axis with one grid per index. Default: None.
        whole(bool, optional): keep the last tensor with all its values (weights), not an even
            selection of every tensor's (activations). Default: False.
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
            raise DataError("NaN or infinity reached a quanter: check the model's weights and the "
                            "calibration data")
        self.low, self.high, self.count = min(self.low, low), max(self.high, high), self.count + 1
        self.abs_max.append(max(-low, high))
        if self.axis is not None:
            values = np.moveaxis(values, self.axis, 0)
        rows = values.reshape(values.shape[0] if self.axis is not None else 1, -1)
        if self.whole:
            self._kept = [rows]
        else:
            self._kept.append(_thinned(rows))

    def average_abs_max(self, momentum: float) -> float:
        """Moving average of the batches' abs-max, from the first one on."""
        average = self.abs_max[0]
        for value in self.abs_max[1:]:
            average = momentum * average + (1.0 - momentum) * value
        return average

    def rows(self) -> np.ndarray:
        """``[channels, values]``, one row without axis."""
        rows = np.concatenate(self._kept, axis=1)
        return rows if self.whole else _thinned(rows)

    def ends(self) -> Tuple[np.ndarray, np.ndarray]:
        """Smallest and largest of all values that were seen, ``[channels]`` each."""
        if not self.whole:
            return np.float32([self.low]), np.float32([self.high])
        rows = self.rows()
        return rows.min(1), rows.max(1)


def _thinned(rows: np.ndarray) -> np.ndarray:
    """At most ``KEPT`` values of each row; an odd stride meets all columns of images
    whose sides are powers of two.
    """
    stride = -(-rows.shape[1] // KEPT)
    return rows[:, ::stride if stride == 1 else stride | 1].copy()


def initial_step(samples: Samples, spec: QuantSpec, init: str) -> np.ndarray:
    """The step of each row, float32 ``[channels]``.

    Args:
        samples(Samples): what was seen.
        spec(QuantSpec): a symmetric grid.
        init(str): 'lsq' for 2<|v|>/sqrt(qmax) (arXiv 1902.08153), or a name of ``initial_range``.

    Raises:
        ConfigError: unknown ``init``.
    """
    if init == "lsq":
        step = 2.0 * np.abs(samples.rows()).mean(1) / np.sqrt(spec.qmax)
        return np.maximum(step, SMALLEST_RANGE / spec.qmax).astype(np.float32)
    return grid(*initial_range(samples, spec, init), spec)[0]


def initial_range(samples: Samples, spec: QuantSpec, init: str) -> Tuple[np.ndarray, np.ndarray]:
    """The range that the first grid covers: low and high, ``[channels]`` each.

    Args:
        samples(Samples): what was seen.
        spec(QuantSpec): the grid.
        init(str): 'abs_max' for all values, 'mse' for the range of least mean squared error
            (LSQ+, arXiv 2004.09576).

    Raises:
        ConfigError: unknown ``init``.
    """
    if init == "abs_max":
        return samples.ends()
    if init != "mse":
        raise ConfigError(f"unknown init '{init}' of a quanter; choose one of "
                          f"{', '.join(STEP_INITS)}")
    # not the ends: among so few values the largest of all would count many times over
    rows = samples.rows()
    return mse_range(rows, rows.min(1), rows.max(1), spec, shrinks=_MSE_SHRINKS, norm=2.0)


def awake(step: np.ndarray, samples: Samples, qmax: int) -> np.ndarray:
    """``step`` of weights, ``[channels]``, with a width for channels whose weights are all zero,
    as heads are often started: the other channels' mean, or that of weights of variance 1/N.
    Outside a grid of no width no gradient passes.
    """
    rows = samples.rows()
    dead = np.abs(rows).max(1) == 0.0
    if not dead.any():
        return step
    usual = step[~dead].mean() if not dead.all() else 1.0 / np.sqrt(rows.shape[1]) / qmax
    return np.where(dead, np.float32(usual), step)


def weight_axis(layer) -> int:
    """The output-channel axis of a layer's weight: 0 of a convolution, 1 of a
    transposed one and of Linear.
    """
    return 1 if isinstance(layer, (paddle.nn.Linear, paddle.nn.Conv2DTranspose)) else 0
