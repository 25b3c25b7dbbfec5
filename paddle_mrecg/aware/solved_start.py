# SPDX-License-Identifier: Apache-2.0
"""Training that starts where post-training ends: ``QuantAware.rounding: solve``.

At few bits a network whose weights were rounded to nearest answers at random, and training has to
find its way back first. Post-training's linear solve (``post/solve.py``) rounds every weight
for the input that its layer gets in the quantized network. Here it runs on the grids of the
quanters, and the float weights are moved just far enough that rounding to nearest gives its codes.
What remains of a layer's mean goes into the running mean of the batch norm behind it, or its bias.
"""
import contextlib
import inspect
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import paddle

from ..config.post import Global
from ..data.batches import collect_samples
from ..errors import ModelError, MrecgError, listed, numbered
from ..graph.fold import fold
from ..graph.from_layer import graph_from_layer
from ..graph.graph import WEIGHT_SLOTS, Graph, Op, activation_name, channel_axis, weight_name
from ..graph.partition import modules_of
from ..graph.probe import Probe, probe
from ..grids.affine import Encoding, QuantSpec, along_axis
from ..post.layer_biases import add_missing_biases, biases_of
from ..post.memory import store_within
from ..post.network_state import NetworkState
from ..post.prepare import PROBE_SAMPLES
from ..post.scheme import Scheme
from ..post.solved_rounding import LayerWalk, walked
from ..post.walk import Network
from ..report.progress import get_logger
from .fold import norms_behind
from .layers import copied, forward_replaced
from .look_ahead import Layers, batch_free_spec

MOST_SAMPLES = 256  # of the calibration data that the solve looks at
INSIDE = 0.1  # a moved weight stays this far inside of its bin, in half steps
ONE_FACTOR = 1e-3  # of the largest weight: how closely folding must have been a factor per channel


class _Place(NamedTuple):
    """A quantized layer in the graph: its op; per output channel what folding multiplied
    ``layer.float_weight()`` by, and what the layer multiplies its parameter by, which is a batch
    norm that it folds; and its quanter's grid for the folded weight.
    """

    name: str
    layer: paddle.nn.Layer
    op: Op
    factor: np.ndarray
    own: np.ndarray
    grid: Encoding

    @property
    def weight(self) -> str:
        """The parameter's name, in the model as in the graph."""
        return self.layer.weight.name


