# SPDX-License-Identifier: Apache-2.0
"""Bring batches of any kind into one form, input name -> float32 or
integer array, and check them.
"""
import collections.abc
import math
from typing import Any, Dict, Iterable, Iterator, Sequence

import numpy as np

from ..errors import DataError, kind_of, numbered
from ..graph.graph import TensorInfo
from .hooks import users_code
from .store import ActivationStore, StoredArray

Feed = Dict[str, np.ndarray]


def as_feed(batch: Any, names: Sequence[str]) -> Feed:
    """One batch as input name -> array.

    Args:
        batch(array|Tensor|list|dict): the values of all inputs; what follows
            the inputs (labels) is left out.
        names(list[str]): the model's inputs, in order.

    Raises:
        DataError: an input is missing.

    Examples:
        >>> sorted(as_feed([np.zeros((2, 3)), np.ones((2, 1))], ["x", "y"]))
        ['x', 'y']
    """
    if isinstance(batch, (list, tuple)) and len(batch) == 1 and isinstance(batch[0], dict):
        batch = batch[0]  # paddle.io.DataLoader with return_list=False
    if isinstance(batch, dict):
        missing = [n for n in names if n not in batch]
        if missing:
            raise DataError(f"a batch has {', '.join(map(str, batch)) or 'nothing'}, the model's "
                            f"inputs are {', '.join(names)}: name the values as the inputs")
        return {n: _array(batch[n], n) for n in names}
    values = list(batch) if isinstance(batch, (list, tuple)) else [batch]
    if len(values) < len(names):
        raise DataError(f"a batch has {numbered(len(values), 'value')}, the model has "
                        f"{numbered(len(names), 'input')} ({', '.join(names)}): yield a list in "
                        "this order, or a dict")
    return {n: _array(v, n) for n, v in zip(names, values)}


def as_batches(loader: Iterable, inputs: Sequence[TensorInfo],
               name: str = "data_loader") -> Iterator[Feed]:
    """All batches of a loader as checked feeds.

    Args:
        loader(iterable): batches as ``as_feed`` takes them; also a whole array
            or dict of arrays, or a function that returns an iterable, as
            PaddleSlim's readers are.
        inputs(list[TensorInfo]): name, dtype and shape of the model's inputs; an
            empty shape is not checked.
        name(str, optional): of the loader, for messages. Default: ``data_loader``.

    Raises:
        DataError: no iterable; a value is missing, misshapen, of the wrong
            type, or not finite.
    """
    if callable(loader) and not isinstance(loader, collections.abc.Iterable):
        with users_code(name):
            loader = loader()
    if isinstance(loader, (np.ndarray, dict)):
        loader = [loader]
    names = [i.name for i in inputs]
    for index, batch in enumerate(batches_of(loader, name)):
        feed = as_feed(batch, names)
        sizes = set()
        for info in inputs:
            feed[info.name] = _checked_input(feed[info.name], info, index)
            sizes.add(len(feed[info.name]))
        if len(sizes) > 1:
            raise DataError(f"batch {index} has inputs of {sorted(sizes)} samples: all inputs need "
                            "the same number")
        yield feed


def batches_of(loader: Iterable, name: str) -> Iterator:
    """What a loader of the user's yields; its exceptions pass through as ``users_code`` says.

    Raises:
        DataError: it is not iterable.
    """
    if isinstance(loader, (str, bytes)) or not isinstance(loader, collections.abc.Iterable):
        raise DataError(f"{name} is {kind_of(loader)}: pass an iterable of batches, "
                        "or describe the images in the Data section")
    iterator = None
    while True:
        with users_code(name):
            iterator = iter(loader) if iterator is None else iterator
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


