# SPDX-License-Identifier: Apache-2.0
"""Labelled images for training: digits, CIFAR-10 and folders, cut, mirrored and
normalised a whole batch at a time.

A data set hands out indices; its images are looked up, as uint8, when a batch is put together
(``take``). The random cut of a batch depends on the seed, the epoch and the batch alone, so it is
the same with any number of workers and after a resume.
"""
import json
from functools import lru_cache
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

import numpy as np
from paddle import io
from paddle.vision.datasets import DatasetFolder
from PIL import Image, UnidentifiedImageError

from demo import sources
from demo.classification import cifar10
from demo.classification.training.views import View, centred, normalise, varied
from paddle_mrecg.errors import DataError

SHEETS = 5  # training sheets of CIFAR-10
DIGITS_TEST = 360  # of the 1797 digits
MARGIN = 8 / 7  # images of folders are kept this much larger than the cut, as 256 is to 224
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class ImageArrays(io.Dataset):
    """Images in memory, uint8 [N, 3, H, W], with class numbers [N]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        super().__init__()
        self.images, self.labels = images, np.asarray(labels, np.int64)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return index

    def take(self, indices) -> Tuple[np.ndarray, np.ndarray]:
        """Images and labels of a batch."""
        return self.images[indices], self.labels[indices]


class ImageFolder(io.Dataset):
    """One folder per class, read with ``paddle.vision.datasets.DatasetFolder``
    and decoded batch by batch.

    Args:
        root(Path): the folder of the class folders.
        side(int): pixels of the square that is cut from the middle of an image after its
            shorter side got that long.

    Raises:
        DataError: no such folder, no class folder, or no image.
    """

    def __init__(self, root: Path, side: int):
        super().__init__()
        if not Path(root).is_dir():
            raise DataError(f"'{root}' is not a folder: a data folder holds train/ and val/ with "
                            "one folder per class")
        try:
            listing = DatasetFolder(str(root), extensions=IMAGE_SUFFIXES)
        except (RuntimeError, FileNotFoundError) as error:
            raise DataError(f"'{root}' holds no folder per class with images "
                            f"({', '.join(IMAGE_SUFFIXES)})") from error
        self.samples, self.classes, self.side = listing.samples, listing.classes, side

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return index

    def take(self, indices) -> Tuple[np.ndarray, np.ndarray]:
        """Images and labels of a batch."""
        chosen = [self.samples[i] for i in indices]
        return (np.stack([self._decode(path) for path, _ in chosen]),
                np.array([label for _, label in chosen], np.int64))

    def _decode(self, path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                image = image.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"image '{path}' cannot be read ({error}): "
                            "replace or remove it") from error
        scale = self.side / min(image.size)
        image = image.resize([max(self.side, round(n * scale)) for n in image.size], Image.BILINEAR)
        left, top = ((n - self.side) // 2 for n in image.size)
        return np.asarray(image.crop((left, top, left + self.side,
                                      top + self.side))).transpose(2, 0, 1)


class DataSets(NamedTuple):
    """What a run is trained and scored on."""

    train: io.Dataset
    test: io.Dataset
    num_classes: int
    view: View


def load(data: str, data_dir: str = cifar10.DATA_DIR, image_size: int = 224,
         num_train: Optional[int] = None) -> DataSets:
    """The data sets of a name.

    Args:
        data(str): ``digits`` (inside scikit-learn, which PaddleSlim requires), ``cifar10``, or a
            folder with ``train/`` and ``val/``.
        data_dir(str, optional): the sheets of CIFAR-10. Default: ``cache/cifar10``.
        image_size(int, optional): side of the network's input; folders only. Default: 224.
        num_train(int, optional): the first so many training images; all when
            not given. Default: None.

    Raises:
        DataError: the data is not there or unreadable.
    """
    if data == "digits":
        found = _digits()
    elif data == "cifar10":
        found = _cifar10(str(data_dir))
    else:
        side = round(image_size * MARGIN)
        train, test = (ImageFolder(Path(data) / part, side) for part in ("train", "val"))
        if train.classes != test.classes:
            raise DataError(f"'{data}': train/ and val/ must hold the same class folders")
        found = DataSets(train, test, len(train.classes), View(image_size, 0, True))
    if num_train is None:
        return found
    if not 0 < num_train <= len(found.train):
        raise DataError(f"num_train {num_train}: '{data}' has {len(found.train)} training images")
    return found._replace(train=First(found.train, num_train))


class First(io.Dataset):
    """The first ``count`` images of a data set."""

    def __init__(self, whole, count: int):
        super().__init__()
        self.take, self._count = whole.take, min(count, len(whole))

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        return index


@lru_cache(maxsize=1)
def _digits() -> DataSets:
    # read without importing scikit-learn, which takes seconds
    table = np.loadtxt(sources.package_path("sklearn", "scikit-learn",
                                            "datasets/data/digits.csv.gz"), delimiter=",")
    images, labels = table[:, :-1], table[:, -1]  # 8x8 pixels, 0 to 16
    pixels = np.minimum(images.reshape(-1, 1, 8, 8) * 16, 255).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(pixels.repeat(4, axis=2).repeat(4, axis=3),
                                                  (len(labels), 3, 32, 32)))
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:]
    return DataSets(ImageArrays(pixels[train], labels[train]),
                    ImageArrays(pixels[test], labels[test]), 10,
                    View(32, 2, mirror=False))


@lru_cache(maxsize=1)
def _cifar10(data_dir: str) -> DataSets:
    folder = Path(data_dir)
    pixels = [cifar10.read_sheet(folder / f"data_batch_{k}.png") for k in range(1, SHEETS + 1)]
    labels = {part: json.loads((folder / f"{part}_lables.json").read_text(encoding="utf-8"))
              for part in ("train", "test")}
    return DataSets(ImageArrays(np.concatenate(pixels), labels["train"]),
                    ImageArrays(cifar10.read_sheet(folder / "test_batch.png"), labels["test"]), 10,
                    View(32, 4, mirror=True))


def calibration(data: DataSets, num_images: int = 256, batch_size: int = 64) -> List[np.ndarray]:
    """The first training images as the network sees them in evaluation, in batches;
    labels are not looked at.
    """
    chosen = np.arange(min(num_images, len(data.train)))
    return [normalise(centred(data.train.take(chosen[start:start + batch_size])[0], data.view),
                      data.view) for start in range(0, len(chosen), batch_size)]


class EpochSampler(io.BatchSampler):
    """Batches of indices; the shuffle depends on seed and epoch alone, and
    every process gets its share.

    Args:
        count(int): images in the data set.
        batch_size(int): images per batch and process.
        seed(int, optional): shuffle with it and leave out what fills no batch; None keeps
            order and rest. Default: None.
        epoch_images(int, optional): images per epoch, drawn anew for each; None
            means all. Default: None.
        share(tuple[int, int], optional): this process's rank and their number. Default: (0, 1).

    Raises:
        DataError: not one batch per process.
    """

    def __init__(self, count: int, batch_size: int, seed: Optional[int] = None,
                 epoch_images: Optional[int] = None,
                 share: Tuple[int, int] = (0, 1)):
        self.epoch, self._count, self._seed, self._share = 0, count, seed, share
        self.batch_size, self._images = batch_size, min(count, epoch_images or count)
        if seed is not None and not len(self):
            raise DataError(f"{self._images} images per epoch do not fill a batch of {batch_size} "
                            f"for {share[1]} process(es): lower --batch_size")

    def set_epoch(self, epoch: int):
        """To be called before each epoch."""
        self.epoch = epoch

    def __iter__(self):
        rank, ranks = self._share
        if self._seed is None:
            order = np.arange(self._count)[rank::ranks]
        else:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)[
                : self._images
            ][rank::ranks]
        for batch in range(len(self)):
            yield order[batch * self.batch_size:(batch + 1) * self.batch_size].tolist()

    def __len__(self):
        rank, ranks = self._share
        if self._seed is not None:
            return self._images // (self.batch_size * ranks)
        return -(-len(range(rank, self._count, ranks)) // self.batch_size)


class Collate:
    """Makes a batch (float32 [B, 3, size, size], int64 [B]) of indices; with
    a seed, of varied images.
    """

    def __init__(self, images, view: View, sampler: EpochSampler, seed: Optional[int] = None):
        self._take: Callable = images.take
        self._view, self._sampler, self._seed = view, sampler, seed

    def __call__(self, indices: List[int]):
        images, labels = self._take(indices)
        if self._seed is None:
            return [normalise(centred(images, self._view), self._view), labels]
        # an image comes once an epoch, so the first one tells the batch
        rng = np.random.default_rng([self._seed, self._sampler.epoch, indices[0]])
        return [normalise(varied(images, self._view, rng), self._view), labels]


def batches(images, view: View, sampler: EpochSampler, seed: Optional[int] = None,
            num_workers: int = 0) -> io.DataLoader:
    """A loader of (images, labels); varied ones when a seed is given."""
    return io.DataLoader(images, batch_sampler=sampler,
                         collate_fn=Collate(images, view, sampler, seed),
                         num_workers=num_workers, return_list=True)
