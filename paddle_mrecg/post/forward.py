# SPDX-License-Identifier: Apache-2.0
"""The float network, op by op, holding no more than a forward pass needs."""
from typing import Dict, Iterator, List, Tuple

import paddle

from ..graph.graph import Op
from ..graph.ops import run_op


def forward(ops: List[Op],
            values: Dict[str, paddle.Tensor]) -> Iterator[Tuple[Op, Dict[str, paddle.Tensor]]]:
    """Run ``ops`` without gradients.

    Args:
        ops(list[Op]): in order.
        values(dict): tensors by name, parameters included; changed in place: a tensor is forgotten
            as soon as no later op reads it.

    Yields:
        tuple: an op that has run, and the tensors by name while its inputs and outputs are there.
    """
    last_use = {n: k for k, op in enumerate(ops) for n in op.input_names}
    for k, op in enumerate(ops):
        with paddle.no_grad():
            values.update(run_op(op, values))
        yield op, values
        for name in {*op.input_names, *op.output_names}:
            if last_use.get(name, k) == k:
                values.pop(name, None)
