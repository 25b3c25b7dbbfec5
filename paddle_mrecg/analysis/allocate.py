# SPDX-License-Identifier: Apache-2.0
"""Bits for every layer, so that the output's error is smallest at a given average.

Alone quantized, each layer has a measured error at every number of bits; errors of several layers
add up, nearly. Bits are given out greedily, each to the layer where a bit of storage takes away
most error, which is optimal on the lower convex hull of the curves.
"""
import dataclasses
from typing import Callable, Dict, Mapping

import numpy as np

from ..errors import ConfigError
from ..post import calibrate
from ..post.network_state import NetworkState
from ..post.prepare import Prepared
from ..post.scheme import Scheme
from . import BITS
from .sensitivity import Sensitivity

ErrorCurve = Mapping[int, float]  # bits -> error


def error_curves(prepared: Prepared, samples: Mapping[str, np.ndarray],
                 progress: Callable = None) -> Dict[str, ErrorCurve]:
    """Error of the output with each weight alone on each grid, rounded to nearest.

    Args:
        prepared(Prepared): a job; not changed.
        samples(dict): input name -> ``[N, ...]``.
        progress(callable, optional): called once per layer and number of bits. Default: None.

    Returns:
        dict: weight -> bits -> error over variance of the output.
    """
    network = prepared.network
    curves: Dict[str, Dict[int, float]] = {n: {} for n in network.scheme.weights}
    for bits in BITS:
        specs = {n: dataclasses.replace(s, bits=bits, narrow=s.symmetric and bits == 8)
                 for n, s in network.scheme.weights.items()}
        scheme = Scheme(specs, network.scheme.activations, network.scheme.quantize_shared)
        encodings = calibrate.weight_encodings(network.graph, scheme, prepared.config.quant_post)
        state = NetworkState.nearest(network.graph.params, encodings,
                                     prepared.state.activation_encodings)
        changed = dataclasses.replace(network, scheme=scheme, biases={})
        found = Sensitivity(changed, state, samples).weight_errors(progress)
        for name, error in found.items():
            curves[name][bits] = error
    return {n: c for n, c in curves.items() if c}


def allocate(curves: Mapping[str, ErrorCurve], elements: Mapping[str, int],
             average: float) -> Dict[str, int]:
    """Bits of every layer, whose mean over all weights is at most ``average``.

    Args:
        curves(dict): weight -> bits -> error.
        elements(dict): weight -> number of its values.
        average(float): bits per value.

    Raises:
        ConfigError: the average is below the fewest bits.

    Examples:
        >>> curves = {"a": {2: 1.0, 4: 0.1, 8: 0.0}, "b": {2: 0.2, 4: 0.1, 8: 0.0}}
        >>> allocate(curves, {"a": 10, "b": 10}, 3.0)
        {'a': 4, 'b': 2}
    """
    chosen = {n: min(c) for n, c in curves.items()}
    left = (average - min(chosen.values())) * sum(elements[n] for n in curves)
    if left < 0:
        raise ConfigError(f"{average:g} bits on average: give at least {min(chosen.values())}")
    while True:
        steps = [(_gain(curves[n], chosen[n], bits) / elements[n], n, bits)
                 for n in curves for bits in curves[n]
                 if bits > chosen[n] and (bits - chosen[n]) * elements[n] <= left]
        best = max(steps, default=(0.0, "", 0))
        if best[0] <= 0:
            return chosen
        _, name, bits = best
        left -= (bits - chosen[name]) * elements[name]
        chosen[name] = bits


def average_bits(bits: Mapping[str, int], elements: Mapping[str, int]) -> float:
    """Mean bits per weight value."""
    return sum(bits[n] * elements[n] for n in bits) / sum(elements[n] for n in bits)


def _gain(curve: ErrorCurve, now: int, then: int) -> float:
    """Error that each further bit takes away."""
    return (curve[now] - curve[then]) / (then - now)
