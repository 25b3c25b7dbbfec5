# SPDX-License-Identifier: Apache-2.0
"""Activations of all calibration samples at one cut, within a memory limit.

Two streams walk through the network unit by unit: the float one and the
quantized one. A stream holds only the tensors that some later unit still
reads; arrays beyond the limit live in temporary files.
"""
from typing import Callable, Dict, Iterable, List

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

    def computed(self, names: List[str], outputs: List[str], run: Callable,
                 chunk: int) -> Dict[str, StoredArray]:
        """Apply ``run`` to all samples in chunks and collect its outputs.

        Args:
            names(list[str]): tensors that ``run`` reads.
            outputs(list[str]): tensors to keep.
            run(callable): maps a dict of arrays to a dict of arrays.
            chunk(int): samples per call.
        """
        collected: Dict[str, StoredArray] = {}
        for start in range(0, self.num_samples, chunk):
            part = slice(start, start + chunk)
            result = run(self.batch(names, part))
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
