# SPDX-License-Identifier: Apache-2.0
"""Ops that dygraph cannot run: Paddle's Executor runs them, forward only, on the CPU."""
import weakref
from typing import Dict, Mapping

import paddle

from ..execute import GraphExecutor
from ..graph import Graph, Op, TensorInfo

_PREPARED: "weakref.WeakKeyDictionary[Op, GraphExecutor]" = weakref.WeakKeyDictionary()


def run(op: Op, values: Mapping[str, paddle.Tensor]) -> Dict[str, paddle.Tensor]:
    """Run ``op``; arguments and result as of ``run_op``. What it writes takes no gradient.

    Raises:
        Exception: whatever Paddle raises when the op cannot run on these inputs.
    """
    feed = {name: values[name].numpy() for name in op.input_names}
    if op not in _PREPARED:
        _PREPARED[op] = GraphExecutor(_alone(op, feed), op.output_names)
    arrays = _PREPARED[op].run(feed)
    return {name: paddle.to_tensor(array) for name, array in zip(op.output_names, arrays)}


def _alone(op, feed):
    tensors = {n: TensorInfo(n, (-1,) * a.ndim, a.dtype.name) for n, a in feed.items()}
    tensors.update({n: TensorInfo(n) for n in op.output_names if n not in tensors})
    inputs, outputs = ({k: list(v) for k, v in slots.items()} for slots in (op.inputs, op.outputs))
    alone = Op(op.type, inputs, outputs, dict(op.attrs))
    return Graph([alone], tensors, {}, list(feed), op.output_names)
