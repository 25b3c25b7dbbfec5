# SPDX-License-Identifier: Apache-2.0
"""Ops that dygraph cannot run: Paddle's Executor runs them, forward only, on the CPU."""
import weakref
from typing import Dict, Mapping

import paddle
from paddle.autograd import PyLayer

from ..carried import has_arrays
from ..execute import GraphExecutor
from ..graph import Graph, Op, TensorInfo

_PREPARED: "weakref.WeakKeyDictionary[Op, GraphExecutor]" = weakref.WeakKeyDictionary()


def run_in_executor(op: Op, values: Mapping[str, paddle.Tensor]) -> Dict[str, paddle.Tensor]:
    """Run ``op``; arguments and result as of ``run_op``. Its inputs get a gradient of zeros.

    Raises:
        Exception: whatever Paddle raises when the op cannot run on these inputs.
    """
    feed = {name: values[name].numpy() for name in op.input_names}
    executor = _PREPARED.get(op)
    if executor is None:
        executor = GraphExecutor(_alone(op, feed), op.output_names)
        if not has_arrays(op):  # they keep what was appended, for the next run to append to
            _PREPARED[op] = executor
    arrays = executor.run(feed)
    trained = [values[n] for n in op.input_names if not values[n].stop_gradient]
    results = {}
    for name, array in zip(op.output_names, arrays):
        result = paddle.to_tensor(array)
        if trained and paddle.is_grad_enabled() and array.dtype.kind == "f":
            result = _Closed.apply(result, *trained)
        results[name] = result
    return results


class _Closed(PyLayer):
    """A result through which nothing flows back: who waits for a gradient gets zeros, not None."""

    @staticmethod
    def forward(ctx, result, *inputs):
        ctx.save_for_backward(*inputs)
        return result.clone()

    @staticmethod
    def backward(ctx, gradient):
        zeros = [paddle.zeros_like(t) for t in ctx.saved_tensor()]
        return (None, *zeros)


def _alone(op, feed):
    tensors = {n: TensorInfo(n, (-1,) * a.ndim, a.dtype.name) for n, a in feed.items()}
    tensors.update({n: TensorInfo(n) for n in op.output_names if n not in tensors})
    inputs, outputs = ({k: list(v) for k, v in slots.items()} for slots in (op.inputs, op.outputs))
    alone = Op(op.type, inputs, outputs, dict(op.attrs))
    return Graph([alone], tensors, {}, list(feed), op.output_names)
