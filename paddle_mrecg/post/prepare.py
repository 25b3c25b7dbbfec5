# SPDX-License-Identifier: Apache-2.0
"""Everything of the post-training job that trains nothing: read, fold,
probe, calibrate, cut, plan.
"""
import dataclasses
import os
import time
from typing import Callable, Dict, List, Optional

import numpy as np

from ..config import Config
from ..machine import resident_bytes
from ..data import calibration_samples
from ..data.amount import alike_note
from ..data.images import list_images
from ..data.sources import stand_ins
from ..deploy.apart import start_helper
from ..deploy.first_run import first_run
from ..deploy.lite.ops import lite_note
from ..errors import ModelError, kind_of, listed, numbered
from ..graph.float_weights import float_weights
from ..graph.fold import fold
from ..graph.from_layer import graph_from_layer
from ..graph.graph import Graph, activation_name, weight_name
from ..graph.load import load_graph
from ..graph.partition import Module, modules_of
from ..graph.probe import probe
from ..report.progress import Progress, get_logger
from . import calibrate
from .equalize import Equalized, equalize
from .expected_time import ExpectedTime, expected_time, tell_time
from .memory import Forecast, Start, return_freed_memory, store_within, tell
from .layer_biases import add_missing_biases, biases_of
from .network_state import NetworkState
from .scheme import build_scheme
from .walk import Network
from .working_sets import Sizes, forecast

PROBE_SAMPLES = 3


class Clock:
    """Seconds per stage."""

    def __init__(self):
        self.laps: Dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str):
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now


@dataclasses.dataclass
class Prepared:
    """A job before its first training step.

    ``state`` is the network with nearest rounding; ``layers`` (empty where nothing goes layer by
    layer) and ``modules`` cut it into single layers and into what reconstruction joins;
    ``float_tensors`` maps weights that stay float to the reason, ``coarse`` is what
    ``calibrate.coarse_inputs`` found, ``equalized`` what ``QuantPost.equalize`` did, ``expected``
    the memory that the job will hold, ``time`` what it will take,
    ``notes`` what the first run of the float program showed.
    """

    config: Config
    float_graph: Graph
    network: Network
    layers: List[Module]
    modules: List[Module]
    state: NetworkState
    float_tensors: Dict[str, str]
    coarse: Dict[str, float]
    equalized: List[Equalized]
    expected: Forecast
    time: ExpectedTime
    notes: List[str]
    clock: Clock

    @property
    def graph(self) -> Graph:
        return self.network.graph


def read_model(model, config: Config) -> Graph:
    """The float graph of a directory, a file prefix, a ``(Layer, input_spec)`` pair or a Graph."""
    if isinstance(model, Graph):
        return model
    if model is None:
        model = config.global_.model_dir
    if model is None:
        raise ModelError("no model given: set Global.model_dir, or pass a directory, a "
                         "file prefix or a Layer")
    if isinstance(model, (tuple, list)) and len(model) in (1, 2) and hasattr(model[0], "sublayers"):
        return graph_from_layer(*model)
    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    if not isinstance(model, str):
        raise ModelError(f"{kind_of(model)} is not a model: pass a directory, a file "
                         "prefix or the pair (layer, input_spec) with a list of "
                         "paddle.static.InputSpec")
    return load_graph(model, config.global_.model_filename, config.global_.params_filename)


