# SPDX-License-Identifier: Apache-2.0
"""A layer as a matrix product: rows of its input at a sample of its output's positions (numpy).

Convolutions are unfolded at the sampled positions alone. A transposed convolution is the same with
another question: which input, if any, does a tap of the kernel bring to this output? Taps that
bring none are zeros, as padding is; the bias is shared by all positions, so one system over all of
them is the right one.
"""
import math
from typing import Callable, Iterable, List, Tuple

import numpy as np

from ..errors import UnsupportedOpError
from ..graph.graph import Op
from .solve import Gram, ColumnGrid

# Positions sampled of one layer: enough for the inputs of a column, of which a filter of one
# channel has few, and a system each.
SOLVED_POSITIONS, FEWEST_SOLVED, SOLVED_PER_INPUT = 16384, 8192, 256
Rows = Tuple[np.ndarray, np.ndarray]
CHUNK_ELEMENTS = 1 << 22  # elements of rows or targets at a time: 16 MiB


def solved_positions(inputs: int) -> int:
    """Positions sampled of a layer at most whose columns have so many inputs."""
    return min(SOLVED_POSITIONS, max(FEWEST_SOLVED, SOLVED_PER_INPUT * inputs))


class LayerRows:
    """How rows, targets and weights of one layer are laid out.

    Attributes:
        groups(int): independent problems, G.
        rows(int): inputs of a column, d.
        columns(int): outputs of a problem, n.
        alpha(float): the op's output is this times ``rows @ matrix``; rows of outputs are
            without it, as are biases and errors that follow from them.
    """

    groups: int
    rows: int
    columns: int
    alpha = np.float32(1)

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        """A weight as ``[G, d, n]``."""
        raise NotImplementedError

    def weight(self, matrix: np.ndarray) -> np.ndarray:
        """The inverse of ``matrix``."""
        raise NotImplementedError

    def inputs(self, x: np.ndarray, shape: Tuple[int, ...], index: np.ndarray) -> np.ndarray:
        """Rows of the input, ``[G, R, d]``, of the positions ``index`` in an output of ``shape``.
        """
        raise NotImplementedError

    def outputs(self, target: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Rows of the output, ``[G, R, n]``."""
        raise NotImplementedError

    def grid(self, encoding) -> ColumnGrid:
        """An Encoding of the weight as grids of the columns."""
        shape, spec = self.weight_shape, encoding.spec
        scale, zero = (self.matrix(np.broadcast_to(encoding.along(v, len(shape)), shape))[:, 0]
                       for v in (encoding.scale, encoding.zero_point))
        return ColumnGrid(np.ascontiguousarray(scale), np.ascontiguousarray(zero), spec.qmin,
                          spec.qmax)

    def channels(self, values: np.ndarray) -> np.ndarray:
        """Biases per column, ``[G, n]``, as ``[C]`` in the order of the output's channels."""
        return values.reshape(-1) * self.alpha


def layer_rows(op: Op, weight: np.ndarray) -> LayerRows:
    """The layout of a quantizable op.

    Args:
        op(Op): a convolution or a matrix product with a parameter as weight.
        weight(array): the parameter.

    Raises:
        UnsupportedOpError: the op has no rows per sample, or its type or a rare attribute is not
        known here.
    """
    if op.type in ("conv2d", "depthwise_conv2d"):
        return _Conv(op, weight.shape)
    if op.type in ("conv2d_transpose", "depthwise_conv2d_transpose"):
        return _ConvTranspose(op, weight.shape)
    if op.type in ("mul", "matmul", "matmul_v2"):
        return _MatMul(op, weight.shape)
    raise UnsupportedOpError(op.type, " as a layer to solve")


class _Conv(LayerRows):
    """Filter ``[O, C / G, kh, kw]``."""

    def __init__(self, op: Op, shape):
        self.weight_shape, attrs = tuple(shape), op.attrs
        self.groups = attrs.get("groups", 1)
        self.kernel, self.stride = tuple(shape[2:]), tuple(attrs.get("strides", (1, 1)))
        self.dilation = tuple(attrs.get("dilations", (1, 1)))
        self.algorithm = attrs.get("padding_algorithm", "EXPLICIT")
        self.paddings = tuple(attrs.get("paddings", (0, 0)))
        self.channels_last = attrs.get("data_format", "NCHW") == "NHWC"
        if self.algorithm == "SAME":
            self.dilation = (1, 1)  # as Paddle's kernel has it
        self._set_sizes()

    def _set_sizes(self):
        out, self.in_channels = self.weight_shape[:2]
        self.columns = out // self.groups
        self.rows = self.in_channels * self.kernel[0] * self.kernel[1]

    def matrix(self, weight):
        grouped = weight.reshape((self.groups, self.columns, self.in_channels) + self.kernel)
        return grouped.transpose(0, 3, 4, 2, 1).reshape(self.groups, self.rows, self.columns)

    def weight(self, matrix):
        grouped = matrix.reshape((self.groups,) + self.kernel + (self.in_channels, self.columns))
        return np.ascontiguousarray(grouped.transpose(0, 4, 3, 1, 2)).reshape(self.weight_shape)

    def inputs(self, x, shape, index):
        axes = self._axes
        x_size, size = [x.shape[a] for a in axes], [shape[a] for a in axes]
        sample, places = _sample_row_column(index, size)
        tops, top_seen = self._sources(places[0], 0, x_size[0])
        lefts, left_seen = self._sources(places[1], 1, x_size[1])
        taps = self.kernel[0] * self.kernel[1]
        rows = np.zeros((len(index), taps, self.in_channels * self.groups), np.float32)
        for tap in range(taps):
            i, j = divmod(tap, self.kernel[1])
            seen = top_seen[i] & left_seen[j]
            rows[seen, tap] = self._pick(x, sample[seen], tops[i][seen], lefts[j][seen])
        rows = rows.reshape(len(index), taps, self.groups, -1).transpose(2, 0, 1, 3)
        return np.ascontiguousarray(rows, np.float32).reshape(self.groups, len(index), self.rows)

    def outputs(self, target, index):
        sample, places = _sample_row_column(index, [target.shape[a] for a in self._axes])
        wanted = self._pick(target, sample, *places).reshape(len(index), self.groups, self.columns)
        return np.ascontiguousarray(wanted.transpose(1, 0, 2), np.float32)

    @property
    def _axes(self):
        return (1, 2) if self.channels_last else (2, 3)

    def _pick(self, array, sample, top, left):
        return array[sample, top, left] if self.channels_last else array[sample, :, top, left]

    def _sources(self, place, axis: int, size: int):
        """Where each tap along ``axis`` reads for outputs at ``place``, and whether at all."""
        first = place * self.stride[axis] - self._padding(axis, size)
        places = [first + k * self.dilation[axis] for k in range(self.kernel[axis])]
        return places, [(p >= 0) & (p < size) for p in places]

    def _padding(self, axis: int, size: int) -> int:
        """Zeros before the input's first element."""
        if self.algorithm == "VALID":
            return 0
        if self.algorithm == "SAME":
            stride, kernel = self.stride[axis], self.kernel[axis]
            return max((-(-size // stride) - 1) * stride + kernel - size, 0) // 2
        return self.paddings[axis if len(self.paddings) == 2 else 2 * axis]


class _ConvTranspose(_Conv):
    """Filter ``[C, O / G, kh, kw]``."""

    def _set_sizes(self):
        self.in_channels, self.columns = self.weight_shape[0] // self.groups, self.weight_shape[1]
        self.rows = self.in_channels * self.kernel[0] * self.kernel[1]

    def matrix(self, weight):
        grouped = weight.reshape((self.groups, self.in_channels, self.columns) + self.kernel)
        return grouped.transpose(0, 3, 4, 1, 2).reshape(self.groups, self.rows, self.columns)

    def weight(self, matrix):
        grouped = matrix.reshape((self.groups,) + self.kernel + (self.in_channels, self.columns))
        return np.ascontiguousarray(grouped.transpose(0, 3, 4, 1, 2)).reshape(self.weight_shape)

    def _sources(self, place, axis, size):
        """Input i and tap k meet at output i * stride - padding + k * dilation."""
        first, stride = place + self._padding(axis, size), self.stride[axis]
        split = [np.divmod(first - k * self.dilation[axis], stride)
                 for k in range(self.kernel[axis])]
        return [p for p, _ in split], [(rest == 0) & (p >= 0) & (p < size) for p, rest in split]


class _MatMul(LayerRows):
    """Weight ``[K, N]``, or ``[N, K]`` when transposed; axes before the last are positions."""

    groups = 1

    def __init__(self, op: Op, shape):
        self.weight_shape = tuple(shape)
        transposed_x = op.attrs.get("trans_x", op.attrs.get("transpose_X", False))
        transposed_y = op.attrs.get("trans_y", op.attrs.get("transpose_Y", False))
        if transposed_x or len(shape) != 2:
            raise UnsupportedOpError(op.type,
                                     " with a transposed input or a weight that is not a matrix")
        self.transposed, self.alpha = bool(transposed_y), np.float32(op.attrs.get("alpha", 1.0))
        self.rows, self.columns = shape[::-1] if self.transposed else shape

    def matrix(self, weight):
        return np.ascontiguousarray(weight.T if self.transposed else weight)[None]

    def weight(self, matrix):
        return np.ascontiguousarray(matrix[0].T if self.transposed else matrix[0])

    def inputs(self, x, shape, index):
        return x.reshape(-1, self.rows)[index].astype(np.float32, copy=False)[None]

    def outputs(self, target, index):
        wanted = target.reshape(-1, self.columns)[index].astype(np.float32, copy=False)
        # rows stay as they are, for they go through the activation's grid first
        return (wanted if self.alpha == 1 else wanted / self.alpha)[None]


def _sample_row_column(index: np.ndarray, size):
    """Sample, and row and column of each position."""
    sample, rest = np.divmod(index, size[0] * size[1])
    return sample, np.divmod(rest, size[1])


class Positions:
    """Positions of a layer's output, drawn without replacement and dealt out chunk by chunk.

    The same positions for the same seed and sizes, however the samples are cut into chunks.

    Args:
        layer(LayerRows): the layout.
        num_samples(int): samples in all chunks together.
        seed(int): of the draw.
        limit(int, optional): positions at most. Default: None, ``solved_positions``.
    """

    def __init__(self, layer: LayerRows, num_samples: int, seed: int, limit: int = None):
        self._width = layer.groups * layer.columns
        self._step = max(1, CHUNK_ELEMENTS // (layer.groups * max(layer.rows, layer.columns)))
        self._num_samples, self._seed = num_samples, seed
        self._limit = limit or solved_positions(layer.rows)
        self._chosen, self._begin = None, 0

    def next(self, shape: Tuple[int, ...]) -> List[np.ndarray]:
        """Positions in the next chunk, whose output has ``shape``; rows of one array are few enough
        to be held, at most 16 MiB.
        """
        count = math.prod(shape) // self._width
        if self._chosen is None:
            self._chosen = self._draw(count // shape[0] * self._num_samples)
        first, last = np.searchsorted(self._chosen, (self._begin, self._begin + count))
        inside = self._chosen[first:last] - self._begin
        self._begin += count
        return [inside[k:k + self._step] for k in range(0, len(inside), self._step)]

    def _draw(self, total: int) -> np.ndarray:
        if total <= self._limit:
            return np.arange(total)
        return np.sort(np.random.default_rng(self._seed).choice(total, self._limit, replace=False,
                                                                shuffle=False))


def sampled_rows(layer: LayerRows, chunks: Iterable[Rows], num_samples: int, seed: int,
                 limit: int = None) -> Iterable[Rows]:
    """Rows of input and output at positions drawn without replacement.

    Args:
        layer(LayerRows): the layout.
        chunks(iterable): (input, output) of consecutive samples, arrays ``[samples, ...]``.
        num_samples(int): samples in all chunks together.
        seed(int): of the draw.
        limit(int, optional): positions at most. Default: None, ``solved_positions``.

    Yields:
        tuple: arrays ``[G, R, d]`` and ``[G, R, n]``, at most 16 MiB each.
    """
    positions = Positions(layer, num_samples, seed, limit)
    for x, target in chunks:
        for index in positions.next(target.shape):
            yield layer.inputs(x, target.shape, index), layer.outputs(target, index)


def gram_of(layer: LayerRows, weight: np.ndarray, rows: Iterable[Rows],
            quantize: Callable[[np.ndarray], np.ndarray] = None) -> Gram:
    """The statistics that ``solve`` wants, from ``sampled_rows``.

    Args:
        layer(LayerRows): the layout.
        weight(array): the float weight, as the op has it.
        rows(iterable): pairs of input rows and target rows.
        quantize(callable, optional): applied to input rows: the activation's grid, on which 0 is
            exact, so that padding stays. Default: None, the rows are quantized already.
    """
    gram = Gram(layer.matrix(weight))
    for x, target in rows:
        gram.add(quantize(x) if quantize else x, target)
    return gram
