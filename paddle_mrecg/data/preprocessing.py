# SPDX-License-Identifier: Apache-2.0
"""How a model wants its images: from the file that its exporter wrote, or from a family's name.

PaddleOCR, PaddleClas and PaddleX write ``inference.yml``, PaddleDetection ``infer_cfg.yml``,
PaddleSeg ``deploy.yaml``. They name the steps in front of the network; here those become keys of
the ``Data`` section.
"""
import os
import re
from fractions import Fraction
from typing import Any, Dict, List, Optional, Tuple

from ..config.io import read_sections
from ..errors import ConfigError, ModelError

FILES = ("inference.yml", "inference.yaml", "infer_cfg.yml", "deploy.yaml", "deploy.yml")
IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
HALF = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
TEXT_LINE = dict(layout="BGR", crop="pad", **HALF)
TEXT_PAGE = dict(input_shape=[3, 640, 640], layout="BGR", crop="resize", **IMAGENET)
CLASSIFIER = dict(input_shape=[3, 224, 224], resize_short=256, crop="center", layout="RGB",
                  **IMAGENET)
# Names in a model's path, for exports that hold the program alone.
FAMILIES = (
    (r"pp-?ocr.*(cls|direction)|textline_ori", "PP-OCR direction classifier",
     dict(input_shape=[3, 48, 192], **TEXT_LINE)),
    (r"pp-?ocr.*rec", "PP-OCR text recognition", dict(input_shape=[3, 48, 320], **TEXT_LINE)),
    (r"pp-?ocr.*det", "PP-OCR text detection", TEXT_PAGE),
    (r"picodet", "PicoDet", dict(crop="resize", layout="RGB", **IMAGENET)),
    (r"pp-?lcnet|pp-?hgnet|swin_?transformer", "PaddleClas", CLASSIFIER),
)
PATH_PARTS = 3  # of a model's path, from its end, in which a family's name is looked for


def preprocessing(model_dir: str) -> Optional[Tuple[Dict[str, Any], str]]:
    """Keys of the ``Data`` section that fit a model, and who says so.

    Args:
        model_dir(str): directory or file prefix of the exported model.

    Returns:
        tuple: the keys, and the file or the family; or None when neither is known.

    Raises:
        ModelError: the model's own file asks for something that an image folder cannot give.
    """
    folder = model_dir if os.path.isdir(model_dir) else os.path.dirname(model_dir) or "."
    for name in FILES:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            found = _from_file(path)
            if found:
                return found, path
    named = "/".join(os.path.abspath(model_dir).lower().split(os.sep)[-PATH_PARTS:])
    return next(((dict(keys), family) for pattern, family, keys in FAMILIES
                 if re.search(pattern, named)), None)


def _from_file(path: str) -> Dict[str, Any]:
    try:
        raw = read_sections(path, FILES)[0]
    except ConfigError as error:
        raise ModelError(f"the model's own {error}") from error
    steps = list(_steps(raw))
    keys: Dict[str, Any] = {}
    try:
        for name, step in steps:
            if name in _READERS:
                keys.update(_READERS[name](step))
    except (TypeError, ValueError, ZeroDivisionError, AttributeError, IndexError) as error:
        raise ModelError(f"'{path}': the step {name} cannot be understood ({error}): give the "
                         "settings of Data yourself, in a recipe of `paddle-mrecg init`") from error
    if keys and "mean" not in keys:
        keys.update(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])
    if any(name == "DetResizeForTest" for name, _ in steps):
        keys = {**TEXT_PAGE, **keys}
    if any(name in ("CropImage", "RecResizeImg") for name, _ in steps):
        return keys
    return keys and {"crop": "resize", **keys}


def _steps(raw: Dict) -> List[Tuple[str, Dict]]:
    """Name and arguments of every step in front of the network, in order."""
    for section in ("PreProcess", "Preprocess", "Deploy"):
        found = raw.get(section)
        if isinstance(found, dict):
            found = found.get("transform_ops") or found.get("transforms")
        for step in found if isinstance(found, list) else ():
            if isinstance(step, dict) and "type" in step:
                yield str(step["type"]), step
            elif isinstance(step, dict):
                yield from ((str(k), v or {}) for k, v in step.items())


def _number_from_text(value) -> float:
    """A number, also one that is written as ``1./255.``; never evaluated."""
    if isinstance(value, str):
        parts = [Fraction(part.strip().rstrip(".") or "0") for part in value.split("/")]
        return float(parts[0] / parts[1]) if len(parts) == 2 else float(parts[0])
    return float(value)


def _pair(value) -> List[int]:
    """Height and width."""
    values = list(value) if isinstance(value, (list, tuple)) else [value, value]
    return [int(values[0]), int(values[-1])]


def _decode(step) -> Dict:
    mode = str(step.get("img_mode", "RGB" if step.get("to_rgb", True) else "BGR")).upper()
    return dict(layout=mode if mode in ("RGB", "BGR", "GRAY") else "RGB")


def _normalize_step(step) -> Dict:
    keys = dict(mean=[float(v) for v in step.get("mean", IMAGENET["mean"])],
                std=[float(v) for v in step.get("std", IMAGENET["std"])])
    if step.get("norm_type") == "none":
        keys.update(mean=[0.0] * 3, std=[1.0] * 3)
    if not step.get("is_scale", True):
        keys["scale"] = 1.0
    elif step.get("scale") is not None:
        keys["scale"] = _number_from_text(step["scale"])
    return keys


def _half_normalize(step) -> Dict:
    return dict(mean=[float(v) for v in step.get("mean", HALF["mean"])],
                std=[float(v) for v in step.get("std", HALF["std"])])


def _resize(step) -> Dict:
    keys: Dict[str, Any] = {}
    if step.get("resize_short"):
        keys["resize_short"] = int(step["resize_short"])
    size = step.get("size") or step.get("target_size")
    if size:
        keys.update(input_shape=[3, *_pair(size)],
                    crop="pad" if step.get("keep_ratio") else "resize")
    return keys


def _crop(step) -> Dict:
    return dict(input_shape=[3, *_pair(step.get("size", 224))], crop="center")


def _text_line(step) -> Dict:
    shape = [int(v) for v in step.get("image_shape", [3, 48, 320])]
    return dict(TEXT_LINE, input_shape=shape)


def _text_page(step) -> Dict:
    shape = step.get("image_shape")
    return dict(input_shape=[3, *_pair(shape)]) if shape else {}


_READERS = {"DecodeImage": _decode, "NormalizeImage": _normalize_step, "Normalize": _half_normalize,
            "ResizeImage": _resize, "Resize": _resize, "LetterBoxResize": _resize,
            "CropImage": _crop, "RecResizeImg": _text_line, "DetResizeForTest": _text_page}
