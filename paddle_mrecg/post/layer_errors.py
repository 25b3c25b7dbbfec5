# SPDX-License-Identifier: Apache-2.0
"""Error of every quantized layer by itself, and histograms of the worst ones, for the report."""
from typing import Dict, List, Optional, Sequence

import numpy as np
import paddle

from ..data.amount import enough_samples
from ..graph.graph import WEIGHT_SLOTS, Op, activation_name, weight_name
from ..graph.ops import run_op
from ..grids.affine import Encoding, position, quantize
from ..report.layers import HISTOGRAM_COLUMNS, Histogram, LayerReport, ranked
from .layer_biases import output_axis
from .network_state import NetworkState
from .sums import Powers
from .unit_runner import UnitRunner

# one at a time: a histogram and a ranking need no more, and fewer of large ones
ERROR_SAMPLES, LEAST_ERROR_SAMPLES = 4, 2
DRAWN = 6  # layers with histograms
MARGIN = 0.15  # of the grid's width, on either side of it


class _Layer:
    """One layer's sums: of its output, and of what quantization changes in it.

    ``centred`` leaves out of the changes what a bias per channel can take away.
    """

    def __init__(self, op: Op, weight: str, centred: bool):
        self.op, self.weight, self.source = op, weight, activation_name(op)
        self.result, self.centred = op.output(WEIGHT_SLOTS[op.type][2]), centred
        self.output = Powers([output_axis(op)])
        self.parts = {name: Powers([output_axis(op)])
                      for name in ("error", "weight_error", "activation_error", "arriving_error")}

    def errors(self) -> Dict[str, float]:
        """Root mean square over that of the output's variation; 0 for an output without any."""
        power = self.output.variation()
        changes = {name: part.variation() if self.centred else part.squares
                   for name, part in self.parts.items()}
        return {name: float(np.sqrt(change / power)) if power else 0.0
                for name, change in changes.items()}


def layer_errors(network, state: NetworkState, samples: int = ERROR_SAMPLES,
                 drawn: int = DRAWN) -> List[LayerReport]:
    """Measure all quantized layers.

    Args:
        network(Network): graph, scheme and samples.
        state(NetworkState): the codes and grids of the result.
        samples(int, optional): how many to run, fewer of large ones. Default: 4.
        drawn(int, optional): how many of the worst layers get histograms. Default: 6.

    Returns:
        list[LayerReport]: in execution order; a weight that several ops read is one layer.
    """
    runner = UnitRunner(network.graph, network.scheme.up_to_layers(network.reached),
                        network.scheme, network.constants)
    layers: Dict[str, _Layer] = {}
    for op in runner.ops:
        if network.scheme.is_quantized(op):
            name = weight_name(op, network.graph)
            layers.setdefault(name, _Layer(op, name, name in network.biases))
    count = enough_samples(samples, network.samples, LEAST_ERROR_SAMPLES)
    feeds = [{n: v[k:k + 1] for n, v in network.samples.items()} for k in range(count)]
    for feed in feeds:
        _run_sample(network, state, runner, layers, feed)
    reports = [_layer_report(network, state, layer) for layer in layers.values()]
    worst = {r.name: r for r in ranked(reports)[:drawn]}
    _draw(network, state, runner, [(layers[name], report) for name, report in worst.items()], feeds)
    return reports


def _run_sample(network, state: NetworkState, runner: UnitRunner, layers: Dict[str, _Layer], feed):
    """One sample through the float network, the quantized one, and every layer by itself."""
    results = list(dict.fromkeys(layer.result for layer in layers.values()))
    sources = list(dict.fromkeys(layer.source for layer in layers.values()))
    with paddle.no_grad():
        values = {n: paddle.to_tensor(v) for n, v in feed.items()}
        weights, quantizers = state.parameters(runner), state.quantizers(runner.activations)
        arrived = runner.run_quantized(values, results, weights, quantizers)
        values = runner.run(values, sources + results)
        for layer in layers.values():
            expected = values[layer.result].numpy()
            layer.output.add(expected)
            _add_parts(layer, runner, values, weights, quantizers, expected)
            layer.parts["arriving_error"].add(arrived[layer.result].numpy() - expected)


def _add_parts(layer: _Layer, runner: UnitRunner, values, weights, quantizers, expected):
    source, float_weight = values[layer.source], runner.fixed[layer.weight]
    rounded = quantizers[layer.source](source) if layer.source in quantizers else source
    for name, inputs in (("error", (rounded, weights[layer.weight])),
                         ("weight_error", (source, weights[layer.weight])),
                         ("activation_error", (rounded, float_weight))):
        given = {**runner.fixed, layer.source: inputs[0], layer.weight: inputs[1]}
        output = run_op(layer.op, given)[layer.result]
        layer.parts[name].add(output.numpy() - expected)


def _layer_report(network, state: NetworkState, layer: _Layer) -> LayerReport:
    encoding = state.activation_encodings.get(layer.source)
    return LayerReport(layer.weight, layer.op.type, list(network.graph.params[layer.weight].shape),
                       network.scheme.weights[layer.weight].bits,
                       encoding.spec.bits if encoding else None, **layer.errors())


def _draw(network, state: NetworkState, runner: UnitRunner, worst: Sequence, feeds):
    """Histograms of the float weights and inputs of the worst layers."""
    sources = list(dict.fromkeys(layer.source for layer, _ in worst))
    run = runner.numpy(runner.run, sources)
    inputs = [run(feed) for feed in feeds]
    for layer, report in worst:
        report.weights = histogram([network.graph.params[layer.weight]],
                                   state.weight_encodings[layer.weight])
        encoding = state.activation_encodings.get(layer.source)
        report.activations = histogram([values[layer.source] for values in inputs], encoding)


def histogram(arrays: Sequence[np.ndarray], encoding: Optional[Encoding]) -> Optional[Histogram]:
    """Count values on and around their grid.

    Args:
        arrays(list[np.ndarray]): values of any shape.
        encoding(Encoding, optional): their grid; with one scale per channel the unit is one step.

    Returns:
        Histogram: None without a grid.
    """
    if encoding is None:
        return None
    spec, steps = encoding.spec, encoding.spec.axis is not None
    low, high = (spec.qmin, spec.qmax) if steps else map(float, encoding.range)
    values = [position(a, encoding) + encoding.along(encoding.zero_point, np.ndim(a)) if steps
              else np.asarray(a, np.float32) for a in arrays]
    step = 1.0 if steps else float(encoding.scale)
    margin = max(1.0, np.ceil(MARGIN * (spec.qmax - spec.qmin))) * step
    levels = spec.qmax - spec.qmin + 1
    width = round((high - low + 2 * margin) / step)  # in steps
    columns = (width * (HISTOGRAM_COLUMNS // width) if width < HISTOGRAM_COLUMNS
               else HISTOGRAM_COLUMNS)
    edges = np.linspace(low - margin, high + margin, columns + 1)
    flat = np.concatenate([v.reshape(-1) for v in values])
    codes = np.unique(np.concatenate([np.unique(quantize(a, encoding)) for a in arrays]))
    beyond = float(np.mean((flat < low - step / 2) | (flat > high + step / 2)))
    counts = np.histogram(np.clip(flat, edges[0], edges[-1]), edges)[0]
    return Histogram(float(edges[0]), float(edges[-1]), counts.tolist(), float(low), float(high),
                     levels, len(codes), beyond)
