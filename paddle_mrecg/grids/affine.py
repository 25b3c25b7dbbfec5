# SPDX-License-Identifier: Apache-2.0
"""The uniform affine quantizer: grids, codes and back (numpy).

A code is ``q = clip(round(x / s + z), qmin, qmax)``, its value ``(q - z) * s``.
Rounding is to the nearest integer, halves to the even one, as in Paddle's
``quantize_linear``. ``x / s`` is computed in float32 as ``x * (1 / s)``, which
is also what Paddle's kernels do, and this module is the only place that does
it for codes: two expressions that differ in the last bit place a weight at the
end of its range a whole step apart.
"""
import dataclasses
from typing import Optional, Tuple

import numpy as np

from ..errors import ConfigError, DataError

NEAR = 0.1  # a weight this close to its level, in steps, counts as collapsed onto it


def along_axis(values, axis: Optional[int], ndim: int):
    """One value per index of ``axis``, shaped to broadcast over ``ndim`` dimensions.

    Args:
        values(array|Tensor): ``[channels]``; returned as it is when ``axis`` is None.
        axis(int|None): the axis with one value per index.
        ndim(int): dimensions of what the values are to be combined with.
    """
    if axis is None:
        return values
    return values.reshape([-1 if k == axis else 1 for k in range(ndim)])


@dataclasses.dataclass(frozen=True)
class QuantSpec:
    """What a grid looks like before its scale is known.

    Args:
        bits(int): 2 to 8.
        signed(bool): codes -2^(b-1) .. 2^(b-1)-1, else 0 .. 2^b-1.
        symmetric(bool): the zero point is 0.
        axis(int, optional): axis with one scale per index; one scale for the
            whole tensor when None. Default: None.
        narrow(bool, optional): leave out the lowest signed code. Paddle Lite
            multiplies int8 codes by -1 when it folds a negative batch-norm
            factor, and -128 would overflow. Default: False.

    Raises:
        ConfigError: bits outside 2..8, or ``narrow`` on an unsigned grid.

    Examples:
        >>> spec = QuantSpec(4, signed=True, symmetric=True)
        >>> spec.qmin, spec.qmax
        (-8, 7)
        >>> QuantSpec(8, signed=True, symmetric=True, narrow=True).qmin
        -127
    """

    bits: int
    signed: bool
    symmetric: bool
    axis: Optional[int] = None
    narrow: bool = False

    def __post_init__(self):
        if not 2 <= self.bits <= 8:
            raise ConfigError(f"{self.bits} bits: choose 2 to 8")
        if self.narrow and not self.signed:
            raise ConfigError("only a signed grid can be narrow; drop narrow, or "
                              "make the grid signed")

    @property
    def qmin(self) -> int:
        return -2**(self.bits - 1) + self.narrow if self.signed else 0

    @property
    def qmax(self) -> int:
        return 2**(self.bits - 1) - 1 if self.signed else 2**self.bits - 1


