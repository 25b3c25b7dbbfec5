# SPDX-License-Identifier: Apache-2.0
"""The batches that a unit's training steps read, without a wait in a step.

On a GPU the unit's streams and targets are put there once while they fit, and a step gathers its
rows there. What does not fit, and what lies in files, is gathered on the host by a thread, one step
ahead. On a CPU with everything in memory there is nothing to hide.
"""
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Hashable, Mapping, Optional

import numpy as np
import paddle

DEVICE_SHARE = 0.5  # of the device's free memory; training needs the rest
UPLOAD_ROWS = 256  # per upload


class StepBatches:
    """Random rows of several arrays, as tensors on the training device.

    Args:
        arrays(dict): any key -> ``[N, ...]``, arrays or stored arrays.
        draw(callable): returns the rows of the next step, an integer array; called in order, one
            step ahead where batches are prefetched.
        waits(bool, optional): reading the arrays takes time: they lie in files. Default: False.
    """

    def __init__(self, arrays: Mapping[Hashable, np.ndarray], draw: Callable[[], np.ndarray],
                 waits: bool = False):
        self._arrays, self._draw, self._held = arrays, draw, None
        room = device_room()
        if room is not None and sum(_row_bytes(a) for a in arrays.values()) <= DEVICE_SHARE * room:
            self._held = {key: _uploaded(array) for key, array in arrays.items()}
        ahead = self._held is None and (waits or room is not None)
        self._thread = ThreadPoolExecutor(1) if ahead else None
        self._next = None

    def next(self) -> Dict[Hashable, paddle.Tensor]:
        """The rows of one step of every array."""
        if self._held is not None:
            index = paddle.to_tensor(self._draw())
            return {key: paddle.gather(tensor, index) for key, tensor in self._held.items()}
        if self._thread is None:
            rows = self._rows(self._draw())
        else:
            rows = (self._next or self._thread.submit(self._rows, self._draw())).result()
            self._next = self._thread.submit(self._rows, self._draw())
        return {key: paddle.to_tensor(array) for key, array in rows.items()}

    def _rows(self, index: np.ndarray) -> Dict[Hashable, np.ndarray]:
        return {key: np.ascontiguousarray(array[index]) for key, array in self._arrays.items()}

    def close(self):
        """End the thread, if there is one."""
        if self._thread is not None:
            self._thread.shutdown()


def device_room() -> Optional[int]:
    """Free bytes on the training device: 0 where it cannot be asked, None where it is the host,
    which holds the streams already.
    """
    device = paddle.device.get_device()
    if device.startswith("cpu"):
        return None
    if not device.startswith("gpu"):
        return 0
    cuda = paddle.device.cuda
    return cuda.get_device_properties().total_memory - cuda.memory_reserved()


def _row_bytes(array) -> int:
    return array.size * array.dtype.itemsize


def _uploaded(array) -> paddle.Tensor:
    return paddle.concat([paddle.to_tensor(array[start:start + UPLOAD_ROWS])
                          for start in range(0, len(array), UPLOAD_ROWS)])
