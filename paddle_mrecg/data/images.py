# SPDX-License-Identifier: Apache-2.0
"""Image folders and label files, read with Pillow."""
from pathlib import Path
from typing import List, NamedTuple, Optional, Set, Tuple

import numpy as np
from PIL import Image, ImageOps

from ..config import Data
from ..errors import DataError, listed
from ..files import is_hidden

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

ORIENTATION = 0x0112  # EXIF tag
NAMED_PROBLEMS = 8  # problems in one message
LOOKED_ON = 2048  # images that are decoded to find what else is wrong
REPLACE = "remove or replace it"


class Item(NamedTuple):
    """An image file and its label's text, if it has one."""

    path: Path
    label: Optional[str]


def list_images(data: Data, labelled: bool = False) -> List[Item]:
    """The files of a data section, in the label file's order or by name.

    Args:
        data(Data): the section.
        labelled(bool, optional): every line of the label file needs a class number.
            Default: False.

    Raises:
        DataError: no folder or label file, no image; or what is wrong with the label file, all
            lines at once.
    """
    folder = Path(data.image_dir) if data.image_dir is not None else None
    if folder is not None and not folder.is_dir():
        raise DataError(f"image_dir '{folder}' is not a folder: give the folder of the images")
    if data.label_file is not None:
        return _read_label_file(Path(data.label_file), folder, labelled)
    results = {p.parent for p in folder.rglob("report.json")
               if (p.parent / "resolved_config.yaml").is_file()} - {folder}
    items = [Item(p, None) for p in sorted(folder.rglob("*"))
             if p.suffix.lower() in SUFFIXES and not is_hidden(p.relative_to(folder))
             and p.is_file() and not _is_picture(p, results)]
    if not items:
        raise DataError(f"image_dir '{folder}' holds no image: files ending in "
                        f"{', '.join(SUFFIXES)} are looked for, also in folders below")
    return items


def _is_picture(path: Path, results: Set[Path]) -> bool:
    """True for what an earlier result, or one that is being written, shows."""
    return (path.name == "oscillation.png" and (path.parent / "report.json").is_file()
            or any(p in results or p.name == ".partial"
                   or p.name.endswith(".partial") and (p / ".paddle_mrecg").is_file()
                   for p in path.parents))


