# SPDX-License-Identifier: Apache-2.0
"""Scales per channel for the inputs of layers, without changing what the network computes.

One step serves a whole activation, so channels much smaller than the largest go on as noise; behind
a depthwise convolution, which maps channel to channel, nothing averages that away. Where factors
can be moved into the weights around (``graph.channels``), they are chosen and folded, free of
charge (cross-layer equalization, Nagel et al. 2019, arXiv 1906.04721). In front of a depthwise
convolution behind anything else (hard-swish, ReLU6, a fixed shortcut) one element-wise
multiplication makes the channels equal, where the measured gain deserves its cost. Weight codes of
depthwise convolutions do not change: their scales per channel take the factor up.

Ranges propose factors; the error of the layers' outputs decides.
"""
import dataclasses
from typing import Dict, List, Tuple

import numpy as np
import paddle

from ..errors import UnsupportedOpError, numbered
from ..graph.graph import WEIGHT_SLOTS, Graph, Op, activation_name, weight_name, ops_behind
from ..graph.homogeneous import channel_classes, weight_channels
from ..graph.inserted_factors import Insertion, insert_factors
from ..report.progress import Progress, get_logger
from .forward import forward
from .layer_noise import ChannelRange, LayerNoise, is_depthwise
from .scheme import Scheme

FOLD_GAIN = 1.1  # a fold costs nothing, but nothing is moved for the noise of the measurement
INSERT_GAIN = 2.0  # a multiplication must halve the error
INSERT_ERROR = 0.003  # of the power, and there must be that much
LARGEST = 256.0  # factor: a channel that was hardly seen may come alive
BALANCES = (1.0, 0.75, 0.5, 0.25, 0.0)  # factor = (1 / range of input)^b (range of weights)^(1-b)
RANGED = 64  # samples whose ranges are taken
MEASURED_SAMPLES = 8  # samples on which errors are measured, where there are twice as many: others
_CHUNK = 8


@dataclasses.dataclass
class Equalized:
    """What was done for some layers.

    Attributes:
        layers(list[str]): weights of the layers whose input was scaled.
        way(str): ``fold``, or ``multiply`` for an inserted multiplication.
        before(float): error of their outputs over its power, summed over the layers.
        after(float): the same with the factors.
        ratio(float): largest over smallest factor.
    """

    layers: List[str]
    way: str
    before: float
    after: float
    ratio: float


class Candidates:
    """Factors to choose from, for layers that must share them.

    Args:
        ops(list[Op]): the quantized layers that read scaled channels.
        factors(dict): name -> {activation: array ``[C]``}.
    """

    def __init__(self, ops: List[Op], factors: Dict[str, Dict[str, np.ndarray]]):
        self.ops = ops
        ones = {n: np.ones_like(f) for n, f in next(iter(factors.values())).items()}
        self.factors = {"none": ones, **factors}
        self.errors = dict.fromkeys(self.factors, 0.0)

    @property
    def best(self) -> str:
        return min(self.errors, key=self.errors.get)

    @property
    def gain(self) -> float:
        return self.errors["none"] / max(self.errors[self.best], np.finfo(float).tiny)

    def equalized(self, way: str, graph: Graph) -> Equalized:
        every = np.concatenate(list(self.factors[self.best].values()))
        return Equalized([weight_name(op, graph) for op in self.ops], way, self.errors["none"],
                         self.errors[self.best], float(every.max() / every.min()))