class SolvedStart:
    """The float model as a graph, before its layers are quantized; ``apply`` when they are.

    Args:
        model(paddle.nn.Layer): a float model in evaluation mode.
        layers(list[tuple]): name and layer of those that will be quantized.
        run(callable): runs the model on the first batch.

    Raises:
        ModelError: the model cannot be exported, or is not called with tensors alone.
    """

    def __init__(self, model, layers: Layers, run: Callable):
        self._model, self._feeds, self._spec = model, [], None
        self._signature = inspect.signature(model.forward)  # quantized additions wrap it
        with self._noting():
            run()
        self._feeds.clear()
        try:
            # Paddle 2.6 leaves the layers of what it traced changed
            graph = graph_from_layer(copied(model), self._spec)
        except MrecgError as error:
            raise ModelError("QuantAware.rounding: solve reads the model as it is exported, and "
                             f"that fails: {error}; or set rounding: nearest") from error
        self._graph = fold(graph)
        self._norms = norms_behind(model, [layer for _, layer in layers], run)[0]
        self._room = store_within(Global().memory_limit_mb)

    def noting(self, runs: Iterable[Callable]) -> Iterator[Callable]:
        """``runs``, whose inputs are kept for the solve, up to ``MOST_SAMPLES``."""
        def noted(run):
            with self._noting():
                return run()
        return (lambda run=run: noted(run) for run in runs)

    @contextlib.contextmanager
    def _noting(self):
        """Within this context what the model is called with is kept."""
        real = self._model.forward

        def forward(*args, **kwargs):
            if sum(len(next(iter(f.values()))) for f in self._feeds) < MOST_SAMPLES:
                feed, self._spec = _inputs(self._signature.bind(*args, **kwargs).arguments)
                self._feeds.append(feed)
            return real(*args, **kwargs)
        with forward_replaced(self._model, forward):
            yield

    def apply(self, layers: Layers):
        """Move the weights of ``layers``, whose quanters have found their grids, to the solved
        codes; says how much that changed.
        """
        graph = self._graph
        places, left = _places(layers, graph)
        weights = {p.weight for p in places}
        add_missing_biases(graph, lambda op: weight_name(op, graph) in weights)
        samples = self._samples()
        found = probe(graph, {n: v[:PROBE_SAMPLES] for n, v in samples.items()})
        left += [p.name for p in places if p.op in found.unreached or found.is_constant(p.op)]
        places = [p for p in places if p.name not in left]
        if not places:
            raise ModelError("QuantAware.rounding: solve finds no layer whose weight is in the "
                             "exported model as it is here; set rounding: nearest")
        with contextlib.closing(self._room):
            walk = self._solved(places, found, samples)
        moved = [_moved_into(place, walk.state.codes[place.weight]) for place in places]
        for place in places:
            self._correct(place, walk)
        _say(places, left, moved, walk.output_error)

    def _samples(self) -> Dict[str, np.ndarray]:
        """What was noted, of the first one's size; the graph's inputs only."""
        graph, feeds = self._graph, self._feeds
        shapes = {n: v.shape[1:] for n, v in feeds[0].items()}
        same = [f for f in feeds if all(v.shape[1:] == shapes[n] for n, v in f.items())]
        return collect_samples([{n: f[n] for n in graph.inputs} for f in same],
                               [graph.tensors[n] for n in graph.inputs], MOST_SAMPLES, self._room)

    def _solved(self, places: List[_Place], found: Probe, samples) -> LayerWalk:
        """Both streams at the end of the network, with the codes that they led to."""
        graph = self._graph
        state = NetworkState.nearest(
            graph.params, {p.weight: p.grid for p in places},
            {activation_name(p.op): p.layer.activation_quanter.encoding() for p in reversed(places)
             if p.layer.activation_quanter is not None})
        scheme = Scheme({n: e.spec for n, e in state.weight_encodings.items()},
                        {n: e.spec for n, e in state.activation_encodings.items()},
                        quantize_shared=False)
        modules = modules_of(graph, found, scheme.is_quantized, granularity="layer")
        placed = {p.weight for p in places if self._takes_mean(p.layer)}
        biases = {w: b for w, b in biases_of(graph, scheme.is_quantized).items() if w in placed}
        network = Network(graph, scheme, [op for op in graph.ops if op not in found.unreached],
                          found.constants, samples, self._room, biases=biases,
                          one_by_one=found.one_by_one)
        return walked(network, state, modules, "solve")

    def _takes_mean(self, layer) -> bool:
        return layer in self._norms or layer.bias is not None

    def _correct(self, place: _Place, walk: LayerWalk):
        """Hand the corrected bias on: training takes a batch's mean, evaluation the running one."""
        bias = walk.network.biases.get(place.weight)
        if bias not in walk.state.biases:
            return
        change = (walk.state.biases[bias] - self._graph.params[bias]).reshape(-1)
        layer, norm = place.layer, self._norms.get(place.layer)
        factor = place.factor * place.own  # in front of what was folded behind the layer
        change = np.divide(change, factor, where=factor != 0, out=np.zeros_like(factor))
        target, sign = (layer.bias, 1.0) if norm is None else (norm._mean, -1.0)
        target.set_value((target.numpy() + sign * change).astype(target.numpy().dtype))


def _inputs(arguments: Dict[str, object]) -> Tuple[Dict[str, np.ndarray], list]:
    """What a model was called with, by name, dicts unpacked; and the specs to export it with.

    Raises:
        ModelError: something else than tensors with a batch axis.
    """
    feed, spec = {}, []
    for name, value in arguments.items():
        inside = value if isinstance(value, dict) else {name: value}
        if not all(isinstance(v, paddle.Tensor) and v.ndim for v in inside.values()):
            raise ModelError("QuantAware.rounding: solve takes models that are called with tensors "
                             f"alone, each with a batch axis, and '{name}' is something else; set "
                             "rounding: nearest")
        feed.update({n: v.numpy() for n, v in inside.items()})
        spec.append(batch_free_spec(value, name))
    return feed, spec


