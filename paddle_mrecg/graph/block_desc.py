# SPDX-License-Identifier: Apache-2.0
"""Ops and tensors of a graph as entries of ProgramDesc's blocks."""
from typing import Any, Set

import numpy as np

from ..compat import SCALAR_LIST, default_attrs, op_proto
from ..errors import ModelError
from .carried import BLOCK_ATTR, STEP_SCOPES, TENSOR, Region
from .graph import Graph, Op, TensorInfo
from .params import DTYPE_CODES
from .program import BY_PRODUCTS, tensor_desc

(
    _INT,
    _FLOAT32,
    _STRING,
    _INTS,
    _FLOATS,
    _STRINGS,
    _BOOLEAN,
    _BOOLEANS,
    _LONG,
    _LONGS,
    _FLOAT64S,
    _FLOAT64,
) = (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 15)
_FIELDS = {_INT: ("i", int), _FLOAT32: ("f", float), _STRING: ("s", str), _INTS: ("ints", int),
           _FLOATS: ("floats", float), _STRINGS: ("strings", str), _BOOLEAN: ("b", bool),
           _BOOLEANS: ("bools", bool), _LONG: ("l", int), _LONGS: ("longs", int),
           _FLOAT64S: ("float64s", float), _FLOAT64: ("float64", float)}
_LIST_TYPES = (_INTS, _FLOATS, _STRINGS, _BOOLEANS, _LONGS, _FLOAT64S)
FEED_LIST, FETCH_LIST = 9, 10  # kinds of variables

# by-products of training alone
_NEVER_WRITTEN = ("ReserveSpace", "OutState", "OutAccum", "OutScale")
# Paddle Lite's converter insists on all attributes. Those of the op's definition are written with
# their defaults; of these Paddle's own exporter leaves out even the name.
_REQUIRED_ATTRS = {"relu6": {"threshold": 6.0}}

# What Paddle's exporter writes with every op, and passes of Paddle and PaddleSlim ask for unseen.
# 0: part of the forward pass.
_BOOKKEEPING = {"op_role": (_INT, 0), "op_role_var": (_STRINGS, ()), "op_namescope": (_STRING, "/"),
                "op_callstack": (_STRINGS, ()), "op_device": (_STRING, ""),
                "with_quant_attr": (_BOOLEAN, False)}


def add_variable(block, name: str, kind: int, info: TensorInfo = None, persistable: bool = False):
    """Add a variable, with type and shape where it is a tensor or an array of tensors."""
    var = block.vars.add(name=name, persistable=persistable)
    var.type.type = kind
    if info is not None:
        described = tensor_desc(var)
        described.data_type = DTYPE_CODES[info.dtype]
        described.dims.extend(int(d) for d in info.shape)
    return var


def add_tensors(block, graph: Graph) -> None:
    """Add every tensor that an op of the graph reads or writes."""
    names = dict.fromkeys(list(graph.inputs) + list(graph.params))
    for op in graph.ops:
        names.update(dict.fromkeys(op.input_names + op.output_names))
    for name in names:
        if name in graph.params:
            array = graph.params[name]
            var = add_variable(block, name, TENSOR, TensorInfo(name, array.shape, array.dtype.name),
                               persistable=True)
            var.is_parameter = True
            var.stop_gradient = True
        else:
            var = add_variable(block, name, TENSOR, graph.tensors.get(name, TensorInfo(name)))
            if name in graph.inputs:
                var.need_check_feed = True


def add_region(program, block, region: Region, names: Set[str]) -> None:
    """Add the variables and the ops of a region to ``block``; blocks inside get their own.

    Args:
        program(ProgramDesc): which ``block`` belongs to.
        block(BlockDesc): one that has no variables of these names yet.
        region(Region): what is added.
        names(set[str]): all names that are taken, to which by-products are added.
    """
    for name in region.names:
        kind = region.kinds.get(name, TENSOR)
        info = region.tensors.get(name, TensorInfo(name))
        add_variable(block, name, kind, None if kind == STEP_SCOPES else info)
    for op in region.ops:
        add_op(program, block, op, names)


