# SPDX-License-Identifier: Apache-2.0
"""Open what a data section describes."""
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ..config import Config, Data
from ..errors import DataError, numbered
from ..graph.graph import Graph, TensorInfo
from .batches import as_batches, batches_of, collect_samples
from .hooks import call_hook
from .images import (Item, class_number, list_images, original_size, read_image,
                     refuse_undecodable, refuse_unreadable, scale_factors)
from .store import ActivationStore, StoredArray
from .views import add_views


# What PaddleDetection's programs read next to the image: its size, and how it was scaled.
DETECTION_INPUTS = ("im_shape", "scale_factor")


def calibration_samples(graph: Graph, data_loader, config: Config,
                        store: ActivationStore = None) -> Dict[str, StoredArray]:
    """Calibration samples of every input of a graph.

    Args:
        graph(Graph): its inputs say what is wanted.
        data_loader(iterable|None): the user's batches, or None for what ``Data`` describes.
        config(Config): ``Data.num_samples`` limits them, ``Data.views`` multiplies them,
            ``Global.seed`` draws them.
        store(ActivationStore, optional): holds them. Default: None, all stay in memory.

    Returns:
        dict: input name -> array ``[N, ...]``.

    Raises:
        DataError: no data, unfit data, or fewer samples than one training step takes.
    """
    inputs = [graph.tensors[n] for n in graph.inputs]
    loader = (open_loader(config.data, inputs, config.global_.seed) if data_loader is None
              else data_loader)
    samples = collect_samples(loader, inputs, config.data.num_samples, store)
    samples = add_views(samples, config.data.views, config.data.mirror, config.global_.seed, store)
    count, needed = len(next(iter(samples.values()))), config.mrecg.batch_size
    if config.mrecg.num_iters and count < needed:
        more = ("give more images" if data_loader is None and config.data.loader is None else
                "let the loader yield more")
        raise DataError(f"{numbered(count, 'calibration sample')} {'is' if count == 1 else 'are'} "
                        "too few: one training step draws "
                        f"MRECG.batch_size = {needed}; {more}, raise Data.num_samples or "
                        "Data.views, or lower MRECG.batch_size")
    return samples


def stand_ins(graph: Graph, config: Config) -> Dict[str, np.ndarray]:
    """Three random samples of every input, for what depends on shapes alone.

    Raises:
        DataError: an input has free sizes that ``Data.input_shape`` does not give.
    """
    rng, feed = np.random.default_rng(0), {}
    for name in graph.inputs:
        info, given = graph.tensors[name], config.data.input_shape
        shape = tuple(info.shape[1:])
        if any(n < 1 for n in shape):
            if given is None or len(given) != len(shape):
                raise DataError(f"input '{name}' has the free shape {list(info.shape)}: set "
                                "Data.input_shape to C, H, W")
            shape = tuple(given)
        values = rng.random((3, *shape))
        feed[name] = values.astype(info.dtype)
    return feed


def open_loader(data: Data, inputs: Sequence[TensorInfo], seed: int, labelled: bool = False,
                section: str = "Data", chosen: Sequence[Item] = None):
    """What a data section describes, as an iterable that can be read several times.

    Args:
        data(Data): the section.
        inputs(list[TensorInfo]): the model's inputs.
        seed(int): draws ``num_samples`` images, in random order.
        labelled(bool, optional): yield ``(feed, labels [B] int64)`` instead
            of feeds. Default: False.
        section(str, optional): the section's name, for messages. Default: ``Data``.
        chosen(list[Item], optional): what ``chosen_images`` found, which looks at the head of each
            image. Default: None, it is called.

    Raises:
        DataError: nothing to read, or nothing that fits the model.
    """
    if data.loader is not None:
        return HookBatches(data, inputs, labelled, section)
    if data.image_dir is None and data.label_file is None:
        raise DataError(f"no data: set {section}.image_dir or "
                        f"{section}.loader, or pass data_loader")
    image, size = _image_input(data, inputs, section)
    return ImageBatches(data, image, size, [i.name for i in inputs if i is not image], labelled,
                        chosen_images(data, seed, labelled) if chosen is None else chosen)


def chosen_images(data: Data, seed: int, labelled: bool) -> List[Item]:
    """``num_samples`` images of a section, in random order.

    Raises:
        DataError: see ``list_images`` and ``refuse_unreadable``.
    """
    items = list_images(data, labelled)
    order = np.random.default_rng(seed).permutation(len(items))[:data.num_samples]
    chosen = [items[k] for k in order]
    refuse_unreadable(chosen, data)
    return chosen


