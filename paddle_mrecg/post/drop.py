# SPDX-License-Identifier: Apache-2.0
"""Cheap random element masks for QDrop (arXiv 2203.05740, section 4.2).

Fresh random numbers for every element of every activation cost more than the
convolution that reads them. A pool of bits is drawn once; a mask is a window of it
at a random offset, and on a CPU the window is a view, not a copy.
"""
from typing import Iterable, Optional

import numpy as np
import paddle

from ..errors import ConfigError

LOW_BITS = 4  # of activations at which dropping is worth it by default
LOW_BITS_KEEP = 0.5
POOL = 1 << 22  # elements, 16 MiB of float32
_SPREAD = 1 << 20  # so many different windows are enough for masks of any size


def chosen_keep_prob(keep_prob: Optional[float], bits: Iterable[int]) -> float:
    """The probability that an element is quantized: as set, or by the bits of the activations.

    Args:
        keep_prob(float): the setting; None chooses.
        bits(iterable[int]): of the activations that the unit quantizes.
    """
    if keep_prob is not None:
        return keep_prob
    return LOW_BITS_KEEP if min(bits, default=32) <= LOW_BITS else 1.0


class DropMask:
    """Draws masks of zeros and ones.

    Args:
        keep_prob(float): probability of a one, in [0, 1].
        seed(int, optional): same seed, same sequence of masks. Default: 0.
        pool(int, optional): numbers drawn in advance; masks that need more make the
            pool grow. Default: POOL.

    Raises:
        ConfigError: ``keep_prob`` outside [0, 1].
    """

    def __init__(self, keep_prob: float, seed: int = 0, pool: int = POOL):
        if not 0.0 <= keep_prob <= 1.0:
            raise ConfigError(f"keep_prob {keep_prob}: choose a probability between 0 and 1")
        self.keep_prob = keep_prob
        self._rng = np.random.default_rng(seed)
        self._pool = self._numbers(pool)

    def _numbers(self, size) -> paddle.Tensor:
        return paddle.to_tensor((self._rng.random(size, np.float32)
                                 < self.keep_prob).astype(np.float32))

    def state(self):
        """What the next masks depend on: a JSON-able part, and the bits."""
        bits = self._pool.numpy() != 0
        return dict(rng=self._rng.bit_generator.state, size=len(bits)), np.packbits(bits)

    def set_state(self, state, bits: np.ndarray):
        """The inverse of ``state``."""
        pool = np.unpackbits(bits, count=state["size"]).astype(np.float32)
        self._pool = paddle.to_tensor(pool)
        self._rng.bit_generator.state = state["rng"]

    def draw(self, shape) -> paddle.Tensor:
        """A float32 mask of ``shape``; it may share memory with other
        masks, so do not write to it.
        """
        count, size = int(np.prod(shape)), self._pool.shape[0]
        # a window costs nothing, putting several together a copy each time
        if count + min(count, _SPREAD) > size:
            size = count + min(count, _SPREAD)
            self._pool = self._numbers(size)
        start = int(self._rng.integers(size - count + 1))
        return self._pool[start:start + count].reshape(shape)


class StepMasks:
    """The masks of one training step: one per tensor, however many ops read it.

    A shortcut and a convolution that read the same tensor see the same elements quantized, as in
    QDrop, where the tensor itself is mixed once.

    Args:
        source(DropMask): draws each tensor's mask when its first reader asks.
    """

    def __init__(self, source: DropMask):
        self._source, self._masks = source, {}

    def of(self, name: str, shape) -> paddle.Tensor:
        """The mask of tensor ``name``, of ``shape``."""
        if name not in self._masks:
            self._masks[name] = self._source.draw(shape)
        return self._masks[name]


def mix(quantized: paddle.Tensor, float_x: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """``quantized`` where the mask is one, ``float_x`` elsewhere; differentiable in both."""
    return float_x + mask * (quantized - float_x)
