# SPDX-License-Identifier: Apache-2.0
"""The three kinds of calibration readers that PaddleSlim documents, as batches."""
import itertools
from typing import Iterable, Iterator, Optional, Sequence

import numpy as np

from ..errors import DataError


def calibration_batches(batch_generator=None, sample_generator=None, data_loader=None,
                        batch_size: int = 1,
                        batch_nums: Optional[int] = None,
                        ranks: Optional[Sequence[int]] = None) -> Iterable:
    """Batches of whichever reader was given.

    Args:
        batch_generator(callable, optional): returns an iterator of batches.
        sample_generator(callable, optional): returns an iterator of samples: one array, or one per
            input in a list, tuple or dict, without batch dimension.
        data_loader(iterable|callable, optional): gives batches.
        batch_size(int, optional): samples of ``sample_generator`` per batch. Default: 1.
        batch_nums(int, optional): use this many batches. Default: None, all.
        ranks(list[int], optional): dimensions of the model's inputs. Samples that have as many
            bring a batch of their own, as those of PaddleOCR's and PaddleClas's scripts, and are
            not stacked but joined. Default: None.

    Raises:
        DataError: none or several are given.
    """
    given = {name: reader
             for name, reader in (("batch_generator", batch_generator),
                                  ("sample_generator", sample_generator),
                                  ("data_loader", data_loader)) if reader is not None}
    if len(given) != 1:
        raise DataError(f"{' and '.join(given) or 'no calibration data'} given: pass exactly one "
                        "of data_loader, batch_generator and sample_generator")
    (name, reader), = given.items()
    batches = reader() if callable(reader) and not hasattr(reader, "__iter__") else reader
    if name == "sample_generator":
        batches = _batched(batches, batch_size, ranks)
    return batches if batch_nums is None else itertools.islice(batches, batch_nums)


def _batched(samples: Iterable, size: int, ranks: Optional[Sequence[int]]) -> Iterator:
    """``size`` samples at a time, each input stacked, or joined where
    samples are batches already.
    """
    samples = iter(samples)
    while True:
        group = list(itertools.islice(samples, size))
        if not group:
            return
        first = group[0][0] if isinstance(group[0], (list, tuple)) else group[0]
        joined = bool(ranks) and not isinstance(first, dict) and np.ndim(first) == ranks[0]
        yield _put_together(group, np.concatenate if joined else np.stack)


def _put_together(group, how):
    first = group[0]
    if isinstance(first, dict):
        return {name: _samples_in([sample[name] for sample in group], name, how) for name in first}
    if isinstance(first, (list, tuple)):
        return [_samples_in(values, k, how) for k, values in enumerate(zip(*group))]
    return [_samples_in(group, 0, how)]


def _samples_in(values, name, how):
    try:
        return how([np.asarray(v) for v in values])
    except ValueError as error:
        raise DataError(f"samples of input {name!r} differ in shape: calibration needs one size; "
                        "resize or pad to it") from error
