# SPDX-License-Identifier: Apache-2.0
"""What each layer's quantization does to the network's output.

Every layer is quantized alone in the float network, and left float alone in the quantized one: its
weight, its activation, or both. The effect is the squared error of the network's outputs over their
variance, mean over the outputs; labels are not needed. In front of a softmax stands what is
compared, not its result; what else may be compared is said in ``deploy/compare.py``.
"""
import dataclasses
import time
from typing import Callable, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import paddle

from ..errors import ModelError
from ..graph.graph import Graph, Op, activation_name, weight_name, ops_behind
from ..post.network_state import NetworkState
from ..post.program import ends
from ..post.scheme import Scheme
from ..post.sums import Powers
from ..post.unit_runner import UnitRunner
from ..post.walk import Network
from ..report.progress import Progress
from .inputs import InputStatistics, input_statistics
from .rerun import Rerunner

PARTS = ("weights", "activations", "both")
PASS_SAMPLES = 8  # samples per pass; fewer of large images
CHUNK_VALUES = 2**22  # input values per pass at most


@dataclasses.dataclass
class LayerEffect:
    """One quantized layer; the errors are relative, 0.01 means one percent of the variance.

    Attributes:
        weight(str): the parameter.
        activation(str): the tensor that the layer reads.
        outputs(list[str]): what the layer writes.
        op_type(str): e.g. ``depthwise_conv2d``.
        weight_bits(int): bits of the weight.
        activation_bits(int): bits of the activation; 32 when it stays float.
        elements(int): number of weights.
        on(dict): part -> error of the output with only this part of this layer quantized.
        off(dict): part -> error of the output with everything quantized but this part.
        metric(dict): scores with this layer alone quantized; empty without an evaluator.
        cause(str): what makes the layer sensitive; empty where it is not.
        suggestion(str): what to do about it.
    """

    weight: str
    activation: str
    outputs: List[str]
    op_type: str
    weight_bits: int
    activation_bits: int
    elements: int
    on: Dict[str, float] = dataclasses.field(default_factory=dict)
    off: Dict[str, float] = dataclasses.field(default_factory=dict)
    metric: Dict[str, float] = dataclasses.field(default_factory=dict)
    cause: str = ""
    suggestion: str = ""


@dataclasses.dataclass
class Change:
    """One run of the network: the ops as they read, and the parameters that differ."""

    view: List[Op]
    params: Dict[str, paddle.Tensor]


