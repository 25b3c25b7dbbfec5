# SPDX-License-Identifier: Apache-2.0
"""Round one layer's weights by linear algebra, for the input that they will really get (numpy).

X are rows of the layer's input in the *quantized* network, T the same rows of its output in the
*float* network. Wanted are weights Q on the grid, and a bias, for which X Q + bias comes close to
T: a quadratic problem with H = X'X + lambda I. Its continuous solution is V = W + inverse(H) X'(T -
X W), which repairs what quantization did to the input; where data say nothing, V stays at the float
weight W. Rounding then spreads the error of every row over the rows that are not rounded yet (OBQ,
GPTQ), and sweeps of coordinate descent (COMQ) take the codes to a minimum that no single change
improves. The asymmetric target is that of GPTAQ (ICML 2025).

A layer is G independent problems of d rows and n columns, arrays ``[G, d, n]``: one for a dense
layer, one per group for a grouped convolution, one of k x k rows per channel for a depthwise one.
"""
import dataclasses

import numpy as np

from ..errors import DataError

ROUNDED_ROWS = 128  # rows rounded before all others hear of it: the rest is matrix products
SWEEPS = 3
DAMPING = 0.1  # lambda over the mean diagonal of X'X, at least
DAMPING_PER_ROW = 10.0  # times unknowns over equations: what few samples say is believed less
_DOUBLE = 1024  # larger systems are summed up and factored in float32


@dataclasses.dataclass(frozen=True)
class ColumnGrid:
    """The grid of every column.

    Args:
        scale(array): step, float32, ``[G, n]`` or what broadcasts to it.
        zero_point(array): code of 0.0, same shape.
        qmin(int): smallest code.
        qmax(int): largest code.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    qmin: int
    qmax: int

    def codes(self, row: np.ndarray) -> np.ndarray:
        """Nearest codes of one row of weights ``[G, n]``, as ``affine.quantize`` finds them."""
        found = np.rint(row.astype(np.float32) * (np.float32(1) / self.scale) + self.zero_point)
        return np.clip(found, self.qmin, self.qmax) + np.float32(0)  # no negative zeros

    def values(self, codes: np.ndarray) -> np.ndarray:
        """The weights that codes ``[G, n]`` stand for, float32."""
        return (codes - self.zero_point) * self.scale

    def all_rows(self) -> "ColumnGrid":
        """The same for whole weights ``[G, d, n]``."""
        return ColumnGrid(self.scale[..., None, :], self.zero_point[..., None, :], self.qmin,
                          self.qmax)


class Gram:
    """What the solve has to know of X and T, summed up chunk by chunk.

    Holds the centred sums of X'X and X'(T - X W) and the means. The difference T - X W is taken row
    by row: it is small where T and X W are large, and would drown in the rounding of X'T - X'X W.

    Args:
        weight(array): W, float32, ``[G, d, n]``.

    Attributes:
        count(int): rows seen.
        xx(array): ``[G, d, d]``, sum of products of the inputs around their means.
        xe(array): ``[G, d, n]``, of the inputs and E = T - X W.
        ee(array): ``[G, n]`` float64, squared E around its mean.
        x_mean(array), e_mean(array): ``[G, d]`` and ``[G, n]`` float64.
    """

    def __init__(self, weight: np.ndarray):
        self.weight = np.ascontiguousarray(weight, np.float32)
        groups, rows, columns = weight.shape
        self.count = 0
        self.xx = np.zeros((groups, rows, rows), np.float64 if rows <= _DOUBLE else np.float32)
        self.xe = np.zeros((groups, rows, columns), self.xx.dtype)
        self.ee = np.zeros((groups, columns))
        self.x_mean, self.e_mean = np.zeros((groups, rows)), np.zeros((groups, columns))

    def add(self, x: np.ndarray, t: np.ndarray):
        """Take in rows.

        Args:
            x(array): inputs of the quantized network, float32 ``[G, R, d]``.
            t(array): outputs of the float network without bias, ``[G, R, n]``.

        Sums within one call are float32: give thousands of rows at a time, not millions.
        """
        count = x.shape[1]
        if not count:
            return
        e = t - x @ self.weight
        x_mean, e_mean = x.mean(1, keepdims=True), e.mean(1, keepdims=True)
        x = x - x_mean
        e -= e_mean
        transposed = x.swapaxes(1, 2)
        self.xx += transposed @ x  # numpy sees that it is symmetric and does half the work
        self.xe += transposed @ e
        self.ee += np.einsum("grn,grn->gn", e, e)
        # Chunks have means of their own: add what lies between them (Chan, Golub and LeVeque 1979).
        x_gap, e_gap = x_mean[:, 0] - self.x_mean, e_mean[:, 0] - self.e_mean
        factor = self.count * count / (self.count + count)
        if self.count:
            self.xx += factor * x_gap[:, :, None] * x_gap[:, None, :]
            self.xe += factor * x_gap[:, :, None] * e_gap[:, None, :]
            self.ee += factor * e_gap * e_gap
        self.count += count
        self.x_mean += x_gap * (count / self.count)
        self.e_mean += e_gap * (count / self.count)

    def error(self, change: np.ndarray) -> np.ndarray:
        """Squared error per row of every column, with the best bias: ``[G, n]``, float64.

        Args:
            change(array): Q - W, ``[G, d, n]``.
        """
        gradient = self.xx @ change.astype(self.xx.dtype) - 2 * self.xe
        total = self.ee + np.einsum("gdn,gdn->gn", change, gradient, dtype=np.float64)
        return np.maximum(total, 0.0) / max(1, self.count)

    def target_power(self) -> float:
        """Variance of the layer's float output, summed over columns; T = X W + E."""
        cross = self.xx @ self.weight.astype(self.xx.dtype) + 2 * self.xe
        total = self.ee.sum() + np.einsum("gdn,gdn->", self.weight, cross, dtype=np.float64)
        return max(float(total), 0.0) / max(1, self.count)

    def bias(self, change: np.ndarray) -> np.ndarray:
        """What to add to the bias for weights Q = W + ``change``: ``[G, n]``, float32."""
        return (self.e_mean - (self.x_mean[:, None] @ change)[:, 0]).astype(np.float32)


