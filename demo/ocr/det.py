# SPDX-License-Identifier: Apache-2.0
"""PP-OCR text detection: from a photograph to the quadrilaterals of its words, and ICDAR's hmean.

The network gives a map of how likely every pixel is text (DB, Liao et al. 2020, with shrunken
regions). Regions are found and grown by scipy and shapely, which give the rectangles of OpenCV's
contours (a test compares them) and, unlike the OpenCV that PaddleSlim pins, exist for every numpy.
"""
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from demo import sources

FOLDER = "ocr/ic15_det_test"  # of the measuring data: img/NAME.jpg, gt/gt_NAME.txt
# applied to BGR as they stand, as PP-OCR does
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LONG_SIDE, MULTIPLE = 960, 32
IGNORED = "###"  # the text of illegible words
SMALLEST = 3  # pixels of the map: a narrower region is not text


class Word(NamedTuple):
    """A labelled word: its [4, 2] corners in pixels, and whether it counts."""

    corners: np.ndarray
    counts: bool


class Tally(NamedTuple):
    """Numbers of one image or all."""

    hits: int
    found: int
    wanted: int


def preprocess(image: Image.Image, long_side: int = LONG_SIDE) -> np.ndarray:
    """float32 [3, H, W], normalised BGR; shrunk to ``long_side``, sides multiples of 32."""
    scale = min(1.0, long_side / max(image.size))
    width, height = (max(MULTIPLE, int(round(side * scale / MULTIPLE)) * MULTIPLE)
                     for side in image.size)
    pixels = (np.asarray(image.convert("RGB").resize((width, height), Image.BILINEAR),
                         np.float32)[:, :, ::-1] / 255.0)
    return np.ascontiguousarray(((pixels - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1))


def corners_of(polygon) -> np.ndarray:
    """The four corners of the smallest rectangle around a shape; none when it has no area."""
    rectangle = polygon.minimum_rotated_rectangle
    return (np.array(rectangle.exterior.coords)[:4] if rectangle.geom_type == "Polygon"
            else np.zeros((0, 2)))


def short_side(corners: np.ndarray) -> float:
    return float(min(np.linalg.norm(corners[0] - corners[1]),
                     np.linalg.norm(corners[1] - corners[2])))


def grow(corners: np.ndarray, ratio: float) -> np.ndarray:
    """The rectangle around a quadrilateral that is pushed outwards by area * ratio
    / perimeter (DB's unclip).
    """
    from shapely.geometry import Polygon
    polygon = Polygon(corners)
    return corners_of(polygon.buffer(polygon.area * ratio / polygon.length))


def mean_inside(scores: np.ndarray, corners: np.ndarray) -> float:
    """Mean of a map over a quadrilateral, its border included."""
    height, width = scores.shape
    left, top = np.floor(corners.min(0)).astype(int).clip(0, [width - 1, height - 1])
    right, bottom = np.ceil(corners.max(0)).astype(int).clip(0, [width - 1, height - 1])
    mask = Image.new("1", (int(right - left) + 1, int(bottom - top) + 1))
    ImageDraw.Draw(mask).polygon([tuple(map(float, p)) for p in corners - [left, top]], fill=1,
                                 outline=1)
    return float(scores[top:bottom + 1, left:right + 1][np.asarray(mask)].mean())


def find_words(scores: np.ndarray, size: Tuple[int, int], threshold: float = 0.3,
               box_threshold: float = 0.6,
               ratio: float = 1.5) -> List[np.ndarray]:
    """Words in a map of text probabilities.

    Args:
        scores(np.ndarray): [H, W] in 0 to 1.
        size(tuple): height and width of the image, to whose pixels the result is scaled.
        threshold(float, optional): a pixel above it is text. Default: 0.3.
        box_threshold(float, optional): a region needs this mean. Default: 0.6.
        ratio(float, optional): of ``grow``. Default: 1.5.

    Returns:
        list: [4, 2] corners.
    """
    from scipy import ndimage
    from shapely.geometry import MultiPoint
    regions, _ = ndimage.label(scores > threshold, structure=np.ones((3, 3)))
    words = []
    for number, place in enumerate(ndimage.find_objects(regions), start=1):
        rows, columns = np.nonzero(regions[place] == number)
        points = np.stack([columns + place[1].start, rows + place[0].start], 1)
        corners = corners_of(MultiPoint(points))
        if (not len(corners) or short_side(corners) < SMALLEST
            or mean_inside(scores, corners) < box_threshold):
            continue
        corners = grow(corners, ratio)
        if short_side(corners) >= SMALLEST + 2:
            scale = np.array(size[::-1]) / np.array(scores.shape[::-1])
            words.append((corners * scale).clip(0, np.array(size[::-1])))
    return words


def match(found: Sequence[np.ndarray], truth: Sequence[Word], overlap: float = 0.5) -> Tally:
    """ICDAR 2015's counting: one detection per word at an IoU above ``overlap``.

    A detection of which more than half lies in one word that does not count is left out itself.
    """
    from shapely.geometry import Polygon
    shapes = [Polygon(corners).buffer(0) for corners in found]
    words = [(Polygon(word.corners).buffer(0), word.counts) for word in truth]
    ignored = [shape for shape, counts in words if not counts]
    shapes = [s for s in shapes if not any(s.intersection(i).area > 0.5 * s.area for i in ignored)]
    taken = set()
    for word in (shape for shape, counts in words if counts):
        for k, shape in enumerate(shapes):
            common = shape.intersection(word).area
            if k not in taken and common > overlap * (shape.area + word.area - common):
                taken.add(k)
                break
    return Tally(len(taken), len(shapes), sum(counts for _, counts in words))


def rates(tallies: Sequence[Tally]) -> Dict[str, float]:
    """``hmean``, ``precision`` and ``recall`` in percent."""
    hits, found, wanted = (sum(column) for column in zip(*tallies))
    precision, recall = hits / max(1, found), hits / max(1, wanted)
    hmean = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"hmean": 100.0 * hmean, "precision": 100.0 * precision, "recall": 100.0 * recall}


