# SPDX-License-Identifier: Apache-2.0
"""The object detectors from photographs to detections: what goes in, what
comes out, and how good it is.
"""
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np
from PIL import Image

from demo.detection import boxes, coco, models

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
YOLO_SIZE, PICODET_SIZE = (320, 320), (416, 416)
Sizes = List[Tuple[int, int]]


def feed(model: str, paths: Sequence[Path],
         random: np.random.Generator = None) -> Tuple[Dict[str, np.ndarray], Sizes]:
    """The network's inputs for some photographs, and their heights and widths.

    Args:
        model(str): ``yolo_fastest``, ``yolo_fastest_xl`` or ``picodet``.
        paths(list[Path]): of images.
        random(np.random.Generator, optional): draws parts of the photographs.
            Default: None, all of them.
    """
    size, resample = ((YOLO_SIZE, Image.BILINEAR) if model in models.YOLO
                      else (PICODET_SIZE, Image.BICUBIC))
    pixels, sizes = zip(*(coco.squeezed(path, size, resample, random) for path in paths))
    images = np.stack(pixels)
    if model in models.YOLO:
        return {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))}, list(sizes)
    images = (images - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    scale = np.array(size, np.float32) / np.array(sizes, np.float32)
    return ({"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2)), "scale_factor": scale},
            list(sizes))


def detections(model: str, outputs: Sequence[np.ndarray], sizes: Sizes,
               threshold: float = 0.005) -> List[boxes.Detections]:
    """What the network's outputs say.

    Args:
        model(str): of ``feed``.
        outputs(list): of a batch.
        sizes(list): of ``feed``.
        threshold(float, optional): smallest score. Default: 0.005.
    """
    if model in models.YOLO:
        return boxes.detect(outputs, models.heads(model), YOLO_SIZE, sizes, threshold)
    # suppressed in the graph: class, score, box; how many rows each image has
    rows, counts = outputs
    parts = np.split(np.asarray(rows).reshape(-1, 6), np.cumsum(counts)[:-1])
    return [boxes.Detections(p[:, 2:], p[:, 1], p[:, 0].astype(np.int64))
            for p in (p[p[:, 1] > threshold] for p in parts)]


def calibration(model: str, num_samples: int = 128,
                batch_size: int = 8) -> Iterator[Dict[str, np.ndarray]]:
    """Unlabelled batches of training photographs; for ``Data.loader``."""
    paths = coco.image_paths("train2017", num_samples)
    return (feed(model, paths[k:k + batch_size])[0] for k in range(0, len(paths), batch_size))


def training_views(model: str, num_samples: int = 128, views: int = 4, seed: int = 0,
                   batch_size: int = 8) -> Iterator[Dict[str, np.ndarray]]:
    """Unlabelled batches of random parts of training photographs, mirrored or
    not; for recipes that train.

    Args:
        model(str): of ``feed``.
        num_samples(int, optional): the first photographs, by name. Default: 128.
        views(int, optional): parts of every photograph. Default: 4.
        seed(int, optional): draws the parts and the order. Default: 0.
        batch_size(int, optional): parts per batch. Default: 8.
    """
    random = np.random.default_rng(seed)
    paths = coco.image_paths("train2017", num_samples)
    for _ in range(views):
        order = random.permutation(len(paths))
        for k in range(0, len(paths), batch_size):
            yield feed(model, [paths[i] for i in order[k:k + batch_size]], random)[0]


def evaluate(predict, model: str, num_samples: int = 128, batch_size: int = 8) -> Dict[str, float]:
    """``mAP`` and ``AP50`` in percent on validation photographs; for ``Evaluation.evaluator``."""
    paths = coco.image_paths("val2017", num_samples)
    found, sizes = [], []
    for k in range(0, len(paths), batch_size):
        inputs, part = feed(model, paths[k:k + batch_size])
        found += detections(model, predict(inputs), part)
        sizes += part
    return coco.average_precision(found, [coco.read_label(path) for path in paths], sizes)
