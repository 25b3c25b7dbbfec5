# SPDX-License-Identifier: Apache-2.0
"""Activations of all calibration samples at one cut, within a memory limit.

Two streams walk through the network unit by unit: the float one and the
quantized one. A stream holds only the tensors that some later unit still
reads; arrays beyond the limit live in temporary files.
"""
from typing import Callable, Dict, Iterable, Iterator, List, Tuple

import numpy as np

from ..data.store import ActivationStore, StoredArray


class Stream:
    """The live tensors of one network, ``name -> [N, ...]``."""

    def __init__(self, store: ActivationStore, values: Dict[str, StoredArray]):
        self.store = store
        self.values = dict(values)

    @property
    def num_samples(self) -> int:
        return len(next(iter(self.values.values())))

    def batch(self, names: Iterable[str], index) -> Dict[str, np.ndarray]:
        """Rows ``index`` (a slice or an integer array) of the named tensors."""
        return {name: np.ascontiguousarray(self.values[name][index]) for name in names}

    def chunks(self, names: List[str], run: Callable,
               chunk: int) -> Iterator[Tuple[slice, Dict[str, np.ndarray]]]:
        """Apply ``run`` to all samples in chunks; yields each chunk's place and results.

        Args:
            names(list[str]): tensors that ``run`` reads.
            run(callable): maps a dict of arrays to a dict of arrays.
            chunk(int): samples per call.
        """
        for start in range(0, self.num_samples, chunk):
            part = slice(start, start + chunk)
            yield part, run(self.batch(names, part))

    def computed(self, names: List[str], outputs: List[str], run: Callable,
                 chunk: int, watch: Callable = None) -> Dict[str, StoredArray]:
        """Apply ``run`` to all samples in chunks and collect its outputs.

        Args:
            names(list[str]): tensors that ``run`` reads.
            outputs(list[str]): tensors to keep.
            run(callable): maps a dict of arrays to a dict of arrays.
            chunk(int): samples per call.
            watch(callable, optional): called with all results of each chunk, in order.
                Default: None.
        """
        collected: Dict[str, StoredArray] = {}
        for part, result in self.chunks(names, run, chunk):
            if watch:
                watch(result)
            for name in outputs:
                if name not in collected:
                    shape = (self.num_samples,) + result[name].shape[1:]
                    collected[name] = self.store.allocate(shape)
                collected[name][part] = result[name]
        return collected

    def advance(self, new: Dict[str, StoredArray], still_needed: Iterable[str]):
        """Add a unit's outputs and forget what no later unit reads."""
        self.values.update(new)
        needed = set(still_needed)
        for name in [n for n in self.values if n not in needed]:
            del self.values[name]


class PickedRows:
    """Some rows of a stored array, read when they are wanted: they take no memory of their own.

    Args:
        array(StoredArray): ``[N, ...]``.
        rows(np.ndarray): which, int ``[R]``.
    """

    def __init__(self, array: StoredArray, rows: np.ndarray):
        self._array, self._rows = array, rows
        self.shape = (len(rows), *array.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice) -> np.ndarray:
        return self._array[self._rows[index]]