def _places(layers: Layers, graph: Graph) -> Tuple[List[_Place], List[str]]:
    """Layers whose weight is in the graph up to a factor per channel, and the names of others."""
    ops = {weight_name(op, graph): op for op in graph.ops if op.type in WEIGHT_SLOTS}
    places, left, seen = [], [], set()
    for name, layer in layers:
        weight = layer.weight.name
        place = _place(name, layer, ops[weight], graph.params[weight]) if weight in ops else None
        if place is None:
            left.append(name)
        elif weight not in seen:  # a shared weight is moved once
            seen.add(weight)
            places.append(place)
    return places, left


def _place(name: str, layer, op: Op, folded: np.ndarray) -> Optional[_Place]:
    """A layer's place at ``op``, whose weight is ``folded``; None where it has none."""
    axis, weight = channel_axis(op), layer.float_weight().numpy()
    factor, own = _factor(folded, weight, axis), _factor(weight, layer.weight.numpy(), axis)
    if factor is None or layer.weight_quanter.axis not in (None, axis):
        return None
    own = np.ones_like(factor) if own is None else own
    return _Place(name, layer, op, factor, own, _grid(layer.weight_quanter, factor, axis))


def _factor(folded: np.ndarray, weight: np.ndarray, axis: int) -> Optional[np.ndarray]:
    """``folded`` over ``weight`` per index of ``axis``, None where that is not one number; 1 where
    a channel is zero.
    """
    if folded.shape != weight.shape:
        return None
    other = tuple(k for k in range(weight.ndim) if k != axis)
    power = np.square(weight, dtype=np.float64).sum(other)
    product = np.multiply(folded, weight, dtype=np.float64).sum(other)
    factor = np.divide(product, power, where=power > 0, out=np.ones_like(power))
    rest = np.abs(folded - weight * along_axis(factor, axis, weight.ndim)).max(initial=0.0)
    return factor if rest <= ONE_FACTOR * np.abs(folded).max(initial=1e-30) else None


def _grid(quanter, factor: np.ndarray, axis: int) -> Encoding:
    """A quanter's grid for its weight times ``factor``: a step per channel, upside down where the
    factor is negative.
    """
    step = np.broadcast_to(quanter.step().numpy(), factor.shape) * np.abs(factor)
    step = np.maximum(step, np.finfo(np.float32).tiny).astype(np.float32)
    zero = np.where(factor < 0, quanter.qmin + 2**quanter.bits - 1, -quanter.qmin)
    return Encoding(QuantSpec(quanter.bits, signed=False, symmetric=False, axis=axis), step,
                    zero.astype(np.float32))


def _moved_into(place: _Place, codes: np.ndarray) -> float:
    """Move a layer's weights into the bins of ``codes``; the share of them that changed bins."""
    layer, grid = place.layer, place.grid
    quanter, weight = layer.weight_quanter, layer.float_weight()
    step = quanter.along(quanter.step(), weight.ndim).numpy().astype(np.float64)
    zero, sign, own = (grid.along(v, weight.ndim)
                       for v in (grid.zero_point, np.sign(place.factor), place.own))
    codes = np.clip((codes - zero) * sign, quanter.qmin, quanter.qmax)
    before = quanter.codes(weight).numpy()
    reach = 0.5 * (1.0 - INSIDE)
    low = np.where(codes == quanter.qmin, -np.inf, (codes - reach) * step)
    high = np.where(codes == quanter.qmax, np.inf, (codes + reach) * step)
    moved = np.clip(weight.numpy().astype(np.float64), low, high) / np.where(own == 0, 1.0, own)
    kept = layer.weight.numpy()
    layer.weight.set_value(np.where(own == 0, kept, moved).astype(kept.dtype))
    return float(np.mean(codes != before))


def _say(places: List[_Place], left: List[str], moved: List[float], error: float):
    log = get_logger()
    sizes = [p.layer.weight.size for p in places]
    log.info("weights start from solved roundings: %.1f %% of them in another bin than the "
             "nearest; the error of the network's outputs is %.2g %% of their variation",
             100.0 * float(np.average(moved, weights=sizes)), 100.0 * error)
    if left:
        one = len(left) == 1
        log.info("%s start%s from nearest rounding, for the solve has no place for %s: %s",
                 numbered(len(left), "layer"), "s" * one, "it" if one else "them", listed(left))
