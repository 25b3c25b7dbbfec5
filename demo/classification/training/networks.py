# SPDX-License-Identifier: Apache-2.0
"""Classifiers by name: those of ``paddle.vision.models``, the CIFAR ResNets, and mobile
networks for 32x32 pixels.
"""
from typing import Callable, Dict, List, Optional

import numpy as np
import paddle
from paddle import nn, vision

from demo.classification.cifar_resnet import DEPTHS, CifarResNet
from paddle_mrecg.config.schema import did_you_mean
from paddle_mrecg.errors import ConfigError

KEPT = 2  # halvings that are left out
# MobileNetV3's 0.99 forgets the start of a short training only after epochs
BATCH_NORM_MOMENTUM = 0.9


def cifar_mobilenet_v2(num_classes: int, scale: float = 0.25) -> nn.Layer:
    """MobileNetV2 for small images, see ``_for_small_images``."""
    return _for_small_images(vision.models.mobilenet_v2(scale=scale, num_classes=num_classes))


def cifar_mobilenet_v3_small(num_classes: int, scale: float = 0.5) -> nn.Layer:
    """MobileNetV3-small for small images, see ``_for_small_images``."""
    return _for_small_images(vision.models.mobilenet_v3_small(scale=scale, num_classes=num_classes))


def _for_small_images(network: nn.Layer) -> nn.Layer:
    """Adapt a network with five halvings to 32x32 pixels.

    The last ``KEPT`` convolutions with stride 2 keep the size of their input, so that 4x4 pixels
    are left at the end. With one pixel left MobileNetV2 hardly learns (14 % after 300 steps of 64),
    and keeping size at the front costs more time.
    """
    halving = [layer for layer in network.sublayers()
               if isinstance(layer, nn.Conv2D) and layer._stride[0] == 2]
    for layer in halving[-KEPT:]:
        layer._stride = [1, 1]
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._momentum = BATCH_NORM_MOMENTUM
        elif isinstance(layer, nn.Conv2D) and layer._groups > 1:
            # Paddle's default counts all channels as inputs of a depthwise filter: its weights
            # start sqrt(channels) times too small, and behind a batch norm the learning rate acts
            # as if it were channels times larger.
            nn.initializer.KaimingNormal(fan_in=int(np.prod(layer.weight.shape[1:])))(layer.weight)
    return network


OURS: Dict[str, Callable] = {
    "cifar_mobilenet_v2": cifar_mobilenet_v2,
    "cifar_mobilenet_v3_small": cifar_mobilenet_v3_small,
    **{f"cifar_resnet{depth}": lambda num_classes, depth=depth: CifarResNet(depth, num_classes)
       for depth in DEPTHS},
}


def names() -> List[str]:
    """Every name that ``build`` knows."""
    return sorted([*OURS, *(name for name in vision.models.__all__ if name.islower())])


def build(name: str, num_classes: int, scale: Optional[float] = None) -> nn.Layer:
    """A fresh classifier.

    Args:
        name(str): one of ``names()``.
        num_classes(int): outputs.
        scale(float, optional): factor on the numbers of channels, of MobileNets.
            Default: None, the network's own.

    Raises:
        ConfigError: no such network, or it has no ``scale``.
    """
    if name not in names():
        raise ConfigError(f"no network '{name}'.{did_you_mean(name, names())} There are "
                          f"{', '.join(names())}")
    options = {} if scale is None else dict(scale=scale)
    try:
        return (OURS.get(name) or getattr(vision.models, name))(num_classes=num_classes, **options)
    except TypeError as error:
        if scale is None:
            raise
        raise ConfigError(f"network '{name}' has no scale: leave out "
                          "--scale, or take a MobileNet") from error


def same_names():
    """A context in which parameters get the names that they get in a fresh process:
    optimizer states go by them.
    """
    return paddle.utils.unique_name.guard()
