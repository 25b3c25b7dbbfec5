# SPDX-License-Identifier: Apache-2.0
"""Bytes that each kind of step needs, from the shapes of a graph.

The factors were fitted by hand to peaks of MobileNetV1 and PP-OCRv4's recognizer, unit by unit and
block by block; of joined units they probably say too much.
"""
from typing import Iterable, List, Sequence

import numpy as np

from ..config import LOSS_POLICIES, Config
from ..graph.graph import QUANTIZED, WEIGHT_SLOTS, Graph, Op, weight_name
from ..graph.partition import Module, Unit, join
from ..graph.probe import Probe
from ..strategies.mrecg import explicit
from .drop import chosen_keep_prob
from .layer_rows import CHUNK_ELEMENTS, solved_positions
from .memory import MIB, UNIT_TRAINING, Forecast, Stage, Start
from .program import verified_samples
from .scheme import FAKE_QUANTIZE, Scheme
from .unit_loss import MEASURE_CHUNK

_FLOAT_BYTES = 4
_KEPT_PER_STEP = 0.8  # tensors as large as a unit's values that live while one step is taken
_FED = 3.0  # copies of a unit's inputs in a step: rows, tensors and mixtures
_MASKED = 4.0  # copies of the largest tensor of which elements are dropped: bits, mask, mixture
_ROUNDED = 13.0  # tensors as large as a weight while its rounding is trained, moments included
_LIBRARIES = 40 * (1 << 20)  # code and buffers of kernels that have not run yet
_KEPT = 5.0  # copies of all weights: codes before and after, rounding variables, the program
_OBSERVED = 5.0  # copies of an activation while its values are counted
_SYSTEMS = 7.5  # copies of a layer's system of equations, LAPACK's included
_REPORTS = 4.0 * MIB  # tables, pictures, VisualDL's records, the programs' ops
_PROGRAMS = 4  # the result, and nearest rounding, with biases, and solved, to compare with
_FINISHED = 3.0  # of the weights: codes in 16 bits and rounding variables, of both passes
_STATE = 8.0  # of a unit's weights: variables, best ones, moments; old and new file
_GATHERED = 6.0  # copies of the rows that are added to it
_LOOKED_INTO = 3.4  # of all values of a sample: those of a verdict, layer by layer, that differs


class Sizes:
    """Bytes of a graph's tensors.

    Args:
        graph(Graph): the graph.
        found(Probe): its shapes.
        scheme(Scheme): what is quantized.
    """

    def __init__(self, graph: Graph, found: Probe, scheme: Scheme):
        self.graph, self.found, self.scheme = graph, found, scheme

    def one(self, name: str) -> float:
        """Of a tensor, per sample."""
        name = name[:-len(QUANTIZED)] if name.endswith(QUANTIZED) else name
        if self.found.kind.get(name, "constant") == "constant":
            return 0.0
        shape = self.found.shapes[name]
        whole = float(np.prod([abs(n) for n in shape]))
        return _FLOAT_BYTES * (whole if self.found.kind[name] == "sample" else whole / 2)

    def all(self, names: Iterable[str]) -> float:
        """Of several tensors, per sample."""
        return sum(self.one(n) for n in names)

    def values(self, ops: Sequence[Op]) -> float:
        """Of everything that quantized ops write, per sample."""
        return sum(self._written(op) for op in self.scheme.quantized_view(list(ops)))

    def _written(self, op: Op) -> float:
        return self.all(op.input_names if op.type == FAKE_QUANTIZE else op.output_names)

    def largest_quantized(self, unit: Unit) -> float:
        """The largest tensor that a unit quantizes, per sample."""
        return max([self._written(op) for op in
                    self.scheme.quantized_view(unit.ops(self.graph)) if op.type == FAKE_QUANTIZE],
                   default=0.0)

    def live(self, ops: Sequence[Op], observed: float = 0.0) -> float:
        """Of one pass over quantized ops that forgets what nothing reads any more, per sample.

        Args:
            ops(list[Op]): in order.
            observed(float, optional): further copies of what an op writes. Default: 0.
        """
        view = self.scheme.quantized_view(list(ops))
        last = {n: k for k, op in enumerate(view) for n in (*op.output_names, *op.input_names)}
        now, peak, held = 0.0, 0.0, {}
        for k, op in enumerate(view):
            held.update({n: self.one(n) for n in op.input_names if n not in held})
            held.update(dict.fromkeys(op.output_names, self._written(op) / len(op.output_names)))
            now = sum(held.values())
            peak = max(peak, now + observed * max(held[n] for n in op.output_names))
            held = {n: size for n, size in held.items() if last[n] > k}
        return peak