@dataclasses.dataclass
class Encoding:
    """A grid with its scale(s): the stored description of a quantized tensor.

    Args:
        spec(QuantSpec): kind of grid.
        scale(array): step size, float32, shape ``()`` or ``[C]`` when
            ``spec.axis`` is set.
        zero_point(array): code of 0.0, integers as float32, same shape.

    Raises:
        DataError: wrong shape, a scale that is not finite, positive and
            invertible in float32, or a zero point that is not a code of the grid.

    Examples:
        >>> spec = QuantSpec(2, signed=False, symmetric=False)
        >>> encoding = Encoding(spec, 0.5, 1)
        >>> [float(v) for v in encoding.range]
        [-0.5, 1.0]
    """

    spec: QuantSpec
    scale: np.ndarray
    zero_point: np.ndarray

    def __post_init__(self):
        self.scale = np.asarray(self.scale, np.float32)
        self.zero_point = np.asarray(self.zero_point, np.float32)
        spec, ndim = self.spec, 0 if self.spec.axis is None else 1
        if self.scale.ndim != ndim or self.zero_point.shape != self.scale.shape:
            raise DataError(f"scale {self.scale.shape} and zero point {self.zero_point.shape} must "
                            f"both have shape {'()' if ndim == 0 else '[channels]'} on a grid with "
                            f"axis {spec.axis}")
        tiny = np.finfo(np.float32).tiny
        if not np.all(np.isfinite(self.scale)) or np.any(self.scale < tiny):
            raise DataError("scale must be finite and positive; check the tensor it was made from "
                            "for NaN or Inf, or lower the learning rate that trained it")
        zero = self.zero_point
        if not (np.array_equal(zero, np.rint(zero))
                and np.all((zero >= spec.qmin) & (zero <= spec.qmax))):
            raise DataError(f"zero point must be an integer in {spec.qmin}..{spec.qmax}")
        if spec.symmetric and np.any(zero):
            raise DataError("zero point must be 0 on a symmetric grid")

    @property
    def range(self) -> Tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of the grid, shape of ``scale``."""
        return ((self.spec.qmin - self.zero_point) * self.scale,
                (self.spec.qmax - self.zero_point) * self.scale)

    def along(self, values: np.ndarray, ndim: int) -> np.ndarray:
        """Per-channel ``values`` shaped to broadcast over a tensor of ``ndim`` dimensions."""
        return along_axis(values, self.spec.axis, ndim)

    def to_dict(self) -> dict:
        """Plain numbers for ``encodings.json``, no longer than float32 needs to come back exactly.

        Examples:
            >>> Encoding(QuantSpec(4, True, True), 0.25, 0).to_dict()["scale"]
            0.25
        """
        scale = [float(str(v)) for v in self.scale.reshape(-1)]  # numpy's shortest digits
        return dict(dataclasses.asdict(self.spec), scale=scale if self.scale.ndim else scale[0],
                    zero_point=self.zero_point.astype(int).tolist())

    @classmethod
    def from_dict(cls, entry: dict) -> "Encoding":
        """The inverse of ``to_dict``.

        Raises:
            DataError: a key is missing or a value is out of range.
        """
        try:
            spec = QuantSpec(**{field.name: entry[field.name]
                                for field in dataclasses.fields(QuantSpec)})
            return cls(spec, entry["scale"], entry["zero_point"])
        except KeyError as error:
            raise DataError(f"encoding without key {error}; write the file "
                            "again with this version") from error


def position(x: np.ndarray, encoding: Encoding) -> np.ndarray:
    """``x / s`` in float32: where ``x`` lies on the grid, before the zero point and rounding."""
    inverse = np.float32(1) / encoding.scale
    return np.asarray(x, np.float32) * encoding.along(inverse, np.ndim(x))


def quantize(x: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Integer codes of ``x``, as float32.

    Examples:
        >>> encoding = Encoding(QuantSpec(3, signed=True, symmetric=True), 0.5, 0)
        >>> quantize(np.array([-9.0, -0.3, 0.25, 0.75, 9.0]), encoding).tolist()
        [-4.0, -1.0, 0.0, 2.0, 3.0]
    """
    codes = np.rint(position(x, encoding) + encoding.along(encoding.zero_point, np.ndim(x)))
    # no negative zeros
    return np.clip(codes, encoding.spec.qmin, encoding.spec.qmax) + np.float32(0)


def dequantize(codes: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Values of integer codes, float32; the code ``zero_point`` is exactly 0.

    Examples:
        >>> encoding = Encoding(QuantSpec(4, signed=False, symmetric=False, axis=0), [0.5, 0.25],
        ...     [3, 0])
        >>> dequantize(np.array([[0, 3], [1, 15]]), encoding).tolist()
        [[-1.5, 0.0], [0.25, 3.75]]
    """
    ndim = np.ndim(codes)
    centred = np.asarray(codes, np.float32) - encoding.along(encoding.zero_point, ndim)
    return centred * encoding.along(encoding.scale, ndim)


def fake_quantize(x: np.ndarray, encoding: Encoding) -> np.ndarray:
    """``x`` rounded to the grid, float32.

    Examples:
        >>> encoding = Encoding(QuantSpec(2, signed=True, symmetric=True), 1.0, 0)
        >>> fake_quantize(np.array([-3.0, 0.4, 0.6, 3.0]), encoding).tolist()
        [-2.0, 0.0, 1.0, 1.0]
    """
    return dequantize(quantize(x, encoding), encoding)