class ImageBatches:
    """Batches of an image folder or label file; see ``open_loader``."""

    def __init__(self, data: Data, image: TensorInfo, size: Tuple[int, int], sizes: Sequence[str],
                 labelled: bool, items: Sequence[Item]):
        self.data, self.labelled, self.items = data, labelled, items
        self.name, self.dtype, self.size, self.sizes = image.name, image.dtype, size, sizes
        self.labels = (np.array([class_number(i) for i in self.items], np.int64) if labelled
                       else None)

    def __len__(self) -> int:
        return -(-len(self.items) // self.data.batch_size)

    def __iter__(self) -> Iterator:
        for start in range(0, len(self.items), self.data.batch_size):
            part = slice(start, start + self.data.batch_size)
            try:
                pixels = np.stack([read_image(i.path, self.data, self.size)
                                   for i in self.items[part]])
                feed = {self.name: pixels.astype(self.dtype)}
            except DataError:
                refuse_undecodable(self.items[start:], self.data)  # this file and all like it
                raise
            feed.update({n: self._sizes(n, self.items[part]) for n in self.sizes})
            yield (feed, self.labels[part]) if self.labelled else feed

    def _sizes(self, name: str, items) -> np.ndarray:
        """What PaddleDetection's programs want besides the image, ``[N, 2]``."""
        if name == "im_shape":
            return np.tile(np.float32(self.size), (len(items), 1))
        return np.float32([scale_factors(original_size(i.path), self.data, self.size)
                           for i in items])


class HookBatches:
    """Batches of a ``module:function``, called anew for every pass; see ``open_loader``."""

    def __init__(self, data: Data, inputs: Sequence[TensorInfo], labelled: bool, section: str):
        self.data, self.inputs, self.labelled, self.section = data, inputs, labelled, section

    def __iter__(self) -> Iterator:
        loader = call_hook(self.data.loader, arguments=self.data.loader_args,
                           setting=f"{self.section}.loader_args")
        if not self.labelled:
            yield from as_batches(loader, self.inputs, f"'{self.data.loader}'")
            return
        count = 0
        for batch in batches_of(loader, f"'{self.data.loader}'"):
            if not isinstance(batch, (list, tuple)) or len(batch) < 2:
                raise DataError(f"{self.section}.loader '{self.data.loader}' must yield "
                                "(inputs, labels) pairs")
            values = batch[0] if len(batch) == 2 else batch[:-1]
            feed = next(as_batches([values], self.inputs))
            labels = np.asarray(batch[-1].numpy() if hasattr(batch[-1], "numpy")
                                else batch[-1]).reshape(-1)
            keep = min(len(labels), self.data.num_samples - count)
            if (len(labels) != len(next(iter(feed.values())))
                or not np.issubdtype(labels.dtype, np.integer)):
                raise DataError(f"{self.section}.loader '{self.data.loader}': labels must be one "
                                f"whole number per sample, got {labels.dtype} of shape "
                                f"{labels.shape}")
            yield {n: v[:keep] for n, v in feed.items()}, labels[:keep].astype(np.int64)
            count += keep
            if count == self.data.num_samples:
                return


def _image_input(data: Data, inputs: Sequence[TensorInfo],
                 section: str) -> Tuple[TensorInfo, Tuple[int, int]]:
    """The input that takes images, height and width."""
    images = [i for i in inputs if i.name not in DETECTION_INPUTS]
    if len(images) != 1:
        raise DataError(f"the model has the inputs {', '.join(i.name for i in inputs)}; an image "
                        "folder fills one: write a function that yields all and set "
                        f"{section}.loader")
    info = images[0]
    shape: Dict[int, Optional[int]] = dict(enumerate(data.input_shape or info.shape[1:]))
    if len(shape) != 3 or len(info.shape) != 4:
        raise DataError(f"input '{info.name}' has shape {list(info.shape)}, no image [N, C, H, W]: "
                        f"set {section}.loader")
    channels = 1 if data.layout == "GRAY" else 3
    if info.shape[3] == channels != info.shape[1]:
        raise DataError(f"input '{info.name}' wants [N, H, W, C] {list(info.shape)}, and an image "
                        "folder gives [N, C, H, W]: export the model with data_format NCHW, or "
                        f"write a function that yields its batches and set {section}.loader")
    if any(n < 1 for n in shape.values()):
        raise DataError(f"input '{info.name}' has the free shape {list(info.shape)}: set "
                        f"{section}.input_shape to C, H, W")
    if any(want not in (-1, shape[k]) for k, want in enumerate(info.shape[1:])):
        raise DataError(f"{section}.input_shape {list(shape.values())} does not fit the model's "
                        f"input '{info.name}' {list(info.shape)}: give its C, H, W")
    if shape[0] != channels:
        cure = {1: f"set {section}.layout: GRAY", 3: f"set {section}.layout: RGB"}.get(
            shape[0], f"write a function that yields such batches and set {section}.loader")
        raise DataError(f"input '{info.name}' {list(info.shape)} has {shape[0]} channels, "
                        f"{section}.layout {data.layout} gives {channels}: {cure}")
    if not np.issubdtype(np.dtype(info.dtype), np.floating) and not (
            data.scale == 1 and not any(data.mean) and set(data.std) == {1}):
        raise DataError(f"input '{info.name}' takes whole numbers ({info.dtype}), which pixels are "
                        f"as they are: set {section}.scale=1, {section}.mean=[0,0,0] and "
                        f"{section}.std=[1,1,1]")
    return info, (shape[1], shape[2])
