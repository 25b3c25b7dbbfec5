# SPDX-License-Identifier: Apache-2.0
"""Photographs with labels in YOLO's text form, and COCO's average precision on them."""
import contextlib
import io
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from PIL import Image

from demo import sources
from demo.detection.boxes import Detections

FOLDER = "coco128"  # of the measuring data


def image_paths(part: str, count: int = None) -> List[Path]:
    """The first photographs of ``train2017`` (calibration) or ``val2017`` (evaluation), by name."""
    return sorted(sources.shared_data(f"{FOLDER}/images/{part}").glob("*.jpg"))[:count]


def read_label(image_path: Path) -> np.ndarray:
    """[N, 5]: class, centre x and y, width and height as shares of the image; no file
    means that nothing is on it.
    """
    path = Path(str(image_path).replace("images", "labels")).with_suffix(".txt")
    rows = path.read_text(encoding="utf-8").split() if path.exists() else []
    return np.array(rows, np.float64).reshape(-1, 5)


def class_names() -> List[str]:
    """The 80 names in the order of the label numbers."""
    import yaml
    names = yaml.safe_load((sources.shared_data(FOLDER)
                            / "config.yaml").read_text(encoding="utf-8"))["names"]
    return [names[k] for k in sorted(names)]


def random_part(width: int, height: int,
                random: np.random.Generator) -> Tuple[float, float, float, float]:
    """Left, top, right, bottom of a part that is at least 60 % of an image wide and high."""
    shares = random.uniform(0.6, 1.0, 2)
    left, top = random.uniform(0.0, 1.0 - shares) * (width, height)
    return float(left), float(top), float(left + shares[0] * width), float(top + shares[1] * height)


def squeezed(path: Path, size: Tuple[int, int], resample=Image.BILINEAR,
             random: np.random.Generator = None) -> Tuple[np.ndarray, Tuple[int, int]]:
    """An image as float32 [H, W, 3] RGB in 0 to 1, its ratio not kept, and
    its own height and width.

    Args:
        path(Path): of the image.
        size(tuple): height and width of the result.
        resample(int, optional): filter of Pillow. Default: bilinear.
        random(np.random.Generator, optional): draws a part of the image, mirrored or not, for
            training without labels. Default: None, all of it.
    """
    with Image.open(path) as image:
        part = random_part(image.width, image.height, random) if random else None
        pixels = (np.asarray(image.convert("RGB").resize(size[::-1], resample, part), np.float32)
                  / 255.0)
        mirrored = random is not None and random.random() < 0.5
        return pixels[:, ::-1] if mirrored else pixels, (image.height, image.width)


def ground_truth(labels: Sequence[np.ndarray], sizes: Sequence[Tuple[int, int]]):
    """Labels as ``pycocotools.coco.COCO``, made in memory.

    Args:
        labels(list): of ``read_label``.
        sizes(list): height and width of every image.
    """
    from pycocotools.coco import COCO
    annotations = []
    for image_id, (label, (height, width)) in enumerate(zip(labels, sizes), start=1):
        for category, x, y, w, h in label:
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id,
                                    category_id=int(category), bbox=box,
                                    area=box[2] * box[3], iscrowd=0))
    images = [dict(id=k, height=h, width=w) for k, (h, w) in enumerate(sizes, start=1)]
    categories = [dict(id=k) for k in sorted({a["category_id"] for a in annotations})]
    truth = COCO()
    truth.dataset = dict(images=images, annotations=annotations, categories=categories)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def average_precision(found: Sequence[Detections], labels: Sequence[np.ndarray],
                      sizes: Sequence[Tuple[int, int]]) -> Dict[str, float]:
    """COCO's ``mAP`` (over IoU 0.5 to 0.95) and ``AP50`` in percent.

    Args:
        found(list[Detections]): per image.
        labels(list): of ``read_label``.
        sizes(list): height and width of every image.
    """
    from pycocotools.cocoeval import COCOeval
    truth = ground_truth(labels, sizes)
    results = [dict(image_id=image_id, category_id=int(c), score=float(s),
                    bbox=[left, t, r - left, b - t])
               for image_id, d in enumerate(found, start=1)
               for (left, t, r, b), s, c in zip(d.boxes.astype(float), d.scores, d.classes)]
    if not results:
        return {"mAP": 0.0, "AP50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"mAP": 100.0 * float(evaluation.stats[0]), "AP50": 100.0 * float(evaluation.stats[1])}