@dataclasses.dataclass
class Solution:
    """Codes of one layer, and what they cost.

    Attributes:
        codes(array): integers as float32, ``[G, d, n]``.
        bias(array): to add to the layer's bias, ``[G, n]``.
        error(array): squared error per row with that bias, ``[G, n]``.
        nearest(Solution): plain rounding with its own best bias, None in that one.
    """

    codes: np.ndarray
    bias: np.ndarray
    error: np.ndarray
    nearest: "Solution" = None

    @property
    def gain(self) -> float:
        """Nearest rounding's error over this one's, both with the best bias; 1 without any."""
        ours, theirs = float(self.error.sum()), float(self.nearest.error.sum())
        return theirs / ours if ours > 0 else 1.0


def default_damping(gram: Gram) -> float:
    """Lambda over the mean diagonal of X'X: the ridge that a regression with this many rows wants.

    With few rows per unknown, V fits what quantization did to the very samples: 64 images are 64
    equations for the 1024 inputs of a classifier. The best ridge is proportional to unknowns over
    equations (Hoerl, Kennard and Baldwin 1975); both constants were measured on the demo's
    networks.
    """
    return max(DAMPING, DAMPING_PER_ROW * gram.xx.shape[-1] / max(1, gram.count))


def solve(gram: Gram, grid: ColumnGrid, damping: float = None, sweeps: int = SWEEPS,
          block: int = ROUNDED_ROWS) -> Solution:
    """Round a layer.

    Args:
        gram(Gram): what is known of its input and output.
        grid(ColumnGrid): the grid of its columns.
        damping(float, optional): lambda over the mean diagonal of X'X. Default: None, by
            ``default_damping``.
        sweeps(int, optional): passes of coordinate descent at most. Default: 3.
        block(int, optional): rows per block; the result does not depend on it but for float
            rounding. Default: 128.

    Returns:
        Solution: columns that would come out worse than nearest rounding keep it.

    Raises:
        DataError: the layer's input or output holds NaN or Inf.

    Examples:
        >>> gram = Gram(np.array([[[0.4], [0.4]]], np.float32))
        >>> x = np.array([[[1.0, 1.0], [2.0, 2.1], [3.0, 2.9]]], np.float32)
        >>> gram.add(x, x @ gram.weight)
        >>> grid = ColumnGrid(np.float32([[1.0]]), np.float32([[0.0]]), -2, 1)
        >>> solve(gram, grid, damping=0.01).codes.ravel().tolist()
        [0.0, 1.0]
    """
    if not all(np.isfinite(a).all() for a in (gram.xx, gram.xe, gram.ee, gram.x_mean, gram.e_mean)):
        raise DataError("the layer's input or output holds NaN or Inf; check the calibration "
                        "samples, or leave the layer float with QuantPost.skip")
    weight, whole = gram.weight, grid.all_rows()
    nearest = _solution(gram, whole.codes(weight), whole)
    damping = default_damping(gram) if damping is None else damping
    hessian, factor, step = _factored(gram, damping)
    target = weight + step
    codes = _round(target, factor, grid, block)
    residual = hessian @ (target - whole.values(codes))
    for _ in range(sweeps):
        if not _sweep(codes, residual, hessian, grid, block):
            break
    solved = _solution(gram, codes, whole)
    worse = solved.error > nearest.error
    return Solution(np.where(worse[:, None], nearest.codes, solved.codes),
                    np.where(worse, nearest.bias, solved.bias),
                    np.minimum(nearest.error, solved.error), nearest)