def forecast(sizes: Sizes, layers: List[Module], modules: List[Module], config: Config,
             start: Start) -> Forecast:
    """What a job will hold.

    Args:
        sizes(Sizes): the folded graph and its shapes.
        layers(list[Module]), modules(list[Module]): as in ``Prepared``.
        config(Config): the job.
        start(Start): before it.
    """
    graph, count = sizes.graph, start.count
    weights = float(sum(v.nbytes for v in graph.params.values()))
    given = count * sizes.all(graph.inputs)
    observed = min(count, MEASURE_CHUNK, config.quant_post.num_observe)
    verified = verified_samples(count, sizes.all(graph.inputs) // _FLOAT_BYTES)
    stages = [Stage("calibration", weights + observed * sizes.live(graph.ops, _OBSERVED), given),
              Stage("verification", 2 * weights + max(
                  verified * (sizes.live(graph.ops) + 2 * sizes.all(graph.outputs)),
                  _LOOKED_INTO * sizes.values(graph.ops)), given)]
    half = 0.5 if config.global_.cache_dtype == "float16" else 1.0
    if config.quant_post.rounding == "solve" or config.quant_post.bias_correction:
        stages.append(_solving(sizes, layers, count, given, half))
    batch, growth = min(config.mrecg.batch_size, count), 0.0
    if config.mrecg.num_iters:
        steps, growth = _training(sizes, modules, config, count, given, half)
        stages += steps
    return Forecast(start.process + _LIBRARIES + _KEPT * weights, stages,
                    config.global_.memory_limit_mb * float(MIB), (batch, growth),
                    _result_bytes(sizes, modules, config))


def _result_bytes(sizes: Sizes, modules: List[Module], config: Config) -> float:
    """What lies in the folder of the result at the end at most: the program, the float one and the
    baselines that are scored, finished units, and the state of one in training.
    """
    graph = sizes.graph
    weights = float(sum(v.nbytes for v in graph.params.values()))
    quantized = float(sum(graph.params[n].nbytes for n in sizes.scheme.weights))
    result = _REPORTS + weights + _PROGRAMS * (weights - 0.75 * quantized)
    if config.mrecg.num_iters:
        units = [u for units in _tilings(graph, modules, config) for u in units]
        largest = max([sum(graph.params[n].nbytes for n in u.weights) for u in units], default=0)
        result += _FINISHED * quantized + _STATE * largest
    return result


def _solving(sizes: Sizes, layers, count: int, given: float, half: float) -> Stage:
    graph, work, cache, chunk = sizes.graph, 0.0, 0.0, min(count, MEASURE_CHUNK)
    for unit, streams in _walked(sizes, [Unit.single(m) for m in layers]):
        ops = [op for op in unit.ops(graph) if sizes.scheme.is_quantized(op)]
        results = sizes.all({op.output(WEIGHT_SLOTS[op.type][2]) for op in ops}
                            | set(unit.outputs))
        cache = max(cache, streams + 2 * sizes.all(unit.outputs))
        systems = max([_system(op, sizes, chunk, count) for op in ops], default=0.0)
        forward = chunk * (sizes.live(unit.ops(graph)) + sizes.all(unit.inputs) + results)
        work = max(work, forward, systems)
    return Stage("solving the rounding", work, given + half * count * cache)


def _training(sizes: Sizes, modules, config: Config, count: int, given: float, half: float):
    """The stages of the units that need most, and what one more sample per step adds."""
    settings, graph, growth = config.mrecg, sizes.graph, 0.0
    chunk, batch = min(count, MEASURE_CHUNK), min(settings.batch_size, count)
    training, measuring = Stage(UNIT_TRAINING, 0.0, given), Stage("measuring a unit", 0.0, given)
    for units in _tilings(graph, modules, config):
        for unit, streams in _walked(sizes, units):
            inner = sizes.all(n for m in unit.modules[:-1] for n in m.outputs
                              if n not in unit.outputs)
            outputs, fed = sizes.all(unit.outputs), sizes.all(unit.inputs)
            if settings.loss == "fisher":
                streams += outputs
            read = {n for op in unit.ops(graph) for n in op.input_names}
            each = _KEPT_PER_STEP * sizes.values(unit.ops(graph)) + _FED * fed + outputs
            fixed = _ROUNDED * sum(graph.params[n].nbytes for n in unit.weights)
            bits = [spec.bits for n, spec in sizes.scheme.activations.items() if n in read]
            if chosen_keep_prob(settings.keep_prob, bits) < 1:
                each += _MASKED * sizes.largest_quantized(unit)
            # targets, and the outputs before; behind training those of two more states
            stage = Stage(UNIT_TRAINING, fixed + batch * each,
                          given + half * count * (streams + inner + 2 * outputs))
            if stage.total > training.total:
                training, growth = stage, each
            stage = Stage(measuring.name, chunk * (sizes.live(unit.ops(graph)) + fed + outputs),
                          given + half * count * (streams + 2 * inner + 4 * outputs))
            measuring = max(measuring, stage, key=lambda s: s.total)
    return [training, measuring], growth


def _tilings(graph: Graph, modules: List[Module], config: Config) -> List[List[Unit]]:
    """Units as large as the granularity may make them; the losses that decide are not known yet."""
    settings, every = config.mrecg, [(k, k) for k in range(len(modules))]
    if settings.granularity == "explicit":
        return [join(graph, modules, explicit(settings.units, len(modules)))]
    if settings.granularity not in (*LOSS_POLICIES, "modcap") or settings.max_unit_modules == 1:
        return [join(graph, modules, every)]
    pairs = []
    for first in (0, 1):
        groups = [(k, min(k + 1, len(modules) - 1)) for k in range(first, len(modules), 2)]
        pairs.append(join(graph, modules, every[:first] + groups))
    return pairs


def _walked(sizes: Sizes, units: List[Unit]):
    """Units, and the bytes per sample of both streams in front of each, samples left out."""
    written = {n: k for k, op in enumerate(sizes.graph.ops) for n in op.output_names}
    for k, unit in enumerate(units):
        read = {n for other in units[k:] for n in other.inputs}
        yield unit, 2 * sizes.all(n for n in read if written.get(n, unit.start) < unit.start)


def _system(op: Op, sizes: Sizes, chunk: int, count: int) -> float:
    """Bytes of the linear system of a layer and of the rows that it is made of."""
    graph = sizes.graph
    weight = graph.params[weight_name(op, graph)]
    if "conv" in op.type:
        groups = op.attrs.get("groups", 1)
        rows = weight[0].size if "transpose" not in op.type else weight.size // (
            groups * weight.shape[1])
        columns = weight.size // (groups * rows)
    else:
        groups, (rows, columns) = 1, weight.shape
    item = 8 if rows <= 1024 else _FLOAT_BYTES
    each = sizes.one(op.output(WEIGHT_SLOTS[op.type][2])) / (_FLOAT_BYTES * groups * columns)
    positions = min(solved_positions(rows), count * each)
    taken = positions * min(1.0, chunk / count)
    return (_SYSTEMS * item * groups * rows * (rows + columns)
            # the output's rows, kept from the float stream
            + _FLOAT_BYTES * positions * groups * columns
            + _GATHERED * min(CHUNK_ELEMENTS, groups * taken * max(rows, columns)) * _FLOAT_BYTES)