def image_paths() -> List[Path]:
    """The scene photographs by name."""
    return sorted(sources.shared_data(f"{FOLDER}/img").glob("*.jpg"))


def read_words(image_path: Path) -> List[Word]:
    """The words labelled on a photograph: lines of eight coordinates and the text."""
    path = image_path.parents[1] / "gt" / f"gt_{image_path.stem}.txt"
    rows = [line.split(",", 8) for line in path.read_text(encoding="utf-8-sig").splitlines()
            if line.strip()]
    return [Word(np.array(row[:8], np.float64).reshape(4, 2),
                 row[8].strip() != IGNORED) for row in rows]


def words_on(predict, path: Path) -> List[np.ndarray]:
    """What the network finds on one photograph."""
    with Image.open(path) as image:
        scores = np.asarray(predict({"x": preprocess(image)[None]})[0])[0, 0]
        return find_words(scores, (image.height, image.width))


def calibration(num_samples: int = 72, batch_size: int = 8,
                tile: Sequence[int] = (256, 320),
                long_side: int = LONG_SIDE) -> Iterator[np.ndarray]:
    """Tiles of unlabelled photographs, the last ones by name; for ``Data.loader``.

    Tiles have the scale of the evaluation at a fraction of its memory. One
    photograph of 960x544 gives six.
    """
    tiles = []
    for path in reversed(image_paths()):
        with Image.open(path) as image:
            pixels = preprocess(image, long_side)
        for top in range(0, pixels.shape[1] - tile[0] + 1, tile[0]):
            tiles += [pixels[:, top:top + tile[0], left:left + tile[1]]
                      for left in range(0, pixels.shape[2] - tile[1] + 1, tile[1])]
        if len(tiles) >= num_samples:
            break
    return (np.stack(tiles[k:min(k + batch_size, num_samples)])
            for k in range(0, min(num_samples, len(tiles)), batch_size))


def evaluate(predict, num_samples: int = 48) -> Dict[str, float]:
    """``rates`` on the first photographs by name; for ``Evaluation.evaluator``."""
    return rates([match(words_on(predict, path), read_words(path))
                  for path in image_paths()[:num_samples]])
