# SPDX-License-Identifier: Apache-2.0
"""Run one interval of the graph in dygraph, float or quantized."""
from typing import Dict, Iterable, List, Mapping

import numpy as np
import paddle

from ..graph.graph import QUANTIZED, WEIGHT_SLOTS, Graph, Op
from ..graph.ops import run_op
from .drop import DropMask, StepMasks, mix
from .scheme import FAKE_QUANTIZE, Scheme


class UnitRunner:
    """A unit's ops with their parameters as tensors.

    Args:
        graph(Graph): the folded graph.
        ops(list[Op]): the interval to run, in order.
        scheme(Scheme): what is quantized.
        constants(dict[str, np.ndarray]): values of data-independent tensors.
    """

    def __init__(self, graph: Graph, ops: List[Op], scheme: Scheme,
                 constants: Mapping[str, np.ndarray]):
        self.ops = [op for op in ops if not _is_constant_op(op, constants)]
        self.quantized_ops = scheme.quantized_view(self.ops)
        names = dict.fromkeys(n for op in self.ops for n in op.input_names)
        self.fixed = {n: paddle.to_tensor(graph.params[n]) for n in names if n in graph.params}
        self.fixed.update({n: paddle.to_tensor(constants[n]) for n in names if n in constants})
        self.weights = [n for n in dict.fromkeys(op.input(WEIGHT_SLOTS[op.type][1])
                                                 for op in self.ops
                                                  if scheme.is_quantized(op))]
        # In op order, for masks are drawn in this order: a set's would
        # change from process to process.
        self.direct_inputs = list(dict.fromkeys(n for op in self.quantized_ops
                                                if op.type != FAKE_QUANTIZE
                                                for n in op.input_names))
        self.activations = [op.input("X") for op in self.quantized_ops if op.type == FAKE_QUANTIZE]

    def run(self, feed: Mapping[str, paddle.Tensor],
            fetch: Iterable[str]) -> Dict[str, paddle.Tensor]:
        """The float network on ``feed``."""
        values = dict(self.fixed, **feed)
        for op, dead in self._forgotten(self.ops, set(fetch)):
            values.update(run_op(op, values))
            _forget(values, dead)
        return {name: values[name] for name in fetch}

    def run_quantized(self, feed, fetch, weights: Mapping[str, paddle.Tensor], quantizers: Mapping,
                      drop: DropMask = None, float_feed: Mapping[str, paddle.Tensor] = None):
        """The quantized network on ``feed``.

        Args:
            feed(dict): activations of the quantized stream.
            fetch(list[str]): tensors to return.
            weights(dict): dequantized weights, soft or hard.
            quantizers(dict): activation name -> ActivationQuantizer.
            drop(DropMask, optional): draws one mask per tensor, whose elements under a
                zero stay float (QDrop). Default: None, everything is quantized.
            float_feed(dict, optional): the float stream's values of the same
                tensors; dropped elements of the unit's input take these
                (QDrop, section 4.2). Default: None, the quantized stream's.
        """
        values = dict(self.fixed, **feed)
        values.update(weights)
        masks = StepMasks(drop) if drop else None
        if masks and float_feed:
            # token ids, pixels as bytes and indices have no quantized twin to be mixed with
            for name in [n for n in self.direct_inputs
                         if n in feed and feed[n].dtype == paddle.float32]:
                values[name] = mix(feed[name], float_feed[name],
                                   masks.of(name, feed[name].shape))
        for op, dead in self._forgotten(self.quantized_ops, set(fetch)):
            if op.type != FAKE_QUANTIZE:
                values.update(run_op(op, values))
                _forget(values, dead)
                continue
            name = op.input("X")
            x = feed.get(name, values[name])
            values[name + QUANTIZED] = quantizers[name](
                x, mask=masks and masks.of(name, x.shape),
                float_x=float_feed.get(name) if float_feed else None)
            _forget(values, dead)
        return {name: values[name] for name in fetch}

    @staticmethod
    def _forgotten(ops: List[Op], kept):
        """Ops, each with the tensors that nothing reads behind it: forgetting them at once is what
        keeps a pass over a unit small.
        """
        last = {n: k for k, op in enumerate(ops) for n in (*op.output_names, *op.input_names)}
        dead: Dict[int, List[str]] = {}
        for name, k in last.items():
            if name not in kept:
                dead.setdefault(k, []).append(name)
        return [(op, dead.get(k, ())) for k, op in enumerate(ops)]

    def numpy(self, method, fetch, **kwargs):
        """``method`` (run or run_quantized) as a function of arrays, without gradients."""
        def call(feed: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
            with paddle.no_grad():
                result = method({n: paddle.to_tensor(v) for n, v in feed.items()}, fetch, **kwargs)
            return {n: v.numpy() for n, v in result.items()}
        return call


def _forget(values: Dict, names):
    for name in names:
        values.pop(name, None)


def _is_constant_op(op: Op, constants) -> bool:
    return bool(op.output_names) and all(name in constants for name in op.output_names if name)
