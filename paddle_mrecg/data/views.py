# SPDX-License-Identifier: Apache-2.0
"""More calibration samples out of few images: moved and mirrored copies, as in training.

Reconstruction fits the calibration images better than others, and the more so the fewer there are;
copies close part of that gap for the price of the steps that see them.
"""
import math
import shutil
from typing import Dict

import numpy as np

from ..errors import DataError, OutputError
from .store import ROWS, ActivationStore, StoredArray

REACH = 8  # a copy moves by up to this part of a side: 4 of 32 pixels, 28 of 224


def add_views(samples: Dict[str, StoredArray], views: int, mirror: bool, seed: int,
              store: ActivationStore = None) -> Dict[str, StoredArray]:
    """Samples followed by ``views - 1`` changed copies of each.

    Args:
        samples(dict): input name -> array ``[N, ...]``; inputs ``[N, C, H, W]`` of floats are
            images, others are repeated.
        views(int): how often each sample appears, 1 or more.
        mirror(bool): mirror half of the copies, left to right.
        seed(int): draws moves and mirrors, the same ones for all inputs of a sample.
        store(ActivationStore, optional): holds the result. Default: None, all stays in memory.

    Returns:
        dict: input name -> array ``[N * views, ...]``, the given samples first.

    Raises:
        DataError: no input is an image.
        OutputError: neither memory nor the temporary folder has room for so many.
    """
    if views == 1:
        return samples
    images = [n for n, v in samples.items() if v.ndim == 4 and np.issubdtype(v.dtype, np.floating)]
    if not images:
        raise DataError("Data.views needs images, and no input has the shape [N, C, H, "
                        "W]: set Data.views: 1")
    rng = np.random.default_rng([seed, views])
    count, store = len(samples[images[0]]), store or ActivationStore(math.inf)
    _refuse_too_many(samples, views, store)
    result = {name: store.allocate((count * views, *value.shape[1:]), value.dtype, True)
              for name, value in samples.items()}
    for view in range(views):
        if view:
            moves = rng.uniform(-1.0, 1.0, (count, 2))
            mirrored = rng.random(count) < (0.5 if mirror else 0.0)
        for name, value in samples.items():
            for start in range(0, count, ROWS):
                rows = slice(start, min(start + ROWS, count))
                change = view and name in images
                result[name][view * count + start:view * count + rows.stop] = _moved(
                    value[rows], moves[rows], mirrored[rows]) if change else value[rows]
    return result


def _refuse_too_many(samples: Dict[str, StoredArray], views: int, store: ActivationStore):
    size = views * sum(v.size * v.dtype.itemsize for v in samples.values())
    memory = max(0.0, store.limit - store.in_memory)
    free = shutil.disk_usage(store.directory).free if size > memory else 0
    if size > memory + free:
        raise OutputError(f"Data.views = {views} makes {size / 2**20:,.0f} MiB of samples, and "
                          f"memory and the temporary folder '{store.directory}' have "
                          f"{(memory + free) / 2**20:,.0f} MiB for them: lower Data.views or "
                          "Data.num_samples, or set TMPDIR to a folder with more room")


def _moved(images: np.ndarray, moves: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Each image moved by its part of the reach, its border reflected, and mirrored where asked."""
    height, width = images.shape[2:]
    reach = np.array([height // REACH, width // REACH])
    steps = np.rint(moves * reach).astype(int)
    result = np.empty_like(images)
    for k, (down, right) in enumerate(steps):
        rows, columns = _reflected(height, down), _reflected(width, right)
        result[k] = images[k][:, rows[:, None], columns[::-1] if mirrored[k] else columns]
    return result


def _reflected(size: int, move: int) -> np.ndarray:
    """Where each pixel comes from along one axis, reflected at the border without repeating it."""
    index = np.abs(np.arange(size) - move)
    return np.where(index < size, index, 2 * (size - 1) - index)
