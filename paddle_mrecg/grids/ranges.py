# SPDX-License-Identifier: Apache-2.0
"""Where a grid should end: clipping ranges that lose little (numpy).

Values come as rows, one per channel, optionally weighted (the bins of a
histogram); ranges as two arrays with one entry per row.
"""
from typing import Optional, Tuple

import numpy as np

from .affine import Encoding, QuantSpec

MSE_NORM = 2.4  # |x - Q(x)|^p as in LAPQ, BRECQ and MQBench
# BRECQ's and MQBench's search: 100 % down to 21 % of the range
MSE_SHRINK = 1.0 - 0.01 * np.arange(80)
# of a channel that is all zero: any step will do, a tiny one cannot do harm later
SMALLEST_RANGE = 1e-8
_BLOCK = 1 << 18  # elements worked on at once: 1 MiB per temporary, which stays in the cache


def grid(low: np.ndarray, high: np.ndarray, spec: QuantSpec) -> Tuple[np.ndarray, np.ndarray]:
    """Scale and zero point whose grid covers ``low .. high`` and holds 0.0 exactly.

    A symmetric signed grid covers the larger magnitude with ``qmax`` codes; its
    extra negative code lies beyond.

    Examples:
        >>> scale, zero = grid(np.array([-1.0]), np.array([2.0]), QuantSpec(2, signed=False,
        ...     symmetric=False))
        >>> scale.tolist(), zero.tolist()
        ([1.0], [1.0])
    """
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    if spec.symmetric:
        bound = np.maximum(high, -low) if spec.signed else high
        scale = np.maximum(bound, SMALLEST_RANGE) / spec.qmax
        return scale.astype(np.float32), np.zeros_like(scale, np.float32)
    scale = (np.maximum(high - low, SMALLEST_RANGE) / (spec.qmax - spec.qmin)).astype(np.float32)
    zero = np.clip(spec.qmin - np.rint(low / scale), spec.qmin, spec.qmax)
    return scale, zero.astype(np.float32)


def encode(low: np.ndarray, high: np.ndarray, spec: QuantSpec) -> Encoding:
    """The Encoding of per-row ranges; the single row of a per-tensor grid becomes a scalar."""
    scale, zero = grid(low, high, spec)
    if spec.axis is None:
        scale, zero = scale[0], zero[0]
    return Encoding(spec, scale, zero)


def mse_range(rows: np.ndarray, low, high, spec: QuantSpec, weights: Optional[np.ndarray] = None,
              shrinks=MSE_SHRINK,
              norm: float = MSE_NORM):
    """The ranges within ``low .. high`` of least ``sum(weights * |x - Q(x)|^norm)``.

    Both ends shrink together first. An asymmetric grid then has either end
    searched alone with the other held, which matters when only one tail is long.

    Args:
        rows(array): ``[C, N]`` float32.
        low(array): ``[C]``, smallest values.
        high(array): ``[C]``, largest values.
        spec(QuantSpec): the grid.
        weights(array, optional): ``[N]``, how often each value occurs. Default: None, once.
        shrinks(array, optional): shares of the range that are tried. Default: 1 to 0.21.
        norm(float, optional): power of the error. Default: 2.4.

    Returns:
        tuple: the new ``low`` and ``high``, ``[C]`` each.
    """
    low, high = np.array(low, np.float32), np.array(high, np.float32)
    count = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), count):
        part = slice(start, start + count)
        low[part], high[part] = _search(rows[part], low[part], high[part], spec, weights, shrinks,
                                        norm)
    return low, high


def _search(rows, low, high, spec, weights, shrinks, norm):
    best_low, best_high = low.copy(), high.copy()
    best = np.full(len(rows), np.inf)
    ends = [(True, True)] if spec.symmetric else [(True, True), (True, False), (False, True)]
    for move_low, move_high in ends:
        held_low, held_high = best_low.copy(), best_high.copy()
        for shrink in shrinks:
            new_low = low * np.float32(shrink) if move_low else held_low
            new_high = high * np.float32(shrink) if move_high else held_high
            score = _score(rows, *grid(new_low, new_high, spec), spec, weights, norm)
            better = score < best
            best = np.where(better, score, best)
            best_low, best_high = (np.where(better, new_low, best_low),
                                   np.where(better, new_high, best_high))
    return best_low, best_high


def _score(rows, scale, zero, spec, weights, norm):
    """Error of every row on its own grid; blocks of columns keep the temporaries small."""
    total = np.zeros(len(rows))
    scale, zero = scale[:, None], zero[:, None]
    inverse = np.float32(1) / scale
    for start in range(0, rows.shape[1], _BLOCK):
        block = rows[:, start:start + _BLOCK]
        codes = block * inverse
        codes += zero
        np.rint(codes, out=codes)
        np.clip(codes, spec.qmin, spec.qmax, out=codes)
        codes -= zero
        codes *= scale
        codes -= block
        np.abs(codes, out=codes)
        np.power(codes, np.float32(norm), out=codes)
        if weights is None:
            total += codes.sum(1, dtype=np.float64)
        else:
            total += codes @ weights[start:start + _BLOCK]
    return total


def kl_threshold(counts: np.ndarray, levels: int) -> float:
    """The clipping threshold of least information loss (TensorRT), as a share.

    The first bin counts no more than the largest of the others: behind a ReLU it holds the zeros,
    which every grid represents exactly, and in their company no tail would be worth keeping.

    Args:
        counts(array): histogram of magnitudes, first bin at 0.
        levels(int): codes available for magnitudes, e.g. 128 of a signed 8-bit grid.

    Returns:
        float: in (0, 1].

    Examples:
        >>> bell = np.round(1e4 * np.exp(-np.square(np.arange(512) / 50.0)))
        >>> bell[-1] = 1  # one outlier far away
        >>> round(kl_threshold(bell, 8), 2)
        0.22
    """
    counts = np.array(counts, np.float64)
    if len(counts) > 1 and counts[1:].any():
        counts[0] = min(counts[0], counts[1:].max())
    candidates = np.unique(np.linspace(min(levels, len(counts)), len(counts), 128).astype(int))
    divergences = [_divergence(counts, stop, levels) for stop in candidates]
    return float(candidates[int(np.argmin(divergences))]) / len(counts)


def _divergence(counts, stop, levels):
    """KL divergence of the histogram clipped at ``stop`` from the same
    merged into ``levels`` groups.
    """
    kept = counts[:stop]
    reference = kept.copy()
    reference[-1] += counts[stop:].sum()
    group = np.arange(stop) * levels // stop
    occupied = (kept > 0).astype(np.float64)
    width = np.bincount(group, occupied, levels)
    merged = np.bincount(group, kept, levels) / np.maximum(width, 1.0)
    model = merged[group] * occupied
    if model.sum() == 0 or reference.sum() == 0:
        return np.inf
    p, q = reference / reference.sum(), model / model.sum()
    q = np.where(q > 0, q, 1e-9)  # a clipped tail may land in a bin that was empty
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))
