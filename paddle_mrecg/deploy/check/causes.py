# SPDX-License-Identifier: Apache-2.0
"""Known reasons why a runtime computes a layer differently, and what to do. Each was measured."""
import dataclasses

import numpy as np

from ...graph.graph import Graph
from .cut import Layer

SAFE_CODE = 64  # 255 * 64 * 2 < 2^15: two products fit the 16-bit sums of x86's u8 x s8 instruction


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why, what to do, and whether ARM devices are free of it."""

    text: str
    cure: str
    x86_only: bool = False


UNKNOWN = Cause("no known cause",
                "report the model; keep the layer in float with QuantPost.skip meanwhile")


def explain(layer: Layer, graph: Graph, runtime: str) -> Cause:
    """The most likely cause.

    Args:
        layer(Layer): the layer that differs.
        graph(Graph): the cut program.
        runtime(str): of ``runtimes.RUNTIMES``.
    """
    if runtime == "lite":
        return _on_lite(layer, graph)
    if any(op.type in ("scale", "clip") for op in layer.ops):
        return Cause("a grid with a zero point or without sign is written as plain arithmetic, "
                     "whose rounding a fusion may move",
                     "quantize with Global.target=paddle_lite, or deploy this program with ir "
                     "optimization off")
    return UNKNOWN


def _on_lite(layer: Layer, graph: Graph) -> Cause:
    top = max((int(np.abs(graph.params[n].astype(np.int32)).max()) for n in layer.weights
               if graph.params[n].dtype == np.int8),
              default=0)
    if top > SAFE_CODE:
        return Cause(f"weight codes up to {top}: x86 int8 instructions add two products in 16 bits "
                     "and saturate beyond 64",
                     "nothing for ARM, which adds in 32 bits; for x86 give the layer 7 bits "
                     "(QuantPost.overrides)", True)
    return UNKNOWN
