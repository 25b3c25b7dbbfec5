# SPDX-License-Identifier: Apache-2.0
"""Arrays under any names in one file, handed from process to process."""
from typing import Dict, Iterator, List, Mapping, Sequence

import numpy as np


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]):
    """Arrays under any names: ``names``, and ``0``, ``1``, ... for their values."""
    np.savez(path, names=np.array(list(arrays)),
             **{str(k): v for k, v in enumerate(arrays.values())})


def read_arrays(path: str):
    """The arrays by name, and the milliseconds of repeated runs."""
    with np.load(path, allow_pickle=False) as stored:
        times = stored["milliseconds"].tolist() if "milliseconds" in stored.files else []
        return {str(name): stored[str(k)] for k, name in enumerate(stored["names"])}, times


def one_by_one(feed: Mapping[str, np.ndarray]) -> Iterator[Dict[str, np.ndarray]]:
    """Samples of a batch, each as a batch of one; nothing where inputs differ in their number, or
    where there is one sample only.
    """
    counts = {len(v) for v in feed.values() if np.ndim(v)}
    count = counts.pop() if len(counts) == 1 else 0
    for k in range(count if count > 1 else 0):
        yield {n: v[k:k + 1] if np.ndim(v) else v for n, v in feed.items()}


def joined(results: Sequence[Sequence[np.ndarray]]) -> List[np.ndarray]:
    """What runs on one sample each gave, output by output, along the first axis."""
    return [np.concatenate([np.atleast_1d(v) for v in parts]) for parts in zip(*results)]


def joined_by_name(results: Sequence[Mapping[str, np.ndarray]]) -> Dict[str, np.ndarray]:
    """``joined`` for results by name."""
    names = list(results[0])
    return dict(zip(names, joined([[result[n] for n in names] for result in results])))