class Sensitivity:
    """Measures the effect of every layer of a prepared job.

    Args:
        network(Network): graph, scheme, and constants.
        state(NetworkState): grids, codes and biases, each layer's for itself
            (``isolated_rounding``): codes that make up for the errors of earlier layers would
            be wrong where those stay float.
        samples(dict): input name -> ``[N, ...]``, all are used.
    """

    def __init__(self, network: Network, state: NetworkState, samples: Mapping[str, np.ndarray]):
        self.network, self.samples = network, samples
        runner = UnitRunner(network.graph, network.reached, network.scheme, network.constants)
        self.outputs = measured_outputs(runner, network.graph)
        self.ops = ops_behind(runner.ops, self.outputs)
        scheme, self._state = network.scheme, state
        quantizers = state.quantizers(scheme.activations)
        whole = dict(runner.fixed, **state.parameters(runner))
        self._float = Rerunner(self.ops, runner.fixed, quantizers, self.outputs)
        self._quantized = Rerunner(scheme.quantized_view(self.ops), whole, quantizers, self.outputs)
        self.layers = _unmeasured(network.graph, self.ops, scheme)
        self._read = {e.activation for e in self.layers}
        self._on = {e.weight: self._on_changes(e, runner) for e in self.layers}
        self._off = {e.weight: self._off_changes(e, runner) for e in self.layers}
        self.whole = 0.0  # error of the quantized network, set by ``measure``
        self.inputs: Dict[str, InputStatistics] = {}
        self._powers = [Powers() for _ in self.outputs]
        self._errors: Dict[Tuple, np.ndarray] = {}

    @property
    def chunk(self) -> int:
        """Samples per pass."""
        values = sum(v[0].size for v in self.samples.values())
        return max(1, min(PASS_SAMPLES, CHUNK_VALUES // values))

    def progress(self) -> Progress:
        """The bar that ``measure`` moves."""
        passes = -(-len(next(iter(self.samples.values()))) // self.chunk)
        return Progress("Sensitivity", len(self.layers) * passes,
                        "layer" if passes == 1 else "layer pass")

    def seconds(self) -> float:
        """How long ``measure`` will take, from one pass of both networks over the first samples.

        The first pass of a process is slow, so there are two.
        """
        feed, begin = next(self._feeds()), 0.0
        for _ in range(2):
            begin = time.perf_counter()
            self._float.run(feed)
            self._quantized.run(feed)
        passes = time.perf_counter() - begin
        for runner, changes in ((self._float, self._on), (self._quantized, self._off)):
            passes += sum(runner.cost(c.view, c.params) for found in changes.values()
                          for c in found.values())
        count = len(next(iter(self.samples.values())))
        return passes * count / len(next(iter(feed.values())))

    def measure(self, progress: Callable = None) -> List[LayerEffect]:
        """Fill in the errors of all layers.

        Args:
            progress(callable, optional): called once per layer and pass. Default: None.

        Returns:
            list[LayerEffect]: in execution order.
        """
        for feed in self._feeds():
            targets = self._targets(feed)
            input_statistics({n: self._float.values[n].numpy() for n in self._read}, self.inputs)
            self._note(("whole",), self._quantized.run(feed), targets)
            for effect in self.layers:
                for kind, runner, changes in (("on", self._float, self._on),
                                              ("off", self._quantized, self._off)):
                    for part, change in changes[effect.weight].items():
                        values = runner.changed(change.view, change.params)
                        self._note((kind, effect.weight, part), values, targets)
                if progress:
                    progress()
        self.whole = self._error(("whole",))
        for effect in self.layers:
            effect.on = self._parts("on", effect)
            effect.off = self._parts("off", effect)
        return self.layers

    def weight_errors(self, progress: Callable = None) -> Dict[str, float]:
        """Error of the output with one weight alone quantized, for each.

        Args:
            progress(callable, optional): called once per layer and pass. Default: None.
        """
        for feed in self._feeds():
            targets = self._targets(feed)
            for effect in self.layers:
                change = self._on[effect.weight]["weights"]
                values = self._float.changed(change.view, change.params)
                self._note(("on", effect.weight, "weights"), values, targets)
                if progress:
                    progress()
        return {e.weight: self._error(("on", e.weight, "weights")) for e in self.layers}

    def _targets(self, feed):
        """The float network's outputs, whose variance is taken in."""
        targets = self._float.run(feed)
        for power, name in zip(self._powers, self.outputs):
            power.add(targets[name].numpy())
        return targets

    def _feeds(self) -> Iterator[Dict[str, np.ndarray]]:
        count = len(next(iter(self.samples.values())))
        for start in range(0, count, self.chunk):
            yield {n: v[start:start + self.chunk] for n, v in self.samples.items()}

    def _note(self, key: Tuple, values, targets):
        errors = np.array([_squared(values[n] - targets[n]) for n in self.outputs])
        self._errors[key] = self._errors.get(key, 0.0) + errors

    def _error(self, key: Tuple) -> float:
        """Mean over the outputs of error over variance."""
        powers = np.array([p.variation() for p in self._powers])
        return float(np.mean(self._errors[key] / np.maximum(powers, np.finfo(np.float64).tiny)))

    def _parts(self, kind: str, effect: LayerEffect) -> Dict[str, float]:
        """Errors by part; without an activation quantizer, both is the weight alone."""
        found = {part: self._error((kind, effect.weight, part)) for part in PARTS
                 if (kind, effect.weight, part) in self._errors}
        if "activations" not in found:
            found["activations"] = 0.0 if kind == "on" else self.whole
            found["both"] = found["weights"]
        return found

    def _on_changes(self, effect: LayerEffect, runner: UnitRunner) -> Dict[str, Change]:
        scheme, name = self.network.scheme, effect.weight
        params = _tensors(self._state, name, self.network, runner)
        changes = {"weights": Change(self.ops, params)}
        if effect.activation in scheme.activations:
            alone = Scheme({name: scheme.weights[name]},
                           {effect.activation: scheme.activations[effect.activation]},
                           scheme.quantize_shared)
            view = alone.quantized_view(self.ops)
            changes.update(activations=Change(view, {}), both=Change(view, params))
        return changes

    def _off_changes(self, effect: LayerEffect, runner: UnitRunner) -> Dict[str, Change]:
        scheme, name = self.network.scheme, effect.weight
        params = {n: runner.fixed[n] for n in (name, self.network.biases.get(name))
                  if n in runner.fixed}
        changes = {"weights": Change(self._quantized.view, params)}
        if effect.activation in scheme.activations:
            view = without_layer(scheme, effect, self.layers).quantized_view(self.ops)
            changes.update(activations=Change(view, {}), both=Change(view, params))
        return changes


def without_layer(scheme: Scheme, effect: LayerEffect, layers: List[LayerEffect]) -> Scheme:
    """The scheme with one layer float; its activation stays quantized for others that read it."""
    weights = {n: s for n, s in scheme.weights.items() if n != effect.weight}
    read = {e.activation for e in layers if e.weight != effect.weight}
    activations = {n: s for n, s in scheme.activations.items() if n in read}
    return Scheme(weights, activations, scheme.quantize_shared)


def measured_outputs(runner: UnitRunner, graph: Graph) -> List[str]:
    """The tensors whose error counts: the ends of the network (``post.program.ends``: what may be
    compared at all is for ``deploy.compare`` to say), and in front of a softmax, which hides how
    far its inputs are from each other.

    Raises:
        ModelError: no end of the network is made of floats.
    """
    producers = {n: op for op in runner.ops for n in op.output_names}
    found = []
    for name in ends(runner, graph):
        while name in producers and producers[name].type == "softmax":
            name = producers[name].input("X")
        if graph.tensors[name].dtype.startswith("float") and name not in found:
            found.append(name)
    if not found:
        raise ModelError("the network has no output of floating-point numbers to compare: "
                         "export it without what follows its last layers")
    return found


def _unmeasured(graph: Graph, ops: List[Op], scheme: Scheme) -> List[LayerEffect]:
    """One entry per quantized weight; an op that shares another's weight adds its outputs."""
    found: Dict[str, LayerEffect] = {}
    for op in [op for op in ops if scheme.is_quantized(op)]:
        name, source = weight_name(op, graph), activation_name(op)
        if name in found:
            found[name].outputs += op.output_names
            continue
        act_bits = scheme.activations[source].bits if source in scheme.activations else 32
        found[name] = LayerEffect(name, source, list(op.output_names), op.type,
                                  scheme.weights[name].bits, act_bits, graph.params[name].size)
    return list(found.values())


def _tensors(state: NetworkState, name: str, network: Network, runner: UnitRunner):
    """A layer's weight on its grid and its corrected bias."""
    bias = network.biases.get(name)
    tensors = state.weights([name])
    if bias in runner.fixed and bias in state.biases:
        tensors[bias] = paddle.to_tensor(state.biases[bias])
    return tensors


def _squared(difference: paddle.Tensor) -> float:
    flat = difference.numpy().ravel()
    return float(np.dot(flat, flat))
