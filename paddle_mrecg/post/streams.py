# SPDX-License-Identifier: Apache-2.0
"""Activations of all calibration samples at one cut, within a memory limit.

Two streams walk through the network unit by unit: the float one and the
quantized one. A stream holds only the tensors that some later unit still
reads; arrays beyond the limit live in memory-mapped temporary files.
"""
import os
import tempfile
import weakref
from typing import Callable, Dict, Iterable, List

import numpy as np


class ActivationStore:
    """Allocates ``[N, ...]`` float arrays, in memory while they fit.

    Args:
        limit_mb(int): MiB that may stay in memory over all live arrays.
        directory(str, optional): where files beyond the limit go. Default:
            the system's temporary directory.
    """

    def __init__(self, limit_mb: int, directory: str = None):
        self.limit = limit_mb * 2**20
        self.in_memory = 0
        self.peak = 0
        self.spilled = 0
        self._folder = tempfile.TemporaryDirectory(prefix="mrecg-", dir=directory)
        self._files = 0

    def allocate(self, shape, dtype=np.float32) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.in_memory + size > self.limit:
            self._files += 1
            self.spilled += size
            path = os.path.join(self._folder.name, f"{self._files}.bin")
            array = np.memmap(path, dtype=dtype, mode="w+", shape=tuple(shape))
            weakref.finalize(array, _remove, path)
            return array
        array = np.empty(shape, dtype)
        self.in_memory += size
        self.peak = max(self.peak, self.in_memory)
        weakref.finalize(array, self._release, size)
        return array

    def _release(self, size):
        self.in_memory -= size

    def close(self):
        self._folder.cleanup()


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass  # the folder is gone already, or will go with the store


class Stream:
    """The live tensors of one network, ``name -> [N, ...]``."""

    def __init__(self, store: ActivationStore, values: Dict[str, np.ndarray]):
        self.store = store
        self.values = dict(values)

    @property
    def num_samples(self) -> int:
        return len(next(iter(self.values.values())))

    def batch(self, names: Iterable[str], index) -> Dict[str, np.ndarray]:
        """Rows ``index`` (a slice or an integer array) of the named tensors."""
        return {name: np.ascontiguousarray(self.values[name][index]) for name in names}

    def computed(self, names: List[str], outputs: List[str], run: Callable,
                 chunk: int) -> Dict[str, np.ndarray]:
        """Apply ``run`` to all samples in chunks and collect its outputs.

        Args:
            names(list[str]): tensors that ``run`` reads.
            outputs(list[str]): tensors to keep.
            run(callable): maps a dict of arrays to a dict of arrays.
            chunk(int): samples per call.
        """
        collected: Dict[str, np.ndarray] = {}
        for start in range(0, self.num_samples, chunk):
            part = slice(start, start + chunk)
            result = run(self.batch(names, part))
            for name in outputs:
                if name not in collected:
                    collected[name] = self.store.allocate((self.num_samples,)
                                                          + result[name].shape[1:])
                collected[name][part] = result[name]
        return collected

    def advance(self, new: Dict[str, np.ndarray], still_needed: Iterable[str]):
        """Add a unit's outputs and forget what no later unit reads."""
        self.values.update(new)
        needed = set(still_needed)
        for name in [n for n in self.values if n not in needed]:
            del self.values[name]
