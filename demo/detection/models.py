# SPDX-License-Identifier: Apache-2.0
"""The detectors as exported inference models."""
from pathlib import Path
from typing import List

from demo import sources
from demo.detection import yolo_fastest
from demo.exports import exported

YOLO = {"yolo_fastest": "yolo-fastest-1.1", "yolo_fastest_xl": "yolo-fastest-1.1-xl"}
PACKAGED = ("picodet", "ppocr_det")
NAMES = (*YOLO, *PACKAGED)


def _darknet(name: str, suffix: str) -> Path:
    return sources.shared_data("weights/yolo-fastest-1.1") / (YOLO[name] + suffix)


def heads(name: str) -> List[yolo_fastest.Head]:
    """What decoding the outputs of one of ``YOLO`` needs."""
    return yolo_fastest.read_heads(_darknet(name, ".cfg"))


def layer(name: str):
    """The network of one of ``YOLO`` with its weights, and the shape of one sample."""
    net = yolo_fastest.load_weights(yolo_fastest.YoloFastest(_darknet(name, ".cfg")),
                                    _darknet(name, ".weights"))
    return net, net.input_shape


def inference_model(name: str, cache_dir: str = "cache/models") -> str:
    """Directory of the exported model; a Layer is exported once per Paddle version.

    Args:
        name(str): one of ``NAMES``.
        cache_dir(str, optional): where exports are kept. Default: ``cache/models``.

    Raises:
        sources.Absent: the weights or the package are not here.
    """
    if name not in YOLO:
        return sources.model_dir(name)
    return exported(name, lambda: layer(name), cache_dir)
