# SPDX-License-Identifier: Apache-2.0
"""Solve the rounding and correct the biases of a network, layer by layer, before any training.

Both streams walk through the network once, as reconstruction does. In front of each layer stand its
input in the quantized network and its output in the float one; ``solve`` rounds the weight for them
and the bias takes what remains of the mean. Without ``rounding: solve`` the weight stays at nearest
rounding and the bias alone is corrected.
"""
import dataclasses
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np

from ..errors import DataError, UnsupportedOpError
from ..graph.graph import Op, activation_name, weight_name
from ..graph.partition import Module, Unit
from ..grids.affine import fake_quantize
from ..report.progress import Progress
from .layer_biases import output_axis
from .layer_rows import LayerRows, Positions, gram_of, layer_rows
from .layer_sums import LayerSum, layer_sum
from .memory import return_freed_memory
from .network_state import NetworkState
from .solve import solve
from .streams import Stream
from .sums import Means
from .unit_loss import MEASURE_CHUNK, end_error
from .unit_runner import UnitRunner

TRIMMED_EVERY = 8  # layers between two returns of freed memory, whose pages cost time to get again


@dataclasses.dataclass
class LayerRounding:
    """What the solve found for one weight.

    Attributes:
        weight(str): the parameter.
        nearest(float): squared error of the layer's output over its power of variation, with
            nearest rounding and its best bias.
        solved(float): the same with the solved codes; equal to ``nearest`` where those stay.
    """

    weight: str
    nearest: float
    solved: float


class LayerWalk:
    """Both streams, standing before the next layer.

    Args:
        network(Network): graph, scheme and samples.
        state(NetworkState): grids and nearest codes.
        rounding(str): ``solve`` or ``nearest``.
        streams(tuple, optional): the float and the quantized stream in front of the first layer.
            Default: None, both at the samples.

    Attributes:
        state(NetworkState): with what was rounded and corrected so far.
        layers(list[LayerRounding]): what was found for each weight; empty for ``nearest``.
        output_error(float): squared error of what leaves the last layers over its power of
            variation, on the samples; of several outputs the largest.
    """

    def __init__(self, network, state: NetworkState, rounding: str = "solve", streams=None):
        self.network, self.rounding = network, rounding
        self.state = state.copy()
        self.float_stream, self.quant_stream = streams or (Stream(network.store, network.samples),
                                                           Stream(network.store, network.samples))
        self.layers: List[LayerRounding] = []
        self.output_error = 0.0
        self._done = set(state.finished)

    def run(self, modules: List[Module], progress=None) -> NetworkState:
        """Round all layers of ``modules``, which were cut with granularity ``layer``.

        Args:
            modules(list[Module]): in execution order.
            progress(callable, optional): called behind each module. Default: None.

        Raises:
            DataError: a layer's input or output holds NaN or Inf.
        """
        units = [Unit.single(m) for m in modules]
        for k, unit in enumerate(units):
            self._module(unit, {n for later in units[k + 1:] for n in later.inputs})
            if k % TRIMMED_EVERY == 0:
                return_freed_memory()
            if progress:
                progress()
        return self.state

    def _module(self, unit: Unit, needed):
        network = self.network
        runner = UnitRunner(network.graph, network.graph.ops[unit.start:unit.stop], network.scheme,
                            network.constants)
        wanted: Dict[str, _Target] = {}
        for op in runner.ops:
            if network.scheme.is_quantized(op) and weight_name(op, network.graph) not in self._done:
                target = self._target(op, unit)
                wanted[target.whole.end] = target
        fetch = list(dict.fromkeys([*unit.outputs, *wanted]))

        def watch(values):
            for name, target in wanted.items():
                target.add(values[name])

        outputs = self.float_stream.computed(unit.inputs, unit.outputs,
                                             runner.numpy(runner.run, fetch), MEASURE_CHUNK, watch)
        for target in wanted.values():
            self._layer(target, unit, runner)
        run = self._quantized(runner, unit.outputs)
        changed = self.quant_stream.computed(unit.inputs, unit.outputs, run, MEASURE_CHUNK)
        self.output_error = max(self.output_error, end_error(changed, outputs, needed))
        self.float_stream.advance(outputs, needed)
        self.quant_stream.advance(changed, needed)

    def _target(self, op: Op, unit: Unit) -> "_Target":
        name = weight_name(op, self.network.graph)
        self._done.add(name)
        try:
            layout = (layer_rows(op, self.network.graph.params[name])
                      if self.rounding == "solve" else None)
        except UnsupportedOpError:  # a rare form of the op: nearest rounding stays
            layout = None
        seed = self.network.seed * 100003 + len(self._done)
        return _Target(op, layer_sum(op, unit, self.network.graph, self.network.scheme), layout,
                       lambda: Positions(layout, self.float_stream.num_samples, seed))

    def _layer(self, target: "_Target", unit: Unit, runner: UnitRunner):
        bias = self.network.biases.get(weight_name(target.op, self.network.graph))
        self.state.biases.pop(bias, None)  # an earlier correction: it belongs to the earlier codes
        if target.layout:
            source = activation_name(target.op)
            # what the unit reads itself need not be computed
            read = [source, *target.whole.added]
            run = None if set(read) <= set(unit.inputs) else self._quantized(runner, read)
            values = self.quant_stream.chunks(unit.inputs if run else read,
                                              run or (lambda feed: feed), MEASURE_CHUNK)
            self._solve(target, ([v[n] for n in read] for _, v in values))
        if bias:
            means = Means([output_axis(target.op)])
            run = self._quantized(runner, [target.whole.end])
            for _, values in self.quant_stream.chunks(unit.inputs, run, MEASURE_CHUNK):
                means.add(values[target.whole.end])
            self._correct(bias, target.means.value - means.value)

    def _solve(self, target: "_Target", values: Iterable[List[np.ndarray]]):
        """Round one weight for ``values``: its input before the activation's quantizer, and what is
        added to its output.
        """
        state, layout = self.state, target.layout
        name = weight_name(target.op, self.network.graph)
        encoding = state.activation_encodings.get(activation_name(target.op))
        gram = gram_of(layout, self.network.graph.params[name], target.with_inputs(values),
                       encoding and (lambda x: fake_quantize(x, encoding)))
        try:
            solution = solve(gram, layout.grid(state.weight_encodings[name]))
        except DataError as error:
            raise DataError(f"weight '{name}': {error}") from error
        state.codes[name] = layout.weight(solution.codes)
        state.solved.add(name)
        power = max(gram.target_power(), np.finfo(np.float64).tiny)
        self.layers.append(LayerRounding(name, float(solution.nearest.error.sum()) / power,
                                         float(solution.error.sum()) / power))

    def _correct(self, bias: str, change: np.ndarray):
        """Move the float bias by the difference of the measured means."""
        before = self.network.graph.params[bias]
        self.state.biases[bias] = (before + change.reshape(before.shape)).astype(np.float32)

    def _quantized(self, runner: UnitRunner, fetch: List[str]) -> Callable:
        return runner.numpy(runner.run_quantized, fetch, weights=self.state.parameters(runner),
                            quantizers=self.state.quantizers(runner.activations))


