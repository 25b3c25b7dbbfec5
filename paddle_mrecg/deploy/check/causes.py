# SPDX-License-Identifier: Apache-2.0
"""Known reasons why a runtime computes a layer differently, and what to do. Each was measured."""
import dataclasses
from typing import Mapping, Optional

import numpy as np

from ...compat import paddle_version
from ...graph.graph import Graph, Op
from ..lite.x86 import RESTS, has_rest
from .cut import Layer


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why, what to do, and whether ARM devices are free of it."""

    text: str
    cure: str
    x86_only: bool = False


UNKNOWN = Cause("no known cause",
                "report the model; keep the layer in float with QuantPost.skip meanwhile")
OPTIMIZATION = Cause("Paddle Inference's graph optimization, without which it computes what was "
                     "simulated", "deploy with switch_ir_optim(False), or on another runtime")


def likely_cause(layer: Layer, graph: Graph, runtime: str,
                 feed: Mapping[str, np.ndarray]) -> Cause:
    """The most likely cause.

    Args:
        layer(Layer): the layer that differs.
        graph(Graph): the cut program.
        runtime(str): of ``runtimes.RUNTIMES``.
        feed(dict): what it was run on, by input.
    """
    if runtime == "lite":
        return _on_lite(layer, graph, feed)
    for op in layer.ops:
        cause = _paddles_own(op)
        if cause:
            return cause
    if any(op.type in ("scale", "clip") for op in layer.ops):
        return Cause("a grid with a zero point or without sign is written as plain arithmetic, "
                     "whose rounding a fusion may move",
                     "quantize with Global.target=paddle_lite, or deploy this program with ir "
                     "optimization off")
    return UNKNOWN


def _paddles_own(op: Op) -> Optional[Cause]:
    """What Paddle Inference itself computes differently from Paddle's dygraph."""
    attrs = op.attrs
    if op.type == "pool2d" and attrs.get("pooling_type") == "avg" and attrs.get("ceil_mode") and (
            not attrs.get("exclusive", True)):
        return Cause("average pooling with ceil_mode=True and exclusive=False: oneDNN divides by "
                     "another number of pixels at the border than Paddle's own kernel",
                     "pad the input instead of ceil_mode, or deploy with oneDNN off "
                     "(config.disable_mkldnn())")
    if op.type in ("pad3d", "pad2d") and paddle_version() < "3":
        return Cause("padding in front of a convolution: Paddle 2.6's graph optimization takes it "
                     "for a padding of zeros on both sides",
                     "deploy with Paddle 3, or switch_ir_optim(False), or pad in the convolution")
    return None


def _on_lite(layer: Layer, graph: Graph, feed) -> Cause:
    read = [op.input("X") for op in layer.ops if op.type == "quantize_linear"]
    # where the program says the size, it is written so that it does not happen
    if any(has_rest(feed[n].shape) and not has_rest(graph.tensors[n].shape)
           for n in read if n in feed):
        return Cause(f"Paddle Lite's x86 code {RESTS}, and the program leaves sizes free",
                     "nothing for ARM; for x86 export the float model with fixed sizes", True)
    return UNKNOWN
