# SPDX-License-Identifier: Apache-2.0
"""Ops that paddle2onnx leaves out or gets wrong, written with ops that it gets right."""
import numpy as np

from ..errors import ModelError
from ..graph.graph import Graph, Op, TensorInfo
from .lite.same_ops import expand_by_shape, wrong_forms
from .rewrites import add_param


def as_paddle2onnx_reads_it(graph: Graph) -> None:
    """Change ``graph`` in place.

    Raises:
        ModelError: a layout or a padding that would be taken for another.
    """
    wrong = wrong_forms(graph) + sorted(
        {f"{op.type} with mode circular" for op in graph.ops if op.attrs.get("mode") == "circular"})
    if wrong:
        raise ModelError(f"paddle2onnx has no form for {', '.join(wrong)}: express it with other "
                         "ops (data_format NCHW, slices and concat) and export again")
    expand_by_shape(graph)
    ops = []
    for op in graph.ops:
        if op.type == "softplus" and op.attrs.get("beta", 1.0) != 1.0:
            ops += _scaled_softplus(op, graph)
        elif op.type == "channel_shuffle":
            ops.append(_gathered(op, graph))
        else:
            ops.append(op)
    graph.ops = ops


def _scaled_softplus(op: Op, graph: Graph):
    """``log(1 + exp(beta x)) / beta``: the converter forgets ``beta``, and the threshold from which
    on the value is ``x``, of which Paddle's 20 shows in no digit of float32.
    """
    source, out, beta = op.input("X"), op.output("Out"), op.attrs["beta"]
    large, small = (graph.unique_name(f"{out}.{word}") for word in ("large", "small"))
    for name in (large, small):
        graph.tensors[name] = TensorInfo(name, graph.tensors[out].shape)
    return [_scale(source, large, beta), Op("softplus", {"X": [large]}, {"Out": [small]},
                                            {"beta": 1.0, "threshold": 20.0}),
            _scale(small, out, 1.0 / beta)]


def _scale(source: str, out: str, factor: float) -> Op:
    return Op("scale", {"X": [source]}, {"Out": [out]},
              {"scale": factor, "bias": 0.0, "bias_after_scale": True})


def _gathered(op: Op, graph: Graph) -> Op:
    """The shuffle as a choice of channels."""
    groups, channels = op.attrs["groups"], graph.tensors[op.input("X")].shape[1]
    order = np.arange(channels).reshape(groups, -1).T.ravel()
    index = add_param(graph, f"{op.output('Out')}.order", order.astype(np.int64))
    return Op("index_select", {"X": op.inputs["X"], "Index": [index]}, op.outputs, {"dim": 1})
