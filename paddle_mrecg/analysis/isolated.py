# SPDX-License-Identifier: Apache-2.0
"""Round every layer as if it alone were quantized: its input comes from the float network."""
from typing import Dict, Iterable

import numpy as np

from ..post.network_state import NetworkState
from ..post.solved_rounding import LayerWalk
from ..post.streams import Stream
from ..report.progress import Progress


class _FloatInputs(Stream):
    """The float stream again, in place of a quantized one: no layer hands its error on."""

    def __init__(self, stream: Stream):
        self.store, self._stream = stream.store, stream

    @property
    def values(self) -> Dict[str, np.ndarray]:
        return self._stream.values

    def advance(self, new: Dict[str, np.ndarray], still_needed: Iterable[str]):
        """The float stream advances by itself."""


def isolated_rounding(prepared) -> NetworkState:
    """Codes and biases of every layer for the case that all others stay float.

    Args:
        prepared(Prepared): the job; its settings say whether roundings are solved and biases
            corrected. Its state is not changed.

    Returns:
        NetworkState: the same grids; each layer's codes and bias make up for its own error alone.
    """
    settings = prepared.config.quant_post
    if settings.rounding == "nearest" and not settings.bias_correction:
        return prepared.state
    walk = LayerWalk(prepared.network, prepared.state, settings.rounding)
    walk.quant_stream = _FloatInputs(walk.float_stream)
    with Progress("Single-layer solve", len(prepared.layers), "layer") as bar:
        return walk.run(prepared.layers, bar.update)
