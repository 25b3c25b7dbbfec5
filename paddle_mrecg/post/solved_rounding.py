# SPDX-License-Identifier: Apache-2.0
"""Solve the rounding and correct the biases of a network, layer by layer, before any training.

Both streams walk through the network once, as reconstruction does. In front of each layer stand its
input in the quantized network and its output in the float one; ``solve`` rounds the weight for them
and the bias takes what remains of the mean. Without ``rounding: solve`` the weight stays at nearest
rounding and the bias alone is corrected.
"""
import dataclasses
from typing import Dict, List, Optional, Tuple

import numpy as np

from ..errors import UnsupportedOpError
from ..graph.graph import WEIGHT_SLOTS, Op, activation_name, weight_name
from ..graph.partition import Module, Unit
from ..grids.affine import fake_quantize
from ..report.progress import Progress
from .layer_biases import channel_means
from .layer_rows import gram_of, layer_rows, sampled_rows
from .network_state import NetworkState
from .solve import solve
from .streams import Stream
from .unit_loss import MEASURE_CHUNK
from .unit_runner import UnitRunner


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
    """

    def __init__(self, network, state: NetworkState, rounding: str = "solve"):
        self.network, self.rounding = network, rounding
        self.state = state.copy()
        self.float_stream = Stream(network.store, network.samples)
        self.quant_stream = Stream(network.store, network.samples)
        self.layers: List[LayerRounding] = []
        self._done = set()

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
            if progress:
                progress()
        return self.state

    def _module(self, unit: Unit, needed):
        network = self.network
        runner = UnitRunner(network.graph, network.graph.ops[unit.start:unit.stop], network.scheme,
                            network.constants)
        layers = [op for op in runner.ops if network.scheme.is_quantized(op)]
        fetch = list(dict.fromkeys([*unit.outputs, *map(_result, layers)]))
        target = self.float_stream.computed(unit.inputs, fetch, runner.numpy(runner.run, fetch),
                                            MEASURE_CHUNK)
        for op in layers:
            if weight_name(op, network.graph) not in self._done:
                self._layer(op, unit, runner, target[_result(op)])
        outputs = self._quantized(unit, runner, unit.outputs)
        self.float_stream.advance({n: target[n] for n in unit.outputs}, needed)
        self.quant_stream.advance(outputs, needed)

    def _layer(self, op: Op, unit: Unit, runner: UnitRunner, target: np.ndarray):
        name, source = weight_name(op, self.network.graph), activation_name(op)
        self._done.add(name)
        if self.rounding == "solve":
            read = self.quant_stream.values.get(source) if source in unit.inputs else None
            values = read if read is not None else self._quantized(unit, runner, [source])[source]
            self._solve(op, name, values, target)
        if name in self.network.biases:
            result = _result(op)
            output = self._quantized(unit, runner, [result])[result]
            self._correct(op, self.network.biases[name], target, output)

    def _solve(self, op: Op, name: str, values: np.ndarray, target: np.ndarray):
        """Round one weight for ``values``, its input before the activation's quantizer."""
        state, weight = self.state, self.network.graph.params[name]
        try:
            layout = layer_rows(op, weight)
        except UnsupportedOpError:  # a rare form of the op: nearest rounding stays
            return
        encoding = state.activation_encodings.get(activation_name(op))
        chunks = ((values[i:i + MEASURE_CHUNK], target[i:i + MEASURE_CHUNK])
                  for i in range(0, len(target), MEASURE_CHUNK))
        seed = self.network.seed * 100003 + len(self._done)
        rows = sampled_rows(layout, chunks, len(target), seed)
        gram = gram_of(layout, weight, rows,
                       encoding and (lambda x: fake_quantize(x, encoding)))
        solution = solve(gram, layout.grid(state.weight_encodings[name]))
        state.codes[name] = layout.weight(solution.codes)
        state.solved.add(name)
        power = max(gram.target_power(), np.finfo(np.float64).tiny)
        self.layers.append(LayerRounding(name, float(solution.nearest.error.sum()) / power,
                                         float(solution.error.sum()) / power))

    def _correct(self, op: Op, bias: str, target: np.ndarray, output: np.ndarray):
        """Move the bias by the difference of the measured means."""
        before = self.state.biases.get(bias, self.network.graph.params[bias])
        change = channel_means(op, target) - channel_means(op, output)
        self.state.biases[bias] = (before + change.reshape(before.shape)).astype(np.float32)

    def _quantized(self, unit: Unit, runner: UnitRunner, fetch: List[str]) -> Dict[str, np.ndarray]:
        run = runner.numpy(runner.run_quantized, fetch, weights=self.state.parameters(runner),
                           quantizers=self.state.quantizers(runner.activations))
        return self.quant_stream.computed(unit.inputs, fetch, run, MEASURE_CHUNK)


def rounded_layers(prepared, rounding: str,
                   most: int = None) -> Tuple[NetworkState, List[LayerRounding]]:
    """Round all layers of a prepared job and correct its biases, with a progress bar.

    Args:
        prepared(Prepared): the job; its state is not changed.
        rounding(str): ``solve`` or ``nearest``.
        most(int, optional): use no more samples than this. Default: None, all.

    Returns:
        tuple: the new state, and what was found for each weight (nothing for ``nearest``).
    """
    network = prepared.network
    if most is not None:
        network = dataclasses.replace(network,
                                      samples={n: v[:most] for n, v in network.samples.items()})
    walk = LayerWalk(network, prepared.state, rounding)
    title = "Solve" if rounding == "solve" else "Bias correction"
    with Progress(title, len(prepared.layers), "layer") as bar:
        return walk.run(prepared.layers, bar.update), walk.layers


def _result(op: Op) -> Optional[str]:
    return op.output(WEIGHT_SLOTS[op.type][2])
