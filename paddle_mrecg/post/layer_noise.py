# SPDX-License-Identifier: Apache-2.0
"""How much noise a layer's output gets from 8 bits or fewer, with its input's channels scaled.

Measured on sampled rows of the float network: input on the better of a few steps, weights to
nearest where factors change their codes, the mean taken off (a bias corrects it).
"""
import numpy as np

from ..graph.graph import Graph, Op, weight_name
from ..graph.homogeneous import weight_channels
from ..grids.affine import QuantSpec, fake_quantize
from ..grids.ranges import encode, mse_range
from .choose_ranges import most_positions
from .layer_rows import layer_rows, sampled_rows
from .scheme import ActivationSpec

NOISE_SHARES = (1.0, 0.85, 0.7, 0.55, 0.4)  # of the range seen
_NOISE_SHRINKS = 1.0 - 0.1 * np.arange(7)


class ChannelRange:
    """Smallest and largest value of every channel, of all samples given.

    Attributes:
        low(array), high(array): ``[C]``; 0 is always inside.
    """

    def __init__(self, axis: int):
        self.axis, self.low, self.high = axis, 0.0, 0.0

    def update(self, values: np.ndarray):
        """Take in an activation of any number of samples."""
        others = tuple(k for k in range(values.ndim) if k != self.axis % values.ndim)
        self.low = np.minimum(self.low, values.min(others))
        self.high = np.maximum(self.high, values.max(others))

    @property
    def size(self) -> np.ndarray:
        """Largest magnitudes, ``[C]``."""
        return np.maximum(self.high, -self.low)


def is_depthwise(op: Op, graph: Graph) -> bool:
    """Every channel of the input has outputs of its own."""
    shape, groups = graph.params[weight_name(op, graph)].shape, op.attrs.get("groups", 1)
    return len(shape) == 4 and groups > 1 and (
        groups == shape[0] if "transpose" in op.type else shape[1] == 1)


class LayerNoise:
    """One layer and rows of its input.

    Args:
        op(Op): the layer.
        graph(Graph): its graph.
        weight(QuantSpec): the grid of its weight.
        activation(ActivationSpec): that of its input.

    Raises:
        UnsupportedOpError: a form of the op that has no rows.
    """

    def __init__(self, op: Op, graph: Graph, weight: QuantSpec, activation: ActivationSpec):
        self.weight, self.spec = graph.params[weight_name(op, graph)], weight
        self.layout = layer_rows(op, self.weight)
        self.activation, self.depthwise = activation, is_depthwise(op, graph)
        self.source, _ = weight_channels(op, self.weight.shape)
        self._rows = self._exact = self._power = None

    def sample(self, x: np.ndarray, output: np.ndarray, seed: int):
        """Draw rows.

        Args:
            x(array): the input of some samples.
            output(array): the output of the same samples.
            seed(int): of the draw.
        """
        parts = sampled_rows(self.layout, [(x, output)], len(output), seed,
                             most_positions(self.layout))
        self._rows = np.concatenate([rows for rows, _ in parts], 1)
        self._exact = self._rows @ self.layout.matrix(self.weight)
        self._power = np.square(self._exact - self._exact.mean(1, keepdims=True)).mean(1)

    def error(self, factors: np.ndarray, seen: ChannelRange) -> float:
        """Error over the power of variation.

        Behind a depthwise layer a mean over channels, each at most 1: a channel that drowns is
        lost, however loud its neighbours are. Else both are summed over channels first.

        Args:
            factors(array): on every channel of the input, ``[C]``; the weights are divided by them.
            seen(ChannelRange): of the input without factors.
        """
        spread = np.broadcast_to(factors.astype(np.float32)[self.source], self.weight.shape)
        rows = self._rows * self.layout.matrix(spread)[:, None, :, 0]
        matrix = self.layout.matrix(self._weight_over(spread))
        low, high = float((seen.low * factors).min()), float((seen.high * factors).max())
        signed = low < 0 or not self.activation.unsigned_allowed
        spec = QuantSpec(self.activation.bits, self.activation.symmetric and signed,
                         self.activation.symmetric)
        return min(self._relative(fake_quantize(rows, encode(
            np.array([share * low]), np.array([share * high]), spec)) @ matrix)
                   for share in NOISE_SHARES)

    def _relative(self, output: np.ndarray) -> float:
        change = output - self._exact
        change -= change.mean(1, keepdims=True)
        noise = np.square(change).mean(1)
        if not self.depthwise:
            return float(noise.sum() / max(self._power.sum(), 1e-30))
        alive = self._power > 1e-8 * self._power.max(initial=0)
        return float(np.minimum(noise / np.maximum(self._power, 1e-30), 1.0)[alive].mean())

    def _weight_over(self, spread: np.ndarray) -> np.ndarray:
        """The weight over the factors, rounded where its codes depend on them.

        Where every scale belongs to one factor they do not. What rounding adds there is the same
        for all factors, is mostly taken back by solving it, and at 4 bits would hide what the input
        gains.
        """
        weight = self.weight / spread
        return (weight if self.depthwise and self.spec.axis is not None
                else _rounded(weight, self.spec))


def _rounded(weight: np.ndarray, spec: QuantSpec) -> np.ndarray:
    rows = (weight.reshape(1, -1) if spec.axis is None
            else np.moveaxis(weight, spec.axis, 0).reshape(weight.shape[spec.axis], -1))
    low, high = rows.min(1), rows.max(1)
    if spec.bits < 8:
        low, high = mse_range(np.ascontiguousarray(rows), low, high, spec, shrinks=_NOISE_SHRINKS)
    return fake_quantize(weight, encode(low, high, spec))