class _Target:
    """What is kept of a layer's output in the float network, with what is added to it: sampled rows
    and the mean of every channel, never the whole.

    Args:
        op(Op): the layer.
        whole(LayerSum): the sum that its output ends up in.
        layout(LayerRows|None): None where only the means are wanted.
        draw(callable): makes the Positions of the sample, the same every time.
    """

    def __init__(self, op: Op, whole: LayerSum, layout: Optional[LayerRows],
                 draw: Callable[[], Positions]):
        self.op, self.whole, self.layout = op, whole, layout
        self.means = Means([output_axis(op)])
        self._draw = draw
        self._positions = draw() if layout else None
        self._shapes: List[tuple] = []
        self._rows: List[np.ndarray] = []

    def add(self, values: np.ndarray):
        """The output for the next chunk of samples."""
        self.means.add(values)
        if self.layout:
            self._shapes.append(values.shape)
            self._rows += [self.layout.outputs(values, index)
                           for index in self._positions.next(values.shape)]

    def with_inputs(self, chunks: Iterable[List[np.ndarray]]
                    ) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Rows of the layer's input, and of what its output should be.

        Args:
            chunks(iterable): of the quantized network, in the same chunks: the layer's input, and
                what is added to its output, whose error is the layer's to make up for.
        """
        positions, rows = self._draw(), iter(self._rows)
        for shape, (x, *added) in zip(self._shapes, chunks):
            for index in positions.next(shape):
                wanted = sum((-self.layout.outputs(v, index) for v in added), next(rows))
                yield self.layout.inputs(x, shape, index), wanted


def rounded_layers(prepared, rounding: str, most: int = None) -> LayerWalk:
    """Round all layers of a prepared job and correct its biases, with a progress bar.

    Args:
        prepared(Prepared): the job; its state is not changed.
        rounding(str): ``solve`` or ``nearest``.
        most(int, optional): use no more samples than this. Default: None, all.

    Returns:
        LayerWalk: at its end.
    """
    network = prepared.network
    if most is not None:
        network = network.first(most)
    return walked(network, prepared.state, prepared.layers, rounding)


def walked(network, state: NetworkState, layers: List[Module], rounding: str) -> LayerWalk:
    """A ``LayerWalk`` at its end, with a progress bar; ``layers`` as of ``LayerWalk.run``."""
    walk = LayerWalk(network, state, rounding)
    title = "Solve" if rounding == "solve" else "Bias correction"
    with Progress(title, len(layers), "layer") as bar:
        walk.run(layers, bar.update)
    return walk


def solved_again(walker, layers: List[Module], unit: Unit) -> Optional[NetworkState]:
    """The state with one unit's layers rounded for the inputs that they get by now: training the
    units in front of it changed them, and codes solved for the old ones no longer fit.

    Args:
        walker(Walker): both streams in front of the unit; nothing of it is changed.
        layers(list[Module]): the network cut into single layers.
        unit(Unit): the next unit.

    Returns:
        NetworkState: None where nothing was solved or corrected before, or where single layers do
        not tile the unit.
    """
    if not (walker.state.solved or walker.network.biases):
        return None
    inside = [m for m in layers if unit.start <= m.start and m.stop <= unit.stop]
    if not inside or (inside[0].start, inside[-1].stop) != (unit.start, unit.stop):
        return None
    streams = [Stream(stream.store, {n: stream.values[n] for n in unit.inputs})
               for stream in (walker.float_stream, walker.quant_stream)]
    rounding = "solve" if walker.state.solved else "nearest"
    return LayerWalk(walker.network, walker.state, rounding, streams).run(inside)
