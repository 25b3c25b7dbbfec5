# SPDX-License-Identifier: Apache-2.0
"""The demo's networks as exported inference models."""
from typing import Callable, Dict, Tuple

from demo import sources
from demo.classification import cifar_resnet, mobilenet_v1
from demo.exports import exported


def _cifar_resnet(depth: int) -> Callable:
    def build():
        path = sources.shared_data(f"weights/cifar10-resnet/cifar10_resnet{depth}.npz")
        return cifar_resnet.load_weights(cifar_resnet.CifarResNet(depth), path)
    return build


def _mobilenet_v1():
    path = sources.shared_data("weights/mobilenet_v1/mobilenet_v1_1.0_224_folded.npz")
    return mobilenet_v1.load_weights(mobilenet_v1.MobileNetV1(), path)


# name -> (builder, input shape without batch)
LAYERS: Dict[str, Tuple[Callable, Tuple[int, ...]]] = {
    **{f"cifar_resnet{depth}": (_cifar_resnet(depth), (3, 32, 32))
       for depth in cifar_resnet.DEPTHS},
    "mobilenet_v1": (_mobilenet_v1, (3, 224, 224)),
}
NAMES = sorted([*LAYERS, "pplcnetv2"])


def inference_model(name: str, cache_dir: str = "cache/models") -> str:
    """Directory of the exported model; a Layer is exported once per Paddle version.

    Args:
        name(str): one of ``NAMES``.
        cache_dir(str, optional): where exports are kept. Default: ``cache/models``.

    Raises:
        sources.Absent: the weights or the package are not here.
    """
    if name not in LAYERS:
        return sources.model_dir(name)
    build, shape = LAYERS[name]
    return exported(name, lambda: (build(), shape), cache_dir)
