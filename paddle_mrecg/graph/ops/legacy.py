# SPDX-License-Identifier: Apache-2.0
"""Ops without a line of their own in the table: Paddle's generated functions, slot by slot.

Both Paddle versions carry one dygraph function for nearly every ProgramDesc op, with a gradient
where the op has one, and say which slots its arguments and results are.
"""
from typing import Dict, Mapping, Optional

import paddle
from paddle import _legacy_C_ops as functions

from ...compat import SCALAR_LIST, default_attrs, op_proto
from ..graph import Op

_ARGUMENTS = functions.get_core_ops_args_info()
_ARGUMENT_KINDS = functions.get_core_ops_args_type_info()
_RESULTS = functions.get_core_ops_returns_info()


def is_known(op: Op) -> bool:
    """Whether Paddle has a function that takes everything that ``op`` reads."""
    if op.type not in _ARGUMENTS or not hasattr(functions, op.type):
        return False
    return all(slot in _ARGUMENTS[op.type] for slot in op.inputs)


def run_generated(op: Op, values: Mapping[str, paddle.Tensor]) -> Dict[str, paddle.Tensor]:
    """Run an op that ``is_known``; arguments and result as of ``run_op``."""
    arguments = [_argument(op, name, kind, values)
                 for name, kind in zip(_ARGUMENTS[op.type], _ARGUMENT_KINDS[op.type])]
    known = {a.name: a.type for a in op_proto(op.type).attrs}
    for name, value in {**default_attrs(op.type), **op.attrs}.items():
        # given an empty list of scalars, Paddle's functions crash
        if name in known and (known[name] != SCALAR_LIST or len(value)):
            arguments += [name, value]
    result = getattr(functions, op.type)(*arguments)
    slots = _RESULTS[op.type]
    outputs = {}
    for slot, tensors in zip(slots, result if isinstance(result, tuple) else (result,)):
        tensors = tensors if isinstance(tensors, list) else [tensors]
        outputs.update(zip(op.outputs.get(slot, ()), tensors))
    return outputs


def _argument(op: Op, name: str, kind: str, values) -> Optional[object]:
    if name in op.inputs:
        tensors = [_contiguous(values[n]) for n in op.inputs[name]]
        return tensors if kind == "list" else tensors[0]
    if kind == "int":  # the number of results in a slot: "OutNum"
        return len(op.outputs.get(name[:-len("Num")], ()))
    if name in op.outputs:  # a result that the function fills
        made = [paddle.Tensor() for _ in op.outputs[name]]
        return made if kind == "list" else made[0]
    return None


def _contiguous(tensor):
    """These functions read memory as it lies, and a slice may be a view."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()
