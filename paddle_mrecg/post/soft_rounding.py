# SPDX-License-Identifier: Apache-2.0
"""Learned rounding of weights (AdaRound, arXiv 2004.10568, section 3).

Every weight lies between two codes, ``floor`` and ``floor + 1``. A trainable
``alpha`` says how far up it goes: ``h = clip(sigmoid(alpha) * 1.2 - 0.1, 0, 1)``
(the rectified sigmoid, zeta = 1.1 and gamma = -0.1). Inside, ``v = 2h - 1`` in
[-1, 1] is used: the soft weight is linear in it, the rounding term is
``sum(1 - |v|^beta)``, and ``dh/dalpha = 0.3 - v^2 / 4.8`` needs no more than it.
"""
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from ..errors import DataError
from ..grids.affine import Encoding, dequantize, position, quantize

GAMMA, ZETA = -0.1, 1.1
_STRETCH = ZETA - GAMMA
_SETTLED = -10.0  # alpha far in the flat part: h is exactly 0, without gradient or rounding term
# turns 1 - v^2 into a 0/1 mask by arithmetic; comparisons and casts are slower
_STEEP = float(2**23)
_NEAR_ZERO = 1e-24  # keeps log(v^2) finite


class SoftRounding:
    """The rounding variables of one weight.

    Args:
        weight(np.ndarray): float weight, any shape.
        encoding(Encoding): its grid.
        codes(array, optional): codes to start from. Default: None, the float weight.
        margin(float, optional): with ``codes``, how far from them, in steps, the
            soft weight starts, on the side of the float weight. Default: 0.1.

    ``alpha`` (trainable, shape of the weight) starts where ``soft()`` gives the
    float weight back, clipped to the grid. Weights beyond the grid have one
    code to choose from and take no part in the training.

    Examples:
        >>> from paddle_mrecg.grids.affine import QuantSpec
        >>> rounding = SoftRounding(np.array([0.3, -0.6, 9.0]), Encoding(QuantSpec(4, True, True),
        ...     0.5, 0))
        >>> rounding.soft().numpy().round(4).tolist()
        [0.30000001192092896, -0.6000000238418579, 3.5]
        >>> rounding.codes().tolist()
        [1, -1, 7]
    """

    def __init__(self, weight: np.ndarray, encoding: Encoding, codes: np.ndarray = None,
                 margin: float = 0.1):
        self.encoding = encoding
        self._nearest = quantize(weight, encoding)
        floor, rest, free = (_around_weight(weight, encoding) if codes is None
                             else _around_codes(weight, encoding, codes, margin))
        self._floor = np.where(free, floor, self._nearest)
        with np.errstate(divide="ignore"):
            alpha = -np.log(_STRETCH / (rest.astype(np.float64) - GAMMA) - 1.0)
        half = np.where(free, 0.5 * encoding.along(encoding.scale, weight.ndim),
                        0.0).astype(np.float32)
        self._middle = paddle.to_tensor(dequantize(self._floor, encoding) + half)
        self._half = paddle.to_tensor(half)
        self._free = free
        self.alpha = paddle.create_parameter(
            list(weight.shape), "float32", default_initializer=paddle.nn.initializer.Constant(0.0)
        )
        self.load_alpha(np.where(free, alpha, _SETTLED))

    def load_alpha(self, alpha: np.ndarray):
        """Take over rounding variables, e.g. ``other.alpha.numpy()`` of an
        earlier run on the same grid.

        Raises:
            DataError: other shape than the weight's, or NaN or Inf.
        """
        alpha = np.asarray(alpha, np.float32)
        if list(alpha.shape) != list(self.alpha.shape) or not np.all(np.isfinite(alpha)):
            raise DataError("rounding variables must be finite and of shape "
                            f"{list(self.alpha.shape)}, got {list(alpha.shape)}; delete the file "
                            "they come from and run again")
        self.alpha.set_value(np.where(self._free, alpha, np.float32(_SETTLED)))

    def soft(self, round_weight: float = 0.0, beta: float = None) -> paddle.Tensor:
        """The dequantized weight with soft rounding, shape of the weight.

        Args:
            round_weight(float, optional): lambda; when positive and ``beta`` is
                given, the backward pass adds the gradient of
                ``round_weight * regularizer(beta)`` to alpha's. The loss then
                must not contain the term a second time, nor be scaled.
                Default: 0.0.
            beta(float, optional): exponent of the rounding term. Default: None.
        """
        inject = beta is not None and round_weight > 0
        return _Soft.apply(self.alpha, self._middle, self._half, round_weight if inject else 0.0,
                           beta)

    def regularizer(self, beta: float) -> paddle.Tensor:
        """``sum(1 - |2h - 1|^beta)`` over all weights (AdaRound, equation 24), shape ``[]``."""
        square = paddle.square(_centred(self.alpha))
        return (1.0 - _power(square, 0.5 * beta)).sum()

    def h(self) -> np.ndarray:
        """The soft roundings, float32 in [0, 1]: 0 rounds down, 1 rounds up."""
        return 0.5 * (_centred(self.alpha.detach()).numpy() + 1.0)

    def codes(self) -> np.ndarray:
        """Hard-rounded codes, int32, all within the grid."""
        up = (self.alpha.numpy() >= 0) & self._free
        return (self._floor + up).astype(np.int32)


