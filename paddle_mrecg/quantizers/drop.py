# SPDX-License-Identifier: Apache-2.0
"""Cheap random element masks for QDrop (arXiv 2203.05740, section 4.2).

Fresh random numbers for every element of every activation cost more than the
convolution beside them. A pool of bits is drawn once; a mask is a window of it
at a random offset, and on a CPU the window is a view, not a copy.
"""
import numpy as np
import paddle

from ..errors import ConfigError

POOL = 1 << 22  # elements, 16 MiB of float32
_SPREAD = 1 << 20  # at least so many different windows


class DropMask:
    """Draws masks of zeros and ones.

    Args:
        keep_prob(float): probability of a one, in [0, 1].
        seed(int, optional): same seed, same sequence of masks. Default: 0.
        pool(int, optional): numbers drawn in advance; bounds the memory. Default: POOL.

    Raises:
        ConfigError: ``keep_prob`` outside [0, 1].
    """

    def __init__(self, keep_prob: float, seed: int = 0, pool: int = POOL):
        if not 0.0 <= keep_prob <= 1.0:
            raise ConfigError(f"keep_prob {keep_prob}: choose a probability between 0 and 1")
        self.keep_prob = keep_prob
        self._rng = np.random.default_rng(seed)
        self._pool = paddle.to_tensor((self._rng.random(pool, np.float32) < keep_prob).astype(np.float32))

    def draw(self, shape) -> paddle.Tensor:
        """A float32 mask of ``shape``."""
        left, windows = int(np.prod(shape)), []
        size = self._pool.shape[0]
        while left:
            count = min(left, max(1, size - _SPREAD, size // 2))
            start = int(self._rng.integers(size - count + 1))
            windows.append(self._pool[start:start + count])
            left -= count
        return (windows[0] if len(windows) == 1 else paddle.concat(windows)).reshape(shape)

    def mix(self, quantized: paddle.Tensor, float_x: paddle.Tensor) -> paddle.Tensor:
        """``quantized`` where the mask is one, ``float_x`` elsewhere; differentiable in both."""
        return float_x + self.draw(quantized.shape) * (quantized - float_x)
