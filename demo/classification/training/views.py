# SPDX-License-Identifier: Apache-2.0
"""What a network is shown of an image: the middle, or a random cut; normalised."""
from typing import NamedTuple, Sequence, Tuple, Union

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from demo.classification import cifar10


class View(NamedTuple):
    """How training images are varied: ``padding`` zeros around before a random cut,
    mirrored at random or not; and their normalisation, of values from 0 to 1.
    """

    size: Union[int, Tuple[int, int]]  # a square, or height and width
    padding: int
    mirror: bool
    mean: Sequence[float] = tuple(cifar10.MEAN)
    std: Sequence[float] = tuple(cifar10.STD)

    @property
    def sides(self) -> Tuple[int, int]:
        """Height and width of the network's input."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


def normalise(images: np.ndarray, view: View) -> np.ndarray:
    """uint8 [N, 3, H, W] to the network's float32 input, in one pass over it."""
    mean, std = np.asarray(view.mean), np.asarray(view.std)
    scale, shift = 1.0 / (255.0 * std), -mean / std
    pixels = images.astype(np.float32)
    pixels *= scale.astype(np.float32)[:, None, None]
    pixels += shift.astype(np.float32)[:, None, None]
    return pixels


def centred(images: np.ndarray, view: View) -> np.ndarray:
    """The middle of the network's size."""
    height, width = view.sides
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top:top + height, left:left + width]


def varied(images: np.ndarray, view: View, rng: np.random.Generator) -> np.ndarray:
    """A random cut of every image, half of them mirrored."""
    around = (view.padding, view.padding)
    windows = sliding_window_view(np.pad(images, ((0, 0), (0, 0), around, around)),
                                  view.sides, axis=(2, 3))
    count, (rows, columns) = len(images), windows.shape[2:4]
    cut = windows[np.arange(count), :, rng.integers(rows,
                                                    size=count), rng.integers(columns, size=count)]
    if view.mirror:
        turned = rng.random(count) < 0.5
        cut[turned] = cut[turned, :, :, ::-1]
    return cut
