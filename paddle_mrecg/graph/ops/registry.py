# SPDX-License-Identifier: Apache-2.0
"""The table: op type -> function of the op's tensors and attributes."""
import weakref
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Set

import paddle

from ...errors import UnsupportedOpError
from ..graph import Op
from ..params import DTYPE_NAMES
from . import legacy, opaque

SUPPORTED: Set[str] = set()
_TABLE: Dict[str, tuple] = {}
_FORWARD_ONLY: "weakref.WeakSet[Op]" = weakref.WeakSet()
ASKS_FOR_SHAPE = ("shape", "size")
_KERNEL_ERRORS = (UnsupportedOpError, ValueError, TypeError, RuntimeError, AttributeError,
                  NotImplementedError, IndexError)


class Call:
    """One op about to run: ``call("X")`` is a tensor, ``call.attr("axis", -1)`` an attribute.

    Args:
        op(Op): the op.
        values(Mapping[str, paddle.Tensor]): tensors by name, parameters included.
    """

    def __init__(self, op: Op, values: Mapping[str, paddle.Tensor]):
        self.op, self._values = op, values

    def __call__(self, slot: str) -> Optional[paddle.Tensor]:
        """The tensor in ``slot``, None when the slot is empty."""
        name = self.op.input(slot)
        return self._values[name] if name else None

    def all(self, slot: str) -> List[paddle.Tensor]:
        """Every tensor in ``slot``."""
        return [self._values[name] for name in self.op.inputs.get(slot, ())]

    def attr(self, name: str, default: Any = None) -> Any:
        return self.op.attrs.get(name, default)

    def ints(self, attr: str, tensor_slot: str = "", list_slot: str = "", default=()) -> List[int]:
        """Integers that come as a list of scalar tensors, as one tensor or as an
        attribute, in this order.
        """
        scalars = self.all(list_slot)
        if scalars:
            return [int(t.item()) for t in scalars]
        tensor = self(tensor_slot)
        if tensor is not None:
            return [int(v) for v in tensor.flatten().tolist()]
        value = self.attr(attr, default)
        return list(value) if isinstance(value, (list, tuple)) else [value]

    def number(self, attr: str, tensor_slot: str, default):
        """A number that comes as a one-element tensor or as an attribute."""
        tensor = self(tensor_slot)
        return self.attr(attr, default) if tensor is None else tensor.item()

    def dtype(self, attr: str = "dtype", default: str = "float32") -> str:
        """A dtype attribute (ProgramDesc's number) as a numpy name;
        ``default`` where absent or -1.
        """
        return DTYPE_NAMES.get(self.attr(attr, -1), default)

    def unsupported(self, detail: str) -> UnsupportedOpError:
        return UnsupportedOpError(self.op.type, f" with {detail}")


def rule(*op_types: str, out: str = "Out") -> Callable:
    """Register ``function(call)`` for ``op_types``.

    Args:
        op_types(str): the types that the function runs.
        out(str, optional): the output slots, separated by spaces. A function for one slot
            returns its tensor, or a list for a slot with several names; for several slots it
            returns a tuple. Default: ``Out``.
    """
    def register(function):
        for op_type in op_types:
            _TABLE[op_type] = (function, out.split())
        SUPPORTED.update(op_types)
        return function
    return register


def register_table(slots: str, functions: Mapping[str, Callable]) -> None:
    """Register functions of nothing but the tensors in ``slots`` (separated by
    spaces), one line per op.
    """
    names = slots.split()
    for op_type, function in functions.items():
        rule(op_type)(lambda call, function=function: function(*(call(name) for name in names)))


def run_op(op: Op, values: Mapping[str, paddle.Tensor]) -> Dict[str, paddle.Tensor]:
    """Run one op: by the table, by Paddle's generated function, or else by the Executor. One that
    takes a sample at a time (``Op.alone``) gets them so; its results are joined along axis 0.

    Args:
        op(Op): the op.
        values(Mapping[str, paddle.Tensor]): at least the op's inputs and parameters; not changed.

    Returns:
        dict[str, paddle.Tensor]: output name -> tensor. A tensor may be the very input (dropout,
        assign). Through what the Executor wrote only zeros flow back: see ``has_gradient``.

    Raises:
        UnsupportedOpError: no way leads to a result, or a rare attribute is not in the table.
    """
    parts = _parts_by_sample(op, values) if op.alone else []
    if len(parts) < 2:
        return _run_whole(op, values)
    results = [_run_whole(op, {**values, **part}) for part in parts]
    if op.type in ASKS_FOR_SHAPE:  # of one sample, which is what the program was made for
        return results[0]
    return {name: paddle.concat([result[name] for result in results]) for name in results[0]}


def _parts_by_sample(op: Op, values: Mapping[str, paddle.Tensor]) -> List[Dict[str, paddle.Tensor]]:
    """What an op reads of each sample; what all samples share is left out."""
    own = {n: (values[n], size) for n, size in zip(op.input_names, op.alone) if size}
    counts = {len(value) // size for value, size in own.values()}
    count = counts.pop() if len(counts) == 1 else 0
    return [{n: value[k * size:(k + 1) * size] for n, (value, size) in own.items()}
            for k in range(count)]


def _run_whole(op: Op, values: Mapping[str, paddle.Tensor]) -> Dict[str, paddle.Tensor]:
    problem = None
    for way in (_by_table, _by_function) if op not in _FORWARD_ONLY else ():
        try:
            return way(op, values)
        except _KERNEL_ERRORS as error:
            problem = problem or error
    try:
        outputs = opaque.run_in_executor(op, values)
    except Exception as error:  # whatever Paddle raises; dygraph's own words tell more
        raise (problem or error) from None
    _FORWARD_ONLY.add(op)
    return outputs


def _by_table(op, values):
    function, slots = _TABLE.get(op.type, (None, ()))
    if function is None or not set(op.outputs).issubset(slots):  # or a by-product is read
        return _by_function(op, values)
    result = function(Call(op, values))
    outputs = {}
    for slot, tensors in zip(slots, result if len(slots) > 1 else (result,)):
        outputs.update(zip(op.outputs.get(slot, ()),
                           tensors if isinstance(tensors, list) else [tensors]))
    return outputs


def _by_function(op, values):
    if not legacy.is_known(op):
        raise UnsupportedOpError(op.type)
    return legacy.run_generated(op, values)


def has_gradient(op: Op) -> bool:
    """False for an op that has run and that only the Executor can run."""
    return op not in _FORWARD_ONLY


def run_ops(ops: Iterable[Op], values: Dict[str, paddle.Tensor]) -> Dict[str, paddle.Tensor]:
    """Run ops in order and add what they produce to ``values``, which is returned."""
    for op in ops:
        values.update(run_op(op, values))
    return values
