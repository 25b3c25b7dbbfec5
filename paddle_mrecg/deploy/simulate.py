# SPDX-License-Identifier: Apache-2.0
"""The reference: a quantized program run op by op, with each quantizer's definition."""
from collections import Counter
from typing import Dict, Mapping, Sequence

import numpy as np
import paddle

from .arrays import joined_by_name, one_by_one
from .rewrites import activation_encoding, dequantized_weight
from ..graph.graph import Graph, Op, ops_behind
from ..graph.ops import run_op
from ..graph.program import is_quantize_op
from ..grids.affine import Encoding, QuantSpec, fake_quantize


def simulate(graph: Graph, feed: Mapping[str, np.ndarray], fetch: Sequence[str],
             jitter: float = 0.0) -> Dict[str, np.ndarray]:
    """Values of ``fetch``; tensors behind an op that nothing here can run are left out. What runs
    on one sample at a time only is run so, and joined along the first axis.

    Args:
        graph(Graph): a quantized or float program.
        feed(dict): input name -> array.
        fetch(list[str]): tensors to return.
        jitter(float, optional): relative change of every activation before it is rounded. A runtime
            that adds in another order changes them by about 1e-6; what that does to the outputs is
            the least difference to expect. Default: 0.
    """
    found = _simulated(graph, feed, fetch, jitter)
    if len(found) < len(set(fetch)):
        parts = [_simulated(graph, sample, fetch, jitter) for sample in one_by_one(feed)]
        if parts and len(parts[0]) > len(found):
            return joined_by_name(parts)
    return found


def _simulated(graph: Graph, feed, fetch: Sequence[str], jitter: float) -> Dict[str, np.ndarray]:
    quantized = _Quantizers(graph, jitter)
    ops = ops_behind(graph.ops, fetch)
    readers = Counter(name for op in ops for name in set(op.input_names))
    values = {n: paddle.to_tensor(v) for n, v in {**graph.params, **feed}.items()
              if v.dtype != np.int8}
    wanted, found = set(fetch), {n: feed[n] for n in fetch if n in feed}
    with paddle.no_grad():
        for op in ops:
            values.update(_run_quantized(op, values, quantized))
            for name in wanted & set(op.output_names) & set(values):
                found[name] = values[name].numpy()
            # feature maps are large: forget what nothing reads any more
            for name in set(op.input_names):
                readers[name] -= 1
                if not readers[name] and name not in graph.params:
                    values.pop(name, None)
    return found


def _run_quantized(op: Op, values: Dict[str, paddle.Tensor],
                   quantized: "_Quantizers") -> Dict[str, paddle.Tensor]:
    if is_quantize_op(op.type):
        return quantized.run(op, values)
    if any(name not in values for name in op.input_names):
        return {}
    try:
        return run_op(op, values)
    except Exception:  # a rare attribute, or whatever a kernel raises: nothing behind it is known
        return {}


class _Quantizers:
    """The ops of ``quantize_linear`` and ``fake_quantize_dequantize`` programs."""

    def __init__(self, graph: Graph, jitter: float = 0.0):
        self.graph, self.producers, self.factor = graph, graph.producers(), np.float32(1.0 + jitter)

    def run(self, op: Op, values) -> Dict[str, paddle.Tensor]:
        name = op.input("X")
        out = op.output("Y") or op.output("Out")
        if op.type == "dequantize_linear" and name in self.graph.params:
            return {out: paddle.to_tensor(dequantized_weight(op, self.graph))}
        if op.type == "quantize_linear":
            return {out: values[name]} if name in values else {}  # rounded by its dequantize_linear
        source = self.producers.get(name)
        if (op.type == "dequantize_linear" and source is not None
            and source.type == "quantize_linear"):
            op = source
            name = op.input("X")
            value, encoding = (values.get(source.output("Y")),
                               activation_encoding(source, self.graph))
        else:
            value = values.get(name)
            encoding = _fake_encoding(op, value, self.graph)
        return ({} if value is None
                else {out: paddle.to_tensor(fake_quantize(value.numpy() * self.factor, encoding))})


def _fake_encoding(op: Op, value, graph: Graph) -> Encoding:
    """The grid of a ``fake_quantize_dequantize`` op: from its stored scale,
    or from the weight itself.
    """
    bits = op.attrs.get("bit_length", 8)
    stored = graph.params.get(op.input("InScale") or "")
    axis = op.attrs.get("quant_axis", 0) if "channel_wise" in op.type else None
    qmax = np.float32(2**(bits - 1) - 1)
    spec = QuantSpec(bits, signed=True, symmetric=True, axis=axis)
    if axis is not None:
        array = value.numpy()
        top = np.abs(array).max(axis=tuple(k for k in range(array.ndim) if k != axis))
    else:
        top = np.ravel(stored)[0] if stored is not None else np.abs(value.numpy()).max()
    scale = np.maximum(np.float32(top) / qmax, np.finfo(np.float32).tiny)
    return Encoding(spec, scale, np.zeros_like(scale))
