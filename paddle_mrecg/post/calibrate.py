# SPDX-License-Identifier: Apache-2.0
"""Find the grids of all weights and activations."""
from typing import Dict

import numpy as np
import paddle

from ..config import QuantPost
from ..errors import DataError, ModelError
from ..graph.graph import Graph, Op, activation_name, weight_name, ops_behind
from ..grids.affine import Encoding
from ..grids.observers import METHODS, ActivationObserver, weight_encoding
from .choose_ranges import chosen_ranges, scored_batches
from .forward import forward
from .scheme import Scheme
from .unit_loss import MEASURE_CHUNK

COARSE = 0.1  # noise over signal, in power


def refuse_broken_weights(graph: Graph, scheme: Scheme):
    """Name the weight, before a layer computes with it and an activation gets the blame.

    Raises:
        ModelError: a weight that is to be quantized holds NaN or Inf.
    """
    for name in scheme.weights:
        if not np.isfinite(graph.params[name]).all():
            raise ModelError(f"weight '{name}' holds NaN or Inf: export the model again from a "
                             "checkpoint without them")


def weight_encodings(graph: Graph, scheme: Scheme, config: QuantPost) -> Dict[str, Encoding]:
    """The grid of every quantized weight.

    Raises:
        ModelError: a weight holds NaN or Inf.
    """
    encodings = {}
    for name, spec in scheme.weights.items():
        try:
            encodings[name] = weight_encoding(graph.params[name], spec, config.weight_observer,
                                              config.percentile)
        except DataError as error:
            raise ModelError(f"weight '{name}': {error}") from error
    return encodings


def activation_encodings(graph: Graph, scheme: Scheme, samples: Dict[str, np.ndarray],
                         config: QuantPost, progress=None, seed: int = 0) -> Dict[str, Encoding]:
    """The grid of every quantized activation, from the float network's values.

    Args:
        graph(Graph): the folded graph.
        scheme(Scheme): which activations to observe.
        samples(dict): input name -> ``[N, ...]``.
        config(QuantPost): observer settings; the first ``num_observe`` samples are used.
        progress(callable, optional): called ``calibration_steps`` times. Default: None.
        seed(int, optional): of the rows by which ``output_error`` compares ranges. Default: 0.

    Raises:
        DataError: an activation holds NaN or Inf.
    """
    by_error = config.activation_observer == "output_error"
    observers = {n: ActivationObserver(s.bits, s.symmetric,
                                       METHODS[0] if by_error else config.activation_observer,
                                       config.percentile,
                                       allow_unsigned=s.unsigned_allowed)
                 for n, s in scheme.activations.items()}
    count = min(config.num_observe, len(next(iter(samples.values()))))
    pending = ops_behind(graph.ops, observers)
    params = {n: paddle.to_tensor(v) for n, v in graph.params.items()}
    for start in range(0, count, MEASURE_CHUNK):
        part = slice(start, min(start + MEASURE_CHUNK, count))
        _observe(pending,
                 dict(params, **{n: paddle.to_tensor(v[part]) for n, v in samples.items()}),
                 observers)
        if progress:
            progress()
    if by_error:
        return chosen_ranges(graph, scheme, samples, observers, count, seed, progress)
    return {n: observer.encoding() for n, observer in observers.items()}


def calibration_steps(config: QuantPost, num_samples: int) -> int:
    """How often ``activation_encodings`` reports progress: once per batch that it runs."""
    observed = min(config.num_observe, num_samples)
    scored = scored_batches(observed) if config.activation_observer == "output_error" else 0
    return -(-observed // MEASURE_CHUNK) + scored


def coarse_inputs(graph: Graph, scheme: Scheme, samples: Dict[str, np.ndarray],
                  encodings: Dict[str, Encoding]) -> Dict[str, float]:
    """Depthwise convolutions whose input one 8-bit step cannot serve: weight -> rounding noise
    in a channel, on average.

    Channels behind a depthwise convolution see one channel each. Where a few channels are far
    larger than the others, the step follows them, and the others go on as noise, which no rounding
    of weights mends. The noise of a channel is its share ``step^2 / 12`` of the channel's mean
    square, at most 1; listed are means of more than ``COARSE``.

    Args:
        graph(Graph): the folded graph.
        scheme(Scheme): what is quantized.
        samples(dict): input name -> a few samples.
        encodings(dict): the grids of ``activation_encodings``.
    """
    ops = [op for op in graph.ops if scheme.is_quantized(op) and _depthwise(op, graph)]
    inputs = {weight_name(op, graph): activation_name(op) for op in ops}
    powers = {n: _ChannelPower() for n in inputs.values()
              if n in encodings and encodings[n].spec.bits >= 8}
    if not powers:
        return {}
    values = {n: paddle.to_tensor(v) for n, v in (*graph.params.items(), *samples.items())}
    _observe(ops_behind(graph.ops, powers), values, powers)
    noise = {n: power.noise(float(encodings[n].scale)) for n, power in powers.items()}
    return {weight: noise[n] for weight, n in inputs.items() if noise.get(n, 0.0) > COARSE}


def _depthwise(op: Op, graph: Graph) -> bool:
    return op.attrs.get("groups", 1) == graph.params[weight_name(op, graph)].shape[0] > 1


class _ChannelPower:
    """Observes the mean square of every channel, of one batch."""

    def update(self, batch):
        self._mean = np.square(batch, dtype=np.float64).mean((0, 2, 3))

    def noise(self, step: float) -> float:
        """Share of rounding noise in a channel, mean over channels."""
        return float(np.minimum(step * step / 12.0
                                / np.maximum(self._mean, np.finfo(np.float64).tiny), 1.0).mean())


def _observe(ops, values, observers):
    for name in [n for n in observers if n in values]:
        _update(observers[name], name, values[name])
    for op, present in forward(ops, values):
        for name in op.output_names:
            if name in observers:
                _update(observers[name], name, present[name])


def _update(observer, name, value):
    try:
        observer.update(value.numpy())
    except DataError as error:
        raise DataError(f"activation '{name}': {error}") from error