def prepare(model, data_loader, config: Config, place: Optional[str] = None,
            say_time: Callable[[ExpectedTime], None] = tell_time) -> Prepared:
    """Read the model and the data, find all grids, cut the graph into modules.

    Args:
        model, data_loader: as of ``quant_post_mrecg``.
        config(Config): complete settings.
        place(str, optional): folder of the result, whose room is checked. Default: None.
        say_time(callable, optional): told what the job will take. Default: logs it.

    Raises:
        MrecgError: see the functions called; nothing has been written yet.
    """
    clock = Clock()
    start_helper()  # for first_run
    float_graph = read_model(model, config)
    graph = fold(float_graph)
    store = store_within(config.global_.memory_limit_mb, config.global_.cache_dtype == "float16")
    samples = calibration_samples(graph, data_loader, config, store)
    process = resident_bytes() - store.in_memory
    clock.lap("read")
    scheme = build_scheme(graph, config.quant_post, config.global_.target)
    calibrate.refuse_broken_weights(graph, scheme)
    _say_first_and_last(scheme)
    if config.quant_post.bias_correction:
        add_missing_biases(graph, scheme.is_quantized)
    few = {n: v[:PROBE_SAMPLES] for n, v in samples.items()}
    found = probe(graph, few)
    notes = [*float_graph.remarks, *first_run(graph, few, float_graph.files),
             *_forward_only(found), *_samples_alone(graph), *alike_note(samples)]
    if config.global_.target == "paddle_lite":
        notes += lite_note(graph)
    left = _leave_float(graph, scheme, found)
    float_tensors = float_weights(graph, scheme.weights, found.shapes, left)
    count = len(next(iter(samples.values())))
    takes = expected_time(graph, scheme, found, config, count)
    say_time(takes)
    clock.lap("first run")
    equalized = _equalize(graph, scheme, found, samples, config)
    clock.lap("equalize")
    weights = calibrate.weight_encodings(graph, scheme, config.quant_post)
    layers, modules = _cut(graph, found, scheme, config)
    expected = forecast(Sizes(graph, found, scheme), layers, modules, config, Start(process, count))
    tell(expected, store, place)
    steps = calibrate.calibration_steps(config.quant_post, count)
    with Progress("Calibration", steps) as bar:
        state = NetworkState.nearest(
            graph.params, {n: e for n, e in weights.items() if n in scheme.weights},
            calibrate.activation_encodings(graph, scheme, samples, config.quant_post, bar.update,
                                           config.global_.seed))
    return_freed_memory()
    coarse = calibrate.coarse_inputs(graph, scheme, few, state.activation_encodings)
    reached = [op for op in graph.ops if op not in found.unreached]
    network = Network(graph, scheme, reached, found.constants, samples,
                      store, config.global_.seed, biases=biases_of(graph, scheme.is_quantized)
                      if config.quant_post.bias_correction else {}, one_by_one=found.one_by_one)
    for note in notes:
        get_logger().info(note)
    clock.lap("calibrate")
    return Prepared(config, float_graph, network, layers, modules, state, float_tensors, coarse,
                    equalized, expected, takes, notes, clock)


def _cut(graph: Graph, found, scheme, config: Config):
    """Single layers, where something goes layer by layer, and the modules that reconstruction may
    join.
    """
    settings = config.quant_post
    by_layer = (settings.rounding == "solve" or settings.bias_correction
                or config.mrecg.granularity == "layer")
    layers = (modules_of(graph, found, scheme.is_quantized, granularity="layer") if by_layer
              else [])
    return layers, layers if config.mrecg.granularity == "layer" else modules_of(
        graph, found, scheme.is_quantized)


def expected_memory(config: Config) -> Forecast:
    """What the job of a config would hold, without reading its data.

    Raises:
        DataError: the model has free sizes that ``Data.input_shape`` does not give.
    """
    graph = fold(read_model(None, config))
    process = resident_bytes()
    scheme, found = _quantizable(graph, stand_ins(graph, config), config)
    count = config.data.num_samples
    if config.data.loader is None and config.data.image_dir is not None:
        count = min(count, len(list_images(config.data)))
    return forecast(Sizes(graph, found, scheme), *_cut(graph, found, scheme, config), config,
                    Start(process, count * config.data.views))


def expected_time_of(float_graph: Graph, samples: Dict[str, np.ndarray],
                     config: Config) -> ExpectedTime:
    """What a job of a config would take with these samples, without calibration."""
    graph, few = fold(float_graph), {n: v[:PROBE_SAMPLES] for n, v in samples.items()}
    return expected_time(graph, *_quantizable(graph, few, config), config,
                         len(next(iter(samples.values()))))


