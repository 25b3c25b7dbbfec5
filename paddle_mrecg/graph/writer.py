# SPDX-License-Identifier: Apache-2.0
"""Write a Graph as ProgramDesc: ``prefix.pdmodel`` and ``prefix.pdiparams``.

ProgramDesc is what Paddle Inference 2.x and 3.x, Paddle Lite and paddle2onnx all read.
"""
import os
from typing import Any

import numpy as np

from ..compat import SCALAR_LIST, default_attrs, framework_pb2, op_proto, op_versions
from ..errors import ModelError, OutputError
from .graph import Graph, Op, TensorInfo
from .params import DTYPE_CODES, write_combined
from .program import BY_PRODUCTS

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
_TENSOR, _FEED_LIST, _FETCH_LIST = 7, 9, 10

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


def save_program(graph: Graph, prefix: str) -> None:
    """Write ``prefix.pdmodel`` and ``prefix.pdiparams``; both or neither appear.

    Args:
        graph(Graph): ops in execution order.
        prefix(str): path without suffix; its directory is made when missing.

    Raises:
        OutputError: the files cannot be written.
        ModelError: the graph has an op type or a value that Paddle has no ProgramDesc form of.
    """
    try:
        program = program_desc(graph)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ModelError(f"the model cannot be written as a program ({reason[0][:200]}): its file "
                         "may be damaged, export it again") from error
    paths = [prefix + ".pdmodel", prefix + ".pdiparams"]
    temporary = [f"{path}.{os.getpid()}.tmp" for path in paths]
    try:
        os.makedirs(os.path.dirname(os.path.abspath(prefix)), exist_ok=True)
        with open(temporary[0], "wb") as file:
            file.write(program.SerializeToString())
        with open(temporary[1], "wb") as file:
            write_combined(file, graph.params)
        for source, target in zip(temporary, paths):
            os.replace(source, target)
    except OSError as error:
        raise OutputError(f"cannot write the model to {prefix}.* ({error.strerror}): check "
                          "Global.save_dir") from error
    finally:
        for path in temporary:
            if os.path.exists(path):
                os.remove(path)


def program_desc(graph: Graph):
    """The graph as a ``framework_pb2.ProgramDesc`` with feed and fetch ops."""
    graph = _without_leading_params(graph)
    program = framework_pb2().ProgramDesc()
    program.version.version = 0  # read by every Paddle version
    block = program.blocks.add(idx=0, parent_idx=-1)
    _add_holder(block, "feed", _FEED_LIST)
    _add_holder(block, "fetch", _FETCH_LIST)
    _add_tensors(block, graph)
    for column, name in enumerate(graph.inputs):
        _add_op(block, Op("feed", {"X": ["feed"]}, {"Out": [name]}, {"col": column}))
    names = set(graph.tensors) | set(graph.params)
    for op in graph.ops:
        _add_op(block, _with_by_products(block, op, names))
    _add_op_versions(program, graph)
    for column, name in enumerate(graph.outputs):
        _add_op(block, Op("fetch", {"X": [name]}, {"Out": ["fetch"]}, {"col": column}))
    return program


def _without_leading_params(graph: Graph) -> Graph:
    """A concat whose first input is a parameter (a class token in front of the patches) kills
    Paddle Inference's seqpool_cvm_concat_fuse_pass: it reads a copy instead.
    """
    if not any(op.type == "concat" and op.inputs["X"][0] in graph.params for op in graph.ops):
        return graph
    graph = graph.copy()
    ops, graph.ops = graph.ops, []
    for op in ops:
        if op.type == "concat" and op.inputs["X"][0] in graph.params:
            name = op.inputs["X"][0]
            copied = graph.unique_name(name + ".copy")
            value = graph.params[name]
            graph.tensors[copied] = TensorInfo(copied, value.shape, str(value.dtype))
            graph.ops.append(Op("assign", {"X": [name]}, {"Out": [copied]}))
            op.inputs["X"][0] = copied
        graph.ops.append(op)
    return graph


def _add_op_versions(program, graph):
    """Without an entry Paddle takes an op for one of its first version and rewrites attributes."""
    versions = op_versions()
    for op_type in sorted({op.type for op in graph.ops}):
        if op_type in versions:
            pair = program.op_version_map.pair.add(op_name=op_type)
            pair.op_version.version = versions[op_type]


def _add_holder(block, name, kind):
    var = block.vars.add(name=name, persistable=True)
    var.type.type = kind


def _add_tensors(block, graph):
    names = dict.fromkeys(list(graph.inputs) + list(graph.params))
    for op in graph.ops:
        names.update(dict.fromkeys(op.input_names + op.output_names))
    for name in names:
        if name in graph.params:
            array = graph.params[name]
            _add_tensor(block, name, array.shape, array.dtype.name, persistable=True)
        else:
            info = graph.tensors.get(name)
            shape, dtype = (info.shape, info.dtype) if info else ((), "float32")
            _add_tensor(block, name, shape, dtype, is_input=name in graph.inputs)


def _add_tensor(block, name, shape, dtype, persistable=False, is_input=False):
    var = block.vars.add(name=name, persistable=persistable)
    var.type.type = _TENSOR
    holder = var.type.lod_tensor if hasattr(var.type, "lod_tensor") else var.type.dense_tensor
    holder.tensor.data_type = DTYPE_CODES[dtype]
    holder.tensor.dims.extend(int(d) for d in shape)
    if is_input:
        var.need_check_feed = True
    if persistable:
        var.is_parameter = True
        var.stop_gradient = True


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
        _add_tensor(block, name, (), "uint8" if slot == "Mask" else "float32")
        outputs[slot] = [name]
    return Op(op.type, op.inputs, outputs, op.attrs)


def _add_op(block, op):
    proto = op_proto(op.type)
    if proto is None and op.type not in ("feed", "fetch"):
        raise ModelError(f"op '{op.type}' has no ProgramDesc form in this Paddle: export the model "
                         "with another op")
    types = {a.name: a.type for a in proto.attrs} if proto else {}
    description = block.ops.add(type=op.type)
    for entries, slots in ((description.inputs, op.inputs), (description.outputs, op.outputs)):
        for slot, names in slots.items():
            entries.add(parameter=slot, arguments=names)
    defaults = default_attrs(op.type) if proto else {}
    for name, value in {**defaults, **_REQUIRED_ATTRS.get(op.type, {}), **op.attrs}.items():
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
