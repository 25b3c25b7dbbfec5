# SPDX-License-Identifier: Apache-2.0
"""Photographs with what the float and the quantized network find on them, side by side."""
from pathlib import Path
from typing import Callable, List, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from demo.detection import coco, detectors
from demo.ocr import det

WIDTH = 480  # pixels of a column
CAPTION = 16  # pixels above every photograph
SHOWN = 0.3  # smallest score of a box that is drawn


class Shape(NamedTuple):
    """An outline [N, 2] in pixels, the text next to it, and a number that chooses its colour."""

    outline: np.ndarray
    label: str
    colour: int


def colour_of(number: int) -> Tuple[int, int, int]:
    """Neighbouring numbers get colours far apart."""
    import colorsys
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(0.618 * number % 1, 0.9, 1))


def shapes_on(model: str, predict: Callable, path: Path) -> List[Shape]:
    """What a network finds on a photograph.

    Args:
        model(str): one of ``models.NAMES``.
        predict(callable): batch -> outputs.
        path(Path): of the photograph.
    """
    if model == "ppocr_det":
        return [Shape(corners, "", 0) for corners in det.words_on(predict, path)]
    inputs, sizes = detectors.feed(model, [path])
    found, = detectors.detections(model, predict(inputs), sizes, SHOWN)
    names = coco.class_names()
    return [Shape(np.array([[left, t], [r, t], [r, b], [left, b]]), f"{names[c]} {s:.2f}", int(c))
            for (left, t, r, b), s, c in zip(found.boxes, found.scores, found.classes)]


def drawn(path: Path, shapes: Sequence[Shape], caption: str) -> Image.Image:
    """The photograph in the column's width with the shapes on it and the caption above."""
    with Image.open(path) as image:
        scale = WIDTH / image.width
        picture = Image.new("RGB", (WIDTH, CAPTION + int(image.height * scale)), "white")
        picture.paste(image.convert("RGB").resize((WIDTH, picture.height - CAPTION)), (0, CAPTION))
    pen = ImageDraw.Draw(picture)
    pen.text((2, 2), caption, fill="black")
    for shape in shapes:
        points = [(x * scale, y * scale + CAPTION) for x, y in shape.outline]
        pen.line([*points, points[0]], fill=colour_of(shape.colour), width=2)
        if shape.label:
            corner = (points[0][0], max(CAPTION, points[0][1] - 11))
            pen.rectangle(pen.textbbox(corner, shape.label), fill=colour_of(shape.colour))
            pen.text(corner, shape.label, fill="black")
    return picture


def side_by_side(path: Path, model: str, predicts, photographs: Sequence[Path]) -> Path:
    """Write one row per photograph and one column per program.

    Args:
        path(Path): of the PNG.
        model(str): one of ``models.NAMES``.
        predicts(dict): caption -> ``predict``.
        photographs(list[Path]): drawn from above to below.
    """
    rows = [[drawn(p, shapes_on(model, predict, p), caption)
             for caption, predict in predicts.items()] for p in photographs]
    sheet = Image.new("RGB", (WIDTH * len(predicts), sum(row[0].height for row in rows)), "white")
    top = 0
    for row in rows:
        for k, picture in enumerate(row):
            sheet.paste(picture, (k * WIDTH, top))
        top += row[0].height
    sheet.save(path)
    return path