def _solution(gram: Gram, codes: np.ndarray, whole: ColumnGrid) -> Solution:
    change = whole.values(codes) - gram.weight
    return Solution(codes, gram.bias(change), gram.error(change))


def _factored(gram: Gram, damping: float):
    """H = R R' with R upper triangular, and V - W; float32, all over the mean diagonal of X'X.

    R, the Cholesky factor from the far end, holds what GPTQ takes from the Cholesky factor of H's
    inverse: row i of inverse(R) over its first entry. So nothing has to be inverted.
    """
    index = np.arange(gram.xx.shape[-1])
    power = gram.xx[:, index, index].mean(1)
    dead = power < np.finfo(np.float32).tiny * 1e6  # no input varies: nothing to learn, and H = I
    unit = np.where(dead, 1, power)[:, None, None]
    hessian = gram.xx / unit
    hessian[dead] = 0
    right = np.where(dead[:, None, None], 0, gram.xe / unit)
    while True:
        hessian[:, index, index] += np.where(dead[:, None], 1, damping)
        try:
            factor = np.linalg.cholesky(hessian[:, ::-1, ::-1])[:, ::-1, ::-1]
            step = np.linalg.solve(hessian, right)
            break
        except np.linalg.LinAlgError:
            # Not positive within rounding: a larger lambda costs less than was lost already.
            damping = max(10 * damping, 1e-6)
    return [np.ascontiguousarray(a, np.float32) for a in (hessian, factor, step)]


def _round(target, factor, grid: ColumnGrid, block: int) -> np.ndarray:
    """Codes of V, row after row, each row making up for the errors of those before it.

    With D = Q - V the error is the squared norm of R'D, and R' is lower triangular: row i is zero
    at D[i] = -R[:i, i]' D[:i] / R[i, i], so that is where row i is rounded. (Babai's nearest plane;
    the same as GPTQ's updates of all later rows, but looking back, which needs one matrix product
    per block.)
    """
    rows = target.shape[1]
    codes, moved = np.empty_like(target), np.zeros_like(target)
    diagonal = factor[:, np.arange(rows), np.arange(rows)]
    for start in range(0, rows, block):
        stop = min(start + block, rows)
        earlier = factor[:, :start, start:stop].swapaxes(1, 2) @ moved[:, :start]
        inside = np.ascontiguousarray(factor[:, start:stop, start:stop].swapaxes(1, 2))
        for i in range(start, stop):
            k = i - start
            pull = earlier[:, k] + (inside[:, k:k + 1, :k] @ moved[:, start:i])[:, 0]
            codes[:, i] = grid.codes(target[:, i] - pull / diagonal[:, i, None])
            moved[:, i] = grid.values(codes[:, i]) - target[:, i]
    return codes


def _sweep(codes, residual, hessian, grid: ColumnGrid, block: int) -> bool:
    """One pass of exact minimisation over single codes; True when any changed.

    ``codes`` and ``residual`` = H (V - Q) are updated in place.
    """
    rows, changed = codes.shape[1], False
    diagonal = hessian[:, np.arange(rows), np.arange(rows)]
    for start in range(0, rows, block):
        stop = min(start + block, rows)
        inside = np.ascontiguousarray(hessian[:, start:stop, start:stop])
        moved = np.zeros_like(codes[:, start:stop])
        for i in range(start, stop):
            k = i - start
            pull = residual[:, i] - (inside[:, k:k + 1, :k] @ moved[:, :k])[:, 0]
            before = grid.values(codes[:, i])
            codes[:, i] = grid.codes(before + pull / diagonal[:, i, None])
            moved[:, k] = grid.values(codes[:, i]) - before
        if moved.any():
            changed = True
            residual -= hessian[:, :, start:stop] @ moved
    return changed