def _quantizable(graph: Graph, few, config: Config):
    """What would be quantized of a folded graph, and what the probe says of it."""
    scheme = build_scheme(graph, config.quant_post, config.global_.target)
    found = probe(graph, few)
    _leave_float(graph, scheme, found)
    return scheme, found


def _equalize(graph: Graph, scheme, found, samples, config: Config) -> List[Equalized]:
    mode = config.quant_post.equalize
    if mode == "none" or not scheme.activations:
        return []
    observed = {n: v[:config.quant_post.num_observe] for n, v in samples.items()}
    done, inserted = equalize(graph, scheme, observed, mode, config.global_.seed)
    for product, name in inserted.items():
        found.kind[product], found.shapes[product] = found.kind[name], found.shapes[name]
    return done


def _say_first_and_last(scheme):
    for what, names in (("first", scheme.first), ("last", scheme.last)):
        get_logger().info("%s layers: %s", what, listed(
            [f"{n} ({scheme.weights[n].bits} bits)" for n in names]))


def _forward_only(found) -> List[str]:
    types = sorted({op.type for op in found.forward_only})
    if not types:
        return []
    return [f"only Paddle's Executor runs {', '.join(types)}, which passes no gradients back: the "
            "layers in front are trained for the values that go in, not for those that come out"]


def _samples_alone(graph: Graph) -> List[str]:
    types = sorted({op.type for op in graph.ops if op.alone})
    if not types:
        return []
    return [f"{listed(types)} {'takes' if len(types) == 1 else 'take'} one sample at a time, for a "
            "batch of 1 is written into the program: so it is simulated, and so it must be run"]


def _leave_float(graph: Graph, scheme, found) -> Dict[str, str]:
    """Take from the scheme what the probe shows cannot be quantized; the reason for each weight."""
    return {**_leave_unreached_float(graph, scheme, found),
            **_leave_constants_float(graph, scheme, found)}


def _leave_unreached_float(graph: Graph, scheme, found) -> Dict[str, str]:
    """Ops that dygraph cannot reach cannot be observed: their weights stay
    float; says which and why.
    """
    reasons: Dict[str, str] = {}
    if not found.unreached:
        return reasons
    culprits = ", ".join(sorted({op.type for op in found.unsupported}))
    why = found.unreached[found.unsupported[0]]
    for op in graph.ops:
        if op in found.unreached and scheme.is_quantized(op):
            name = weight_name(op, graph)
            del scheme.weights[name]
            reasons[name] = f"behind unsupported op ({culprits})"
    reached = (set(graph.inputs)
               | {n for op in graph.ops if op not in found.unreached for n in op.output_names})
    for name in [n for n in scheme.activations if n not in reached]:
        del scheme.activations[name]
    get_logger().info("%s: %s; only the exported program runs what begins there (%s)%s",
                      culprits, why, numbered(len(found.unreached), "op"),
                      f", with {numbered(len(reasons), 'weight')} left float" if reasons else "")
    if not scheme.weights:
        raise ModelError("nothing to quantize: every quantizable op lies behind an unsupported one "
                         f"({culprits}: {why}): export the model with a free batch dimension, or "
                         "express the op with others")
    return reasons


def _leave_constants_float(graph: Graph, scheme, found) -> Dict[str, str]:
    """Layers whose result is the same for every sample have nothing to learn from samples: a grid
    of positions made from the size of an image passes them. They stay float.
    """
    layers = [op for op in graph.ops if scheme.is_quantized(op)]
    constant = [op for op in layers if found.is_constant(op)]
    if not constant:
        return {}
    names = list(dict.fromkeys(weight_name(op, graph) for op in constant))
    for name in names:
        del scheme.weights[name]
    read = {activation_name(op) for op in layers if scheme.is_quantized(op)}
    for name in {activation_name(op) for op in constant}.intersection(scheme.activations) - read:
        del scheme.activations[name]
    if not scheme.weights:
        raise ModelError("nothing to quantize: the results of all quantizable ops depend on no "
                         "input")
    return {name: "its result does not depend on the samples" for name in names}
