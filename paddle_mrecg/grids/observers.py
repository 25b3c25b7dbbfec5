# SPDX-License-Identifier: Apache-2.0
"""From tensors to encodings: weights at once, activations batch by batch (numpy).

Methods: ``min_max`` covers everything; ``percentile`` a share of the values;
``mse`` minimises ``|x - Q(x)|^2.4``; ``kl`` minimises the information loss.
"""
import numpy as np

from ..errors import ConfigError, DataError, refuse_large
from .affine import Encoding, QuantSpec
from .ranges import encode, kl_threshold, mse_range

METHODS = ("mse", "min_max", "percentile", "kl")
_HALF = 8192  # histogram bins on either side of zero: 32 or more per 8-bit step


def weight_encoding(w: np.ndarray, spec: QuantSpec, method: str = "mse",
                    percentile: float = 0.9999) -> Encoding:
    """The grid of a weight.

    Args:
        w(array): the weight, any shape.
        spec(QuantSpec): the grid; ``spec.axis`` chooses per-channel scales.
        method(str, optional): one of ``METHODS``. Default: 'mse'.
        percentile(float, optional): share of magnitudes (asymmetric: of values
            at either end) kept by ``percentile``. Default: 0.9999.

    Returns:
        Encoding: finite and positive scales, also for channels that are all zero.

    Raises:
        DataError: the weight is empty or holds NaN or Inf.
        ConfigError: unknown method.

    Examples:
        >>> w = np.array([[0.7, -0.1], [0.0, -1.4]], np.float32)
        >>> weight_encoding(w, QuantSpec(4, True, True, axis=0), "min_max").scale.round(3).tolist()
        [0.10000000149011612, 0.20000000298023224]
    """
    _check_method(method)
    w = _finite(w)
    rows = (w.reshape(1, -1) if spec.axis is None
            else np.moveaxis(w, spec.axis, 0).reshape(w.shape[spec.axis], -1))
    low, high = rows.min(1), rows.max(1)
    if method == "mse":
        low, high = mse_range(np.ascontiguousarray(rows), low, high, spec)
    elif method == "percentile":
        if spec.symmetric:
            high = np.quantile(np.abs(rows), percentile, axis=1)
            low = -high
        else:
            low, high = np.quantile(rows, [1.0 - percentile, percentile], axis=1)
    elif method == "kl":
        bound = np.maximum(np.abs(rows).max(1), np.finfo(np.float32).tiny)
        # One share for all channels: a single channel has too few weights for a histogram.
        counts = np.histogram(np.abs(rows) / bound[:, None], bins=2048, range=(0.0, 1.0))[0]
        bound = bound * kl_threshold(counts, _magnitudes(spec))
        low, high = np.maximum(low, -bound), np.minimum(high, bound)
    return encode(low, high, spec)


