# SPDX-License-Identifier: Apache-2.0
"""Text line and word crops as the PP-OCR classifier and recogniser want them."""
from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np
from PIL import Image

CLS_SIZE = (48, 192)  # height, width of the direction classifier's input
REC_SIZE = (48, 320)  # of the recogniser's


def preprocess(image: Image.Image, size: Tuple[int, int]) -> np.ndarray:
    """PP-OCR's resize and normalisation.

    Args:
        image(PIL.Image): a crop, any size and mode.
        size(tuple): height and width of the network's input, pixels.

    Returns:
        np.ndarray: float32 [3, H, W], BGR in [-1, 1]; the ratio is kept up to width W,
            the rest on the right is 0.
    """
    height, width = size
    scaled = min(width, int(np.ceil(height * image.width / image.height)))
    pixels = np.asarray(image.convert("RGB").resize((scaled, height), Image.BILINEAR), np.float32)
    padded = np.zeros((3, height, width), np.float32)
    padded[:, :, :scaled] = pixels[:, :, ::-1].transpose(2, 0, 1) / 127.5 - 1.0
    return padded


def read_crops(folder: Path) -> Tuple[List[Image.Image], List[str]]:
    """Images of ``folder`` and their texts from ``folder.txt`` (lines
    ``file<TAB>text``), in the file's order.
    """
    images, texts = [], []
    for line in Path(f"{folder}.txt").read_text(encoding="utf-8").splitlines():
        name, _, text = line.partition("\t")
        with Image.open(Path(folder) / name) as image:
            images.append(image.convert("RGB"))
        texts.append(text)
    return images, texts


def both_directions(images: List[Image.Image],
                    size: Tuple[int, int] = CLS_SIZE) -> Tuple[np.ndarray, np.ndarray]:
    """Every crop upright (label 0) and turned by 180° (label 1).

    Returns:
        tuple: float32 [2 N, 3, H, W] with the two directions alternating, and int64 [2 N].
    """
    turned = [preprocess(view, size) for image in images
              for view in (image, image.transpose(Image.ROTATE_180))]
    return np.stack(turned), np.tile(np.array([0, 1], np.int64), len(images))


def batches(images: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Consecutive slices of ``images`` of at most ``batch_size`` samples."""
    return (images[i:i + batch_size] for i in range(0, len(images), batch_size))


def accuracy(predict, images: np.ndarray, labels: np.ndarray, batch_size: int = 64) -> float:
    """Share of samples, in percent, whose largest score is the label's.

    Args:
        predict(callable): array [B, ...] -> list of outputs, the first being scores [B, classes].
        images(np.ndarray): [N, ...].
        labels(np.ndarray): [N] integers.
        batch_size(int, optional): samples per call. Default: 64.
    """
    guesses = [np.asarray(predict(batch)[0]).argmax(-1) for batch in batches(images, batch_size)]
    return 100.0 * float((np.concatenate(guesses) == labels).mean())