class Equalizer:
    """Finds and applies factors for one graph.

    Args:
        graph(Graph): the folded graph; ``run`` changes its parameters and adds ops.
        scheme(Scheme): what is quantized.
        samples(dict): input name -> ``[N, ...]``.
        seed(int, optional): of the sampled rows. Default: 0.
    """

    def __init__(self, graph: Graph, scheme: Scheme, samples: Dict[str, np.ndarray], seed: int = 0):
        self.graph, self.scheme, self.seed = graph, scheme, seed
        count = len(next(iter(samples.values())))
        measured = min(MEASURED_SAMPLES, count)
        self.measured = {n: v[count - measured:] for n, v in samples.items()}
        left = count - measured if count >= 2 * MEASURED_SAMPLES else count
        self.ranged = {n: v[:min(left, RANGED)] for n, v in samples.items()}
        self.readers: Dict[str, List[Op]] = {}
        for op in graph.ops:
            if scheme.is_quantized(op) and activation_name(op) in scheme.activations:
                self.readers.setdefault(activation_name(op), []).append(op)
        self.classes = channel_classes(graph)

    def run(self, inserts: bool) -> Tuple[List[Equalized], Dict[str, str]]:
        """Choose by measurement and apply.

        Args:
            inserts(bool): multiplications may be inserted.

        Returns:
            tuple: what was done, and inserted tensor -> the tensor that it scales.
        """
        with Progress("Equalization", self._steps()) as bar:
            ranges = self._ranges(bar)
            groups = self._groups(ranges)
            single = self._single(ranges) if inserts else []
            self._measure([*(g for g, _ in groups), *single], ranges)
            bar.update()
        factors, done, scaled = np.ones(len(self.classes)), [], set()
        for group, by_class in groups:
            if group.best != "none" and group.gain >= FOLD_GAIN:
                done.append(group.equalized("fold", self.graph))
                scaled.update(group.factors["none"])
                factors *= by_class[group.best]
        self.classes.apply(factors)
        insertions = []
        for one in single:
            name = next(iter(one.factors["none"]))
            if (name not in scaled and one.gain >= INSERT_GAIN
                    and one.errors["none"] >= INSERT_ERROR * len(one.ops)):
                done.append(one.equalized("multiply", self.graph))
                insertions.append(Insertion(name, one.ops, one.factors[one.best][name]))
        return done, insert_factors(self.graph, insertions)

    def _steps(self) -> int:
        return -(-len(next(iter(self.ranged.values()))) // _CHUNK) + 1

    def _ranges(self, bar) -> Dict[str, ChannelRange]:
        """Ranges of all quantized activations with channels that a layer reads one by one."""
        ranges = {n: ChannelRange(1 if "conv" in ops[0].type else -1)
                  for n, ops in self.readers.items()}
        pending = ops_behind(self.graph.ops, ranges)
        params = {n: paddle.to_tensor(v) for n, v in self.graph.params.items()}
        for start in range(0, len(next(iter(self.ranged.values()))), _CHUNK):
            part = {n: paddle.to_tensor(v[start:start + _CHUNK]) for n, v in self.ranged.items()}
            for name in ranges.keys() & part.keys():
                ranges[name].update(part[name].numpy())
            for op, present in forward(pending, dict(params, **part)):
                for name in ranges.keys() & set(op.output_names):
                    ranges[name].update(present[name].numpy())
            bar.update()
        return ranges

    def _groups(self, ranges) -> List[Tuple[Candidates, Dict[str, np.ndarray]]]:
        """Classes that occur together in an activation are chosen together."""
        names: List[Tuple[set, List[str]]] = []
        for name in self.readers:
            found = self.classes.of(name)
            free = set() if found is None else set(found[found > 0].tolist())
            if not free or len(found) != np.size(ranges[name].size):
                continue
            joined = [part for part in names if part[0] & free]
            names = [part for part in names if not part[0] & free]
            names.append((free.union(*(p[0] for p in joined)),
                          [n for p in joined for n in p[1]] + [name]))
        return [self._group(members, ranges) for _, members in names]

    def _group(self, names: List[str], ranges):
        members = {n: self.classes.of(n) for n in names}
        ops = [op for n in names for op in self.readers[n]]
        dense = [op for op in ops if not is_depthwise(op, self.graph)]
        inputs, weights = _ClassMean(len(self.classes)), _ClassMean(len(self.classes))
        for name, classes in members.items():
            inputs.add(classes, ranges[name].size)
        for op in dense:
            reach = _reach(op, self.graph)
            weights.add(members[activation_name(op)], reach / reach.max(initial=1e-30))
        by_class = {}
        for balance in BALANCES if dense else BALANCES[:-1]:
            log = (1 - balance) * weights.logarithm() - balance * inputs.logarithm()
            by_class[f"{balance:g}"] = np.where(np.arange(len(log)) > 0, np.exp(log), 1.0)
        return Candidates(ops, {k: {n: f[c] for n, c in members.items()}
                                for k, f in by_class.items()}), by_class

    def _single(self, ranges) -> List[Candidates]:
        """Depthwise convolutions that could have a multiplication of their own."""
        found = []
        for name, ops in self.readers.items():
            ops = [op for op in ops if is_depthwise(op, self.graph)
                   and self.classes.own(weight_name(op, self.graph)) is not None]
            shape = self.graph.tensors[name].shape
            if ops and len(shape) == 4 and shape[1] == len(ranges[name].size):
                size = ranges[name].size
                factors = size.max() / np.maximum(size, max(size.max() / LARGEST, 1e-30))
                found.append(Candidates(ops, {f"{b:g}": {name: factors**b} for b in (1.0, 0.5)}))
        return found

    def _measure(self, every: List[Candidates], ranges):
        """Fill in the errors; one pass over the measured samples."""
        wanted: Dict[Op, List[Candidates]] = {}
        for one in every:
            for op in one.ops:
                wanted.setdefault(op, []).append(one)
        results = [op.output(WEIGHT_SLOTS[op.type][2]) for op in wanted]
        values = {n: paddle.to_tensor(v) for n, v in (*self.graph.params.items(),
                                                      *self.measured.items())}
        for k, (op, present) in enumerate(forward(ops_behind(self.graph.ops, results), values)):
            if op not in wanted:
                continue
            name = activation_name(op)
            noise = self._noise(op, present, self.seed + k)
            for one in wanted[op] if noise else ():
                for key, factors in one.factors.items():
                    one.errors[key] += noise.error(factors[name], ranges[name])

    def _noise(self, op: Op, present, seed: int):
        name = activation_name(op)
        try:
            noise = LayerNoise(op, self.graph, self.scheme.weights[weight_name(op, self.graph)],
                               self.scheme.activations[name])
        except UnsupportedOpError:  # a rare form of the op: no opinion
            return None
        noise.sample(present[name].numpy(),
                     present[op.output(WEIGHT_SLOTS[op.type][2])].numpy(), seed)
        return noise


class _ClassMean:
    """Geometric means of what is known of every class, the largest at 1 and none below the least
    that ``LARGEST`` allows.
    """

    def __init__(self, size: int):
        self._total, self._count = np.zeros(size), np.zeros(size)

    def add(self, classes, values):
        np.add.at(self._total, classes, np.log(np.maximum(values, 1e-30)))
        np.add.at(self._count, classes, 1)

    def logarithm(self) -> np.ndarray:
        """One per class; 0 for classes without values."""
        known = self._count > 0
        mean = self._total / np.maximum(self._count, 1)
        least = -np.log(LARGEST)
        return np.where(known, np.maximum(mean - mean[known].max(initial=-np.inf), least), 0.0)


def _reach(op: Op, graph: Graph) -> np.ndarray:
    """Largest magnitude of the weights that read each input channel."""
    weight = graph.params[weight_name(op, graph)]
    source, _ = weight_channels(op, weight.shape)
    reach = np.zeros(int(source.max()) + 1)
    np.maximum.at(reach, np.broadcast_to(source, weight.shape).ravel(), np.abs(weight).ravel())
    return reach


def equalize(graph: Graph, scheme: Scheme, samples: Dict[str, np.ndarray], mode: str,
             seed: int = 0) -> Tuple[List[Equalized], Dict[str, str]]:
    """Equalize a graph, and let the scheme follow.

    Args:
        graph(Graph): the folded graph, changed in place.
        scheme(Scheme): what is quantized, changed in place where layers read another tensor.
        samples(dict): input name -> ``[N, ...]``.
        mode(str): ``auto``, or ``fold`` without multiplications.
        seed(int, optional): of the sampled rows. Default: 0.

    Returns:
        tuple: what was done, and inserted tensor -> the tensor that it scales.
    """
    done, inserted = Equalizer(graph, scheme, samples, seed).run(mode == "auto")
    for product, name in inserted.items():
        scheme.activations[product] = scheme.activations[name]
        if not any(scheme.is_quantized(op) and activation_name(op) == name for op in graph.ops):
            del scheme.activations[name]
    get_logger().info("equalized: %s by folding, %s inserted", numbered(
        sum(len(e.layers) for e in done if e.way == "fold"), "layer"),
                      numbered(len(inserted), "multiplication"))
    return done, inserted
