# SPDX-License-Identifier: Apache-2.0
"""Why a layer is sensitive to quantization, and what helps."""
from typing import List, Mapping

import numpy as np

from ..graph.graph import Graph
from ..grids.affine import Encoding, fake_quantize
from ..post.calibrate import COARSE
from ..post.network_state import NetworkState
from .inputs import InputStatistics
from .sensitivity import LayerEffect

OUTLIER = 8.0  # largest channel over the median one, from which on it sets the step for all
TAIL = 20.0  # largest value over the standard deviation; of a normal distribution it is 4 to 5
FINE_BITS = 8  # of what had too few
COARSE_WEIGHT = 0.01  # rounding noise of a weight over its power, about that of 5 bits


def explain_effects(effects: List[LayerEffect], graph: Graph, state: NetworkState,
                    inputs: Mapping[str, InputStatistics]):
    """Fill in ``cause`` and ``suggestion`` of the layers whose effect is worth it.

    Args:
        effects(list[LayerEffect]): measured.
        graph(Graph): the folded graph.
        state(NetworkState): grids.
        inputs(dict): activation -> what it was like.
    """
    worth = {e.weight for e in worst_layers(effects)}
    for effect in [e for e in effects if e.weight in worth]:
        if effect.on["activations"] > effect.on["weights"]:
            found = _activation_cause(effect, state.activation_encodings[effect.activation],
                                      inputs[effect.activation])
        else:
            found = _weight_cause(effect, graph, state)
        effect.cause, effect.suggestion = found


def worst_layers(effects: List[LayerEffect], share: float = 0.8) -> List[LayerEffect]:
    """The fewest layers whose errors make up ``share`` of the sum over all, worst first."""
    ranked = ranking(effects)
    total, found = sum(e.on["both"] for e in ranked), []
    for effect in ranked:
        if not total > 0 or sum(e.on["both"] for e in found) >= share * total:
            break
        found.append(effect)
    return found


def ranking(effects: List[LayerEffect]) -> List[LayerEffect]:
    """Worst first, by the error with the layer alone quantized."""
    return sorted(effects, key=lambda e: e.on["both"], reverse=True)


def _activation_cause(effect: LayerEffect, encoding: Encoding, found: InputStatistics):
    step = float(encoding.scale)
    tiny = np.finfo(np.float64).tiny
    noise = np.minimum(step * step / 12 / np.maximum(found.power, tiny), 1.0).mean()
    typical = max(float(np.median(found.largest)), tiny)
    ratio = float(found.largest.max()) / typical
    spread = float(found.largest.max()) / max(float(np.sqrt(found.power.mean())), tiny)
    low, high = (float(v) for v in encoding.range)
    keep = "keep the layer float (skip)"
    if "depthwise" in effect.op_type and noise > COARSE:
        return (f"depthwise on unequal channels: one step for all is {100 * noise:.0f} % noise in "
                "a channel", f"equalize the channels, or {keep}")
    if ratio > OUTLIER and noise > COARSE:
        return (f"outlier channels in the input: the largest is {ratio:.0f} times the median",
                f"equalize the channels, or {keep}")
    if found.largest.max() > 1.5 * max(-low, high):
        return (f"range: the input reaches {found.largest.max():.3g}, the grid ends at "
                f"{max(-low, high):.3g}", "activation_observer: min_max, or " + keep)
    if spread > TAIL:
        return (f"range: the largest input is {spread:.0f} times the typical one",
                "activation_observer: percentile, or " + keep)
    if effect.activation_bits < FINE_BITS:
        return (f"few levels: {effect.activation_bits}-bit input", f"activation_bits: {FINE_BITS}")
    return ("the output depends strongly on this input", keep)


def _weight_cause(effect: LayerEffect, graph: Graph, state: NetworkState):
    weight, encoding = graph.params[effect.weight], state.weight_encodings[effect.weight]
    axis = encoding.spec.axis
    rows = np.moveaxis(weight, axis or 0, 0).reshape(weight.shape[axis or 0], -1)
    error = np.square(fake_quantize(weight, encoding) - weight, dtype=np.float64).sum()
    noise = error / max(float(np.square(weight, dtype=np.float64).sum()), 1e-300)
    largest = np.abs(rows).max(1)
    ratio = float(largest.max() / max(float(np.median(largest)), 1e-30))
    spread = float((largest / np.maximum(rows.std(1), 1e-30)).max())
    finer = (f"weight_bits: {FINE_BITS}" if effect.weight_bits < FINE_BITS
             else "keep the layer float (skip)")
    if axis is None and ratio > OUTLIER:
        return (f"unequal weight channels: the largest is {ratio:.0f} times the median",
                "weight_per_channel: true, or equalize the channels")
    if spread > TAIL and noise > COARSE_WEIGHT:
        return f"outlier weights: the largest is {spread:.0f} times the typical one", finer
    if noise > COARSE_WEIGHT:
        return f"few levels: rounding is {100 * noise:.2g} % noise in the weight", finer
    return "the output depends strongly on this weight", finer