class ActivationObserver:
    """Streams over batches of one activation and finds its per-tensor grid.

    Keeps a histogram of 2 x 8192 bins around zero, whose range doubles when a
    batch exceeds it, and the exact extremes; memory does not grow.

    Args:
        bits(int): 2 to 8.
        symmetric(bool): no zero point; signed when a negative value was seen.
            Asymmetric grids are unsigned with a zero point.
        method(str, optional): one of ``METHODS``. Default: 'mse'.
        percentile(float, optional): share kept by ``percentile``. Default: 0.9999.
        allow_unsigned(bool, optional): let symmetric grids of data without
            negative values be unsigned; False for Paddle Lite, which stores
            signed int8 and uses the codes 0 .. 127 of them. Default: True.

    Raises:
        ConfigError: unknown method.

    Examples:
        >>> observer = ActivationObserver(8, symmetric=True, method="min_max")
        >>> observer.update(np.array([0.0, 2.55], np.float32))
        >>> observer.encoding().spec.signed, round(float(observer.encoding().scale), 6)
        (False, 0.01)
    """

    def __init__(self, bits, symmetric, method="mse", percentile=0.9999, allow_unsigned=True):
        _check_method(method)
        self.bits, self.symmetric, self.method, self.percentile = (bits, symmetric, method,
                                                                   percentile)
        self.allow_unsigned = allow_unsigned
        self.low, self.high = np.inf, -np.inf
        self._bound = 0.0  # the histogram covers [-bound, bound)
        self._counts = np.zeros(2 * _HALF)

    def update(self, batch: np.ndarray):
        """Take in one batch, any shape.

        Raises:
            DataError: the batch is empty or holds NaN or Inf; see also ``refuse_large``.
        """
        batch = _finite(batch).ravel()
        low, high = float(batch.min()), float(batch.max())
        refuse_large(max(-low, high))
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.method == "min_max":
            return
        self._grow(max(-low, high))
        if self._bound == 0.0:  # nothing but zeros so far
            self._counts[_HALF] += batch.size
            return
        index = (batch * np.float32(_HALF / self._bound) + np.float32(_HALF)).astype(np.int32)
        np.clip(index, 0, 2 * _HALF - 1, out=index)
        self._counts += np.bincount(index, minlength=2 * _HALF)

    def _grow(self, bound):
        if self._bound == 0.0:
            self._bound = bound
        while self._bound < bound:
            merged = self._counts.reshape(_HALF, 2).sum(1)
            self._counts[:] = 0
            self._counts[_HALF // 2:_HALF // 2 + _HALF] = merged
            self._bound *= 2.0

    def encoding(self, method: str = None, percentile: float = None) -> Encoding:
        """The grid of what was seen.

        Args:
            method(str, optional): one of ``METHODS``, in place of the observer's own; an observer
                that was made with ``min_max`` knows no other. Default: None.
            percentile(float, optional): likewise. Default: None.

        Raises:
            DataError: nothing was seen.
        """
        method, spec = method or self.method, self._spec()
        low, high = self.low, self.high
        if method == "percentile" and self._bound > 0:
            low, high = self._percentile(spec, percentile or self.percentile)
        elif method != "min_max" and self._bound > 0:
            low, high = getattr(self, "_" + method)(spec)
        return encode(np.array([low]), np.array([high]), spec)

    def shrunk(self, share: float) -> Encoding:
        """The grid that covers ``share`` of the extremes at either end.

        Raises:
            DataError: nothing was seen.
        """
        spec = self._spec()
        return encode(np.array([self.low * share]), np.array([self.high * share]), spec)

    def _spec(self) -> QuantSpec:
        if self.low > self.high:
            raise DataError("no batch was observed; check that the loader yields samples")
        signed = self.symmetric and (self.low < 0 or not self.allow_unsigned)
        return QuantSpec(self.bits, signed, self.symmetric)

    def _centres(self):
        """Middle and count of every occupied bin, kept within the exact extremes."""
        used = np.flatnonzero(self._counts)
        centres = (used + 0.5 - _HALF) * (self._bound / _HALF)
        return np.clip(centres, self.low, self.high).astype(np.float32), self._counts[used]

    def _mse(self, spec):
        centres, counts = self._centres()
        low, high = mse_range(centres[None], [self.low], [self.high], spec, counts)
        return low[0], high[0]

    def _percentile(self, spec, share):
        centres, counts = self._centres()
        if spec.symmetric:
            order = np.argsort(np.abs(centres), kind="stable")
            high = float(np.abs(centres)[order][self._rank(counts[order], share)])
            return -high, high
        return (centres[self._rank(counts, 1.0 - share)],
                centres[self._rank(counts, share)])

    @staticmethod
    def _rank(counts, share):
        total = np.cumsum(counts)
        return min(int(np.searchsorted(total, share * total[-1])), len(counts) - 1)

    def _kl(self, spec):
        magnitudes = self._counts[_HALF:] + self._counts[:_HALF][::-1]
        bound = self._bound * kl_threshold(magnitudes.reshape(-1, 4).sum(1), _magnitudes(spec))
        return max(self.low, -bound), min(self.high, bound)


def _magnitudes(spec: QuantSpec) -> int:
    """Codes on one side of zero."""
    return 2**(spec.bits - 1) if spec.signed or not spec.symmetric else 2**spec.bits


def _check_method(method):
    if method not in METHODS:
        raise ConfigError(f"unknown observer '{method}'; choose one of {', '.join(METHODS)}")


def _finite(values) -> np.ndarray:
    values = np.asarray(values, np.float32)
    if values.size == 0:
        raise DataError(f"tensor of shape {list(values.shape)} has no values to observe")
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise DataError(f"{bad} of {values.size} values are NaN or Inf; remove them first")
    return values