def collect_samples(loader: Iterable, inputs: Sequence[TensorInfo], num_samples: int,
                    store: ActivationStore = None) -> Dict[str, StoredArray]:
    """The first samples of a loader in one array per input.

    Args:
        loader(iterable): see ``as_batches``.
        inputs(list[TensorInfo]): the model's inputs.
        num_samples(int): at most this many are taken; the loader is not asked for
            more batches than needed.
        store(ActivationStore, optional): holds the samples. Default: None, all stay in memory.

    Returns:
        dict: input name -> array ``[N, ...]``.

    Raises:
        DataError: see ``as_batches``; or the loader is empty, or its samples differ in size.
    """
    store = store or ActivationStore(math.inf)
    samples: Dict[str, StoredArray] = {}
    count = 0
    for feed in as_batches(loader, inputs):
        stop = min(count + len(next(iter(feed.values()))), num_samples)
        for name, value in feed.items():
            if name not in samples:
                samples[name] = store.allocate((num_samples, *value.shape[1:]), value.dtype, True)
            first = samples[name].shape[1:]
            if first != value.shape[1:]:
                raise DataError(f"sample {count} of input '{name}' has shape "
                                f"{_shape(value.shape[1:])}, the first one {_shape(first)}: "
                                "calibration needs one size; resize or pad to it")
            samples[name][count:stop] = value[:stop - count]
        count = stop
        if count == num_samples:
            break
    if not count:
        raise DataError("the calibration data is empty: the loader gave no sample (a generator "
                        "that was used before is empty, too)")
    for array in samples.values():
        array.cut(count)
    return samples


def inputs_text(inputs: Sequence[TensorInfo]) -> str:
    """Names, types and shapes of a model's inputs, for messages.

    Examples:
        >>> inputs_text([TensorInfo("x", (-1, 3, -1, -1))])
        'x: float32 [N, 3, ?, ?]'
    """
    return ", ".join(f"{i.name}: {i.dtype} {_shape(('N',) + tuple(i.shape[1:]))}" for i in inputs)


def _array(value, name: str) -> np.ndarray:
    """Tensors of Paddle or others, lists and arrays as an array."""
    try:
        value = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except (ValueError, TypeError) as error:
        raise DataError(f"input '{name}': {kind_of(value)} cannot be "
                        f"made one array ({error})") from error
    if value.dtype == object:
        raise DataError(f"input '{name}': values of different sizes or types "
                        "cannot be made one array")
    return value


def _checked_input(value: np.ndarray, info: TensorInfo, index: int) -> np.ndarray:
    """``value`` in the input's type after checking type, shape and finiteness."""
    where = f"batch {index} of input '{info.name}'"
    wanted = np.dtype(info.dtype)
    if not value.ndim or value.dtype.kind not in "biuf":
        raise DataError(f"{where} is {value.dtype} of shape {value.shape}: numbers with samples "
                        "along the first axis are needed")
    if np.issubdtype(value.dtype, np.floating) != np.issubdtype(wanted, np.floating):
        cure = ("scale and normalise pixels to floats" if np.issubdtype(wanted, np.floating)
                else "pass whole numbers")
        raise DataError(f"{where} is {value.dtype}, the model wants {info.dtype}: {cure}")
    expected = tuple(info.shape[1:])
    if info.shape and (value.ndim != len(info.shape) or
                       any(e not in (-1, g) for e, g in zip(expected, value.shape[1:]))):
        raise DataError(f"{where} has shape {_shape(value.shape)}, the model wants "
                        f"{_shape(('N',) + expected)}: check layout and size")
    if not value.size:
        raise DataError(f"{where} holds no sample: drop empty batches")
    with np.errstate(over="ignore"):  # 1e300 becomes infinity in float32
        value = np.ascontiguousarray(value, dtype=wanted)
    if np.issubdtype(wanted, np.floating) and not np.isfinite(value).all():
        sample = int(np.argwhere(~np.isfinite(value))[0][0])
        raise DataError(f"{where} holds NaN or infinity, first in sample {sample}: check its file "
                        "and the normalisation")
    return value


def _shape(shape) -> str:
    return "[" + ", ".join("?" if n == -1 else str(n) for n in shape) + "]"
