# SPDX-License-Identifier: Apache-2.0
"""Blocks that train as parallel branches and are deployed as one convolution (RepVGG, PP-LCNetV3).

Their host merges the branches when it exports. Quantized branches would be merged to a float
convolution then, and nothing that was learned would be left: branches are merged first.
"""
from typing import List, Tuple

import numpy as np
import paddle
from paddle import nn

from ..deploy.predictor import last_line
from ..errors import kind_of, listed
from ..report.progress import get_logger
from .layers import copied

# Methods that merge a block's branches, in PaddleOCR and PaddleVideo, PaddleClas, PaddleDetection
# and PaddleYOLO, and in RepVGG's own code.
MERGING = ("rep", "re_parameterize", "convert_to_deploy", "switch_to_deploy")
SIDE = 16  # pixels, of the input on which a block is tried
MERGED_TOLERANCE = 1e-3  # of the largest output


class Unmergeable(Exception):
    """Why the branches of a block stay."""


def merge_branches(model) -> List[Tuple[str, nn.Layer]]:
    """Let all blocks merge their branches, in place, and remove what no longer runs.

    Each is tried on a copy first: it stays as it is where the copy computes something else
    afterwards, with a warning, and where its branches are merged already.

    Args:
        model(paddle.nn.Layer): float, with the weights that training starts from.

    Returns:
        list: names of the blocks that were merged, and their new convolutions.
    """
    merged, inner = [], set()
    for name, block in list(model.named_sublayers()):
        method = next((m for m in MERGING if callable(getattr(block, m, None))), None)
        if method is None or id(block) in inner:
            continue
        try:
            idle, new = _tried(copied(block), method)
        except Unmergeable as reason:
            get_logger().warning("the branches of '%s' stay: %s() %s; merge them before "
                                 "quant_aware_prepare, if it is to be deployed as one convolution",
                                 name, method, reason)
            continue
        if new:
            inner.update(id(layer) for layer in block.sublayers())
            _merge(block, method, idle, new)
            merged += [(f"{name}.{child}", block._sub_layers[child]) for child in new]
    if merged:
        get_logger().info("branches that are deployed as one convolution were merged before "
                          "quantization: %s", listed([name for name, _ in merged]))
    return merged


def _tried(block, method: str) -> Tuple[List[str], List[str]]:
    """Merge the branches of a copy.

    Returns:
        tuple: names of children that ran before and do not run any more, and of those that run
            instead; both are empty where nothing changed.

    Raises:
        Unmergeable: it computes something else now, or does not run on an image.
    """
    block.eval()
    convolution = next((layer for layer in block.sublayers() if isinstance(layer, nn.Conv2D)), None)
    if convolution is None:
        return [], []
    image = paddle.to_tensor(np.random.default_rng(0).standard_normal(
        (1, convolution._in_channels, SIDE, SIDE))).astype(convolution.weight.dtype)
    want, before = _output_and_children(block, image)
    try:
        getattr(block, method)()
    except Exception:  # hosts do not expect a second call
        return [], []
    got, after = _output_and_children(block, image)
    if not after - before:
        return [], []
    largest = float(want.abs().max())
    if float((got - want).abs().max()) > MERGED_TOLERANCE * max(largest, 1e-6):
        raise Unmergeable("changes what the block computes")
    return sorted(before - after), sorted(after - before)


def _output_and_children(block, image):
    """Its output, and names of the children of which something ran.

    Raises:
        Unmergeable: it takes more than an image, or returns more than a tensor.
    """
    ran = set()
    hooks = [layer.register_forward_post_hook(
        lambda *_, name=name: ran.add(name.split(".")[0]))
        for name, layer in block.named_sublayers() if not layer._sub_layers]
    try:
        with paddle.no_grad():
            output = block(image)
    except Exception as error:  # whatever a block raises that takes more
        raise Unmergeable(f"could not be tried on an image ({last_line(error)})") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(output, paddle.Tensor):
        raise Unmergeable(f"could not be tried (the block returns {kind_of(output)})")
    return output, ran


def _merge(block, method: str, idle: List[str], new: List[str]):
    """``new`` children take over from ``idle`` ones whether and how fast they train."""
    gone = [p for name in idle for p in block._sub_layers[name].parameters()]
    getattr(block, method)()
    for name in idle:
        block._sub_layers.pop(name, None)  # PaddleDetection has removed them itself
    for layer in (block._sub_layers[name] for name in new):
        layer.training = block.training
        for parameter in layer.parameters():
            alike = [p for p in gone if (p.ndim > 1) == (parameter.ndim > 1)]
            parameter.stop_gradient = bool(gone) and all(p.stop_gradient for p in gone)
            parameter.optimize_attr["learning_rate"] = max(
                (p.optimize_attr["learning_rate"] for p in alike), default=1.0)