def _around_weight(weight: np.ndarray, encoding: Encoding):
    """The code below each weight, the rest above it, and which have a code on either side."""
    spec, place = encoding.spec, position(weight, encoding)
    floor = np.floor(place)
    rest = place - floor
    floor += encoding.along(encoding.zero_point, weight.ndim)
    return floor, rest, (floor >= spec.qmin) & (floor < spec.qmax)


def _around_codes(weight: np.ndarray, encoding: Encoding, codes: np.ndarray, margin: float):
    """The same for weights that start ``margin`` from ``codes``; the other code is that towards the
    float weight, or the only neighbour at the ends of the grid.
    """
    spec = encoding.spec
    place = position(weight, encoding) + encoding.along(encoding.zero_point, weight.ndim)
    up = ((place >= codes) | (codes <= spec.qmin)) & (codes < spec.qmax)
    floor = np.where(up, codes, codes - 1)
    rest = np.where(up, np.float32(margin), np.float32(1.0 - margin))
    return floor, rest, np.ones(weight.shape, bool)


def _centred(alpha):
    """``v = 2h - 1``."""
    return paddle.clip(paddle.scale(F.sigmoid(alpha), 2.0 * _STRETCH, -_STRETCH), -1.0, 1.0)


def _power(square, exponent):
    """``square ** exponent`` for values in [0, 1]; exp and log are vectorised
    where ``pow`` is not (2.5x).
    """
    return paddle.exp(paddle.scale(paddle.log(paddle.clip(square, min=_NEAR_ZERO)), exponent))


class _Soft(PyLayer):
    """Soft weight in five element-wise passes; one saved tensor for the
    gradient and the rounding term.
    """

    @staticmethod
    def forward(ctx, alpha, middle, half, round_weight, beta):
        v = _centred(alpha)
        ctx.save_for_backward(v, half)
        ctx.term = (round_weight, beta)
        return middle + half * v

    @staticmethod
    def backward(ctx, grad):
        v, half = ctx.saved_tensor()
        round_weight, beta = ctx.term
        square = paddle.square(v)
        inside = paddle.clip(paddle.scale(square, -_STEEP, _STEEP), 0.0, 1.0)
        # d v / d alpha = 2 * 1.2 * sigmoid * (1 - sigmoid), written in v
        slope = paddle.scale(square, -0.5 / _STRETCH, 0.5 * _STRETCH) * inside
        total = grad * half
        if round_weight > 0:
            # -|v|^(beta-1) sign(v) = -v |v|^(beta-2)
            total = total - paddle.scale(v * _power(square, 0.5 * beta - 1.0), round_weight * beta)
        return total * slope, None, None