def _with_by_products(block, op, names):
    """The op with the outputs that Paddle insists on although nothing reads them."""
    slots = BY_PRODUCTS.get(op.type, ())
    missing = [s for s in slots if s not in op.outputs and s not in _NEVER_WRITTEN]
    if not missing:
        return op
    outputs = dict(op.outputs)
    for slot in missing:
        if op.type == "batch_norm" and slot in ("MeanOut", "VarianceOut"):
            # updated in place, as Paddle's own exporter has it
            outputs[slot] = list(op.inputs[slot[:-3]])
            continue
        name = f"{op.output_names[0]}.{slot}"
        while name in names:
            name += "_"
        names.add(name)
        add_variable(block, name, TENSOR,
                     TensorInfo(name, (), "uint8" if slot == "Mask" else "float32"))
        outputs[slot] = [name]
    return Op(op.type, op.inputs, outputs, op.attrs)


def add_op(program, block, op: Op, names: Set[str]) -> None:
    """Add an op with every attribute of its definition, and with the blocks that it runs.

    Raises:
        ModelError: this Paddle does not know the op.
    """
    op = _with_by_products(block, op, names)
    proto = op_proto(op.type)
    if proto is None and op.type not in ("feed", "fetch"):
        raise ModelError(f"op '{op.type}' has no ProgramDesc form in this Paddle: export the model "
                         "with another op")
    types = {a.name: a.type for a in proto.attrs} if proto else {}
    description = block.ops.add(type=op.type)
    for entries, slots in ((description.inputs, op.inputs), (description.outputs, op.outputs)):
        for slot, arguments in slots.items():
            entries.add(parameter=slot, arguments=arguments)
    defaults = default_attrs(op.type) if proto else {}
    for name, value in {**defaults, **_REQUIRED_ATTRS.get(op.type, {}), **op.attrs}.items():
        if isinstance(value, Region):
            inner = program.blocks.add(idx=len(program.blocks), parent_idx=block.idx)
            description.attrs.add(name=name, type=BLOCK_ATTR, block_idx=inner.idx)
            add_region(program, inner, value, names)
        else:
            _add_attr(description, name, value, types.get(name))
    written = {attr.name for attr in description.attrs}
    for name, (kind, value) in _BOOKKEEPING.items():
        if name not in written:
            _add_attr(description, name, value, kind)


def _add_attr(description, name, value: Any, kind=None):
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if kind == SCALAR_LIST:
        _add_scalars(description.attrs.add(name=name, type=kind), value)
        return
    # unknown to this Paddle, or a scalar, which files hold in the plain form
    if kind not in _FIELDS:
        kind = _plain_kind(value)
    field, cast = _FIELDS[kind]
    attr = description.attrs.add(name=name, type=kind)
    if kind in _LIST_TYPES:
        getattr(attr,
                field).extend(cast(v)
                              for v in (value if isinstance(value, (list, tuple)) else [value]))
    else:
        setattr(attr, field, cast(value))


def _add_scalars(attr, values):
    for value in values:
        field, number = (("b", 1) if isinstance(value, bool) else ("i", 2) if isinstance(value, int)
                         else ("r", 3))
        setattr(attr.scalars.add(type=number), field, value)


def _plain_kind(value):
    first = (value[0] if value else 0) if isinstance(value, (list, tuple)) else value
    is_list = isinstance(value, (list, tuple))
    if isinstance(first, bool):
        return _BOOLEANS if is_list else _BOOLEAN
    if isinstance(first, int):
        wide = any(abs(v) > 2**31 - 1 for v in (value if is_list else [value]))
        return (_LONGS if wide else _INTS) if is_list else (_LONG if wide else _INT)
    if isinstance(first, float):
        return _FLOATS if is_list else _FLOAT32
    return _STRINGS if is_list else _STRING