def _read_label_file(file: Path, folder: Optional[Path], labelled: bool) -> List[Item]:
    """Lines ``path<tab>label`` or ``path label``; paths are relative to
    ``folder`` or the file's own.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"label_file '{file}' cannot be read ({reason}); give the "
                        "path of a UTF-8 text file") from error
    items, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = (line.strip().partition("\t") if "\t" in line.strip()
                          else _split_last_space(line.strip()))
        item = Item((folder or file.parent) / name.strip(), label.strip() or None)
        problem = _problem(item, labelled)
        if problem:
            problems.append(f"line {number}: {problem}")
        items.append(item)
    if problems:
        raise DataError(f"label_file '{file}', {listed(problems, NAMED_PROBLEMS, '; ')}: lines are "
                        "`path label`, paths are relative to image_dir, or to the label file "
                        "without one"
                        + (", and top1 and top5 need class numbers (for other scores set "
                           "Evaluation.evaluator)" if labelled else ""))
    if not items:
        raise DataError(f"label_file '{file}' is empty: give lines `path label`")
    return items


def _problem(item: Item, labelled: bool) -> str:
    """What is wrong with a line, or nothing."""
    try:
        if not item.path.is_file():
            return f"file '{item.path}' does not exist"
    except (OSError, ValueError) as error:  # a name with NUL, or one that is too long
        return f"file {str(item.path)[:100]!r} cannot be looked up ({error})"
    if labelled:
        try:
            class_number(item)
        except DataError as error:
            return str(error)
    return ""


def refuse_unreadable(items: List[Item], data: Data):
    """Look at the head of every image, so that what is not an image shows before hours are spent;
    where one is not, at the pixels of the others too, so that all are named at once.

    Raises:
        DataError: some files are not images; several are named at once.
    """
    if _problems_of(items, original_size):
        refuse_undecodable(items, data)


def refuse_undecodable(items: List[Item], data: Data):
    """Decode the first ``LOOKED_ON`` images, and look at the heads of those behind them.

    Raises:
        DataError: some files are not images; several are named at once.
    """
    problems = _problems_of(items[:LOOKED_ON], lambda path: _decoded(path, data))
    problems += _problems_of(items[LOOKED_ON:], original_size)
    if problems:
        raise DataError(f"{listed(problems, NAMED_PROBLEMS, '; ')}: remove or replace "
                        + ("it" if len(problems) == 1 else f"these {len(problems)} files"))


def _problems_of(items: List[Item], look) -> List[str]:
    """What ``look`` says against the files that are at fault.

    Raises:
        DataError: no file is, see ``_decoded``.
    """
    problems = []
    for item in items:
        try:
            look(item.path)
        except DataError as error:
            problem, _, cure = str(error).rpartition(": ")
            if cure != REPLACE:
                raise
            problems.append(problem)
    return problems


def _split_last_space(line: str) -> Tuple[str, str, str]:
    name, space, label = line.rpartition(" ")
    return (name, space, label) if space else (label, "", "")


def class_number(item: Item) -> int:
    """The label as a class index.

    Raises:
        DataError: there is none, or it is not a whole number.
    """
    try:
        return int(item.label)
    except (TypeError, ValueError) as error:
        got = "no label" if item.label is None else f"label '{item.label}'"
        raise DataError(f"image '{item.path}' has {got}, not a class number") from error


def read_image(path, data: Data, size: Tuple[int, int]) -> np.ndarray:
    """One image as the model wants it.

    Args:
        path(str|Path): the file.
        data(Data): how to resize, crop and normalise.
        size(tuple): height and width, pixels.

    Returns:
        np.ndarray: float32 ``[C, H, W]``.

    Raises:
        DataError: no readable image, or smaller than the crop.
    """
    pixels = np.asarray(_to_size(_decoded(path, data), data, size, path), np.float32)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if data.layout == "BGR":
        pixels = pixels[::-1]
    mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (data.mean, data.std))
    pixels = (pixels * np.float32(data.scale) - mean) / std
    height, width = pixels.shape[1:]
    return np.pad(pixels, ((0, 0), (0, size[0] - height), (0, size[1] - width)),
                  constant_values=data.pad_value)


def _decoded(path, data: Data) -> Image.Image:
    """All pixels, as bytes of grey or of red, green and blue.

    Raises:
        DataError: no readable image, or Pillow lacks a decoder.
    """
    try:
        with Image.open(path) as file:
            image = _eight_bit(ImageOps.exif_transpose(file))
            return image.convert("L" if data.layout == "GRAY" else "RGB")
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        cure = ("import paddle_mrecg before paddle" if "codec configuration" in str(error) else
                REPLACE)  # the first: Paddle 2.6 hides the system's zlib from Pillow
        raise DataError(f"image '{path}' cannot be read ({error}): {cure}") from error


def original_size(path) -> Tuple[int, int]:
    """Height and width of an image file, turned as its EXIF data says; only its head is read.

    Raises:
        DataError: no readable image.
    """
    try:
        with Image.open(path) as file:
            turned = file.getexif().get(ORIENTATION, 1) >= 5  # these lie on their side
            return (file.width, file.height) if turned else (file.height, file.width)
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError(f"image '{path}' cannot be read ({error}): {REPLACE}") from error


def scale_factors(original: Tuple[int, int], data: Data,
                  size: Tuple[int, int]) -> Tuple[float, float]:
    """By how much ``read_image`` scales height and width.

    Args:
        original(tuple): height and width of the file.
        data(Data): how it is resized.
        size(tuple): height and width, as the model takes them.

    Examples:
        >>> scale_factors((200, 100), Data(crop="resize"), (50, 50))
        (0.25, 0.5)
        >>> scale_factors((200, 100), Data(crop="pad"), (50, 50))
        (0.25, 0.25)
    """
    by_side = size[0] / original[0], size[1] / original[1]
    if data.crop == "resize":
        return by_side
    ratio = (min(by_side) if data.crop == "pad" else
             data.resize_short / min(original) if data.resize_short else 1.0)
    return ratio, ratio


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and float pixels scaled to 0..255; ``convert`` would saturate them.

    Floats are 0 to 1, or 0 to 255 when one is above 1; so are integers of 32 bits, up to 65535.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    pixels = np.asarray(image).astype(np.float64)
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"mode {image.mode} with values from {pixels.min():g} to "
                         f"{pixels.max():g}")
    if image.mode == "F":
        top = 1.0 if pixels.max() <= 1 else 255.0 if pixels.max() <= 255 else 65535.0
    else:
        sixteen = image.mode.startswith("I;16") or image.format == "PNG" or pixels.max() > 255
        top = 65535.0 if sixteen else 255.0
    return Image.fromarray(np.rint(pixels * (255.0 / top)).astype(np.uint8))


def _to_size(image: Image.Image, data: Data, size: Tuple[int, int], path) -> Image.Image:
    """Resize and crop; smaller than ``size`` only with crop ``pad``, where the caller fills up."""
    height, width = size
    if data.crop == "resize":
        return image.resize((width, height), Image.BILINEAR)
    if data.crop == "pad":
        ratio = min(height / image.height, width / image.width)
        fitted = (max(1, min(width, round(image.width * ratio))),
                  max(1, min(height, round(image.height * ratio))))
        return image.resize(fitted, Image.BILINEAR)
    if data.resize_short is not None:
        ratio = data.resize_short / min(image.size)
        image = image.resize((max(1, round(image.width * ratio)),
                              max(1, round(image.height * ratio))), Image.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if left < 0 or top < 0:
        raise DataError(f"image '{path}' is {image.width}x{image.height}, smaller than the crop "
                        f"{width}x{height}: set resize_short to at least the longer of these, or "
                        "crop to resize or pad")
    return image.crop((left, top, left + width, top + height))
