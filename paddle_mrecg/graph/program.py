# SPDX-License-Identifier: Apache-2.0
"""Read Paddle's ProgramDesc (``.pdmodel``) and its parameters into a Graph."""
import os
from typing import Dict, List

import numpy as np

from ..compat import framework_pb2
from ..errors import ModelError
from .carried import BLOCK_ATTR, STEP_SCOPES, TENSOR, TENSOR_ARRAY, Region, apart, carry, read_by
from .graph import Graph, Op, TensorInfo
from .params import DTYPE_NAMES, read_combined, read_separate
from .simplify import drop_unused

# Bookkeeping of the exporter and of kernel selection; none changes what an op computes.
NOISE_ATTRS = frozenset((
    "op_role", "op_role_var", "op_callstack", "op_namescope", "op_device", "with_quant_attr",
    "use_cudnn", "use_mkldnn",
    "mkldnn_data_type", "use_quantizer", "workspace_size_MB", "exhaustive_search",
    "force_fp32_output", "use_addto",
    "is_mkldnn", "fuse_relu", "fuse_relu_before_depthwise_conv", "fuse_with_relu",
    "fuse_residual_connection",
    "fuse_activation", "fuse_alpha", "fuse_beta", "fuse_brelu", "fuse_brelu_threshold", "Scale_in",
    "Scale_out",
    "Scale_in_eltwise", "Scale_weights", "scale_x", "scale_y", "scale_out", "Scale_x", "Scale_y",
    "Scale_Out",
    "x_data_format", "y_data_format", "enable_cache"))

# Outputs that only a gradient or an optimizer reads. The writer adds those that an op insists on.
BY_PRODUCTS = {
    "batch_norm": ("MeanOut", "VarianceOut", "SavedMean", "SavedVariance", "ReserveSpace"),
    "layer_norm": ("Mean", "Variance"),
    "group_norm": ("Mean", "Variance"),
    "instance_norm": ("SavedMean", "SavedVariance"),
    "dropout": ("Mask",),
    "max_pool2d_with_index": ("Mask",),
    "quantize_linear": ("OutState", "OutAccum", "OutScale"),
    **dict.fromkeys(("reshape2", "transpose2", "squeeze2", "unsqueeze2", "flatten2",
                     "flatten_contiguous_range"),
                    ("XShape",)),
}

_BLOCKS = 10  # an attribute's type: several blocks
_CARRIED_KINDS = (STEP_SCOPES, TENSOR_ARRAY)
# OpDesc.Attr's field for each AttrType; None: a block or a variable.
_VALUE_FIELD = ("i", "f", "s", "ints", "floats", "strings", "b", "bools", None, "l", None, "longs",
                "float64s", None,
                None, "float64", "scalar", "scalars")
_VALUE_ATTRS = ("values", "fp32_values", "fp64_values", "int32_values", "int64_values",
                "int8_values", "bool_values")
_FIRST_FIELD_TAG = b"\x0a"  # `blocks`, the first field of every ProgramDesc


def read_program(model_path: str, params_path: str, allow_quantized: bool = False) -> Graph:
    """Read an inference program.

    Args:
        model_path(str): the ProgramDesc file (``.pdmodel``, ``__model__``, any name).
        params_path(str): the combined parameter file, or the directory with one file per parameter.
        allow_quantized(bool, optional): accept programs with quantize /
            dequantize ops. Default: False.

    Returns:
        Graph: ops of the main block in execution order; every tensor is written once. Loops,
            branches and what depends on them are one op (``carried``).

    Raises:
        ModelError: a file is missing, truncated, foreign, does not belong to the other, or the
            program is quantized already.
    """
    program = _parse_protobuf(model_path)
    _refuse_quantized(program, model_path, allow_quantized)
    block = program.blocks[0]
    tensors, kinds = _variables(block)
    persistable = {var.name: tensors[var.name] for var in block.vars
                   if var.persistable and var.name in tensors and var.name not in kinds}
    params = _read_params(params_path, persistable, model_path)
    inputs, outputs, descriptions = _split_feed_fetch(block)
    graph = Graph([], tensors, params, inputs, outputs, model_path)
    plain, carried = apart([_op(d, program) for d in descriptions], kinds)
    read = read_by([*plain, *carried]).union(graph.outputs)
    graph.ops, current = _single_assignment(plain, read, graph)
    carry(carried, graph, current, kinds)
    graph.ops = _constants_to_params(graph.ops, graph)
    drop_unused(graph)
    return graph


def _parse_protobuf(path):
    pb = framework_pb2()
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ModelError(f"cannot read the program file {path} ({error.strerror}); check "
                         "Global.model_dir") from error
    if data[:1] == b"{":
        raise ModelError(f"{path} is a Paddle 3 PIR program, not a ProgramDesc: name it "
                         "with the suffix .json")
    program = pb.ProgramDesc()
    try:
        if data[:1] != _FIRST_FIELD_TAG:
            raise ValueError("not a ProgramDesc")
        program.ParseFromString(data)
        if not program.blocks or not program.blocks[0].ops:
            raise ValueError("no ops")
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        raise ModelError(f"{path} is not a complete Paddle program (wrong file, or truncated): "
                         "export the model again with paddle.jit.save") from error
    return program


def _refuse_quantized(program, path, allow_quantized):
    for op in (op for block in program.blocks for op in block.ops):
        if not allow_quantized and is_quantize_op(op.type):
            raise ModelError(f"{path} is already quantized (op '{op.type}'): start "
                             "from the float model")


def is_quantize_op(op_type: str) -> bool:
    """True for the ops that only a quantized program has."""
    return op_type.startswith(("fake_quantize", "fake_channel_wise",
                               "fake_dequantize")) or op_type in (
        "quantize_linear", "dequantize_linear")


def _variables(block):
    """What is known of a block's tensors and arrays, and the kinds of what is not a tensor."""
    tensors = {var.name: _tensor_info(var) for var in block.vars
               if var.type.type in (TENSOR, TENSOR_ARRAY)}
    return tensors, {var.name: var.type.type for var in block.vars
                     if var.type.type in _CARRIED_KINDS}


def _tensor_info(var):
    described = tensor_desc(var)
    return TensorInfo(var.name, tuple(described.dims),
                      DTYPE_NAMES.get(described.data_type, "float32"))


def tensor_desc(var):
    """Where a variable, a tensor or an array of tensors, says its type and its shape."""
    kind = var.type
    if kind.type == TENSOR_ARRAY:
        return kind.tensor_array.tensor
    # LOD_TENSOR on Paddle 2, DENSE_TENSOR on 3
    return (kind.lod_tensor if hasattr(kind, "lod_tensor") else kind.dense_tensor).tensor


def _read_params(path, expected, model_path):
    if not expected:
        return {}
    if os.path.isdir(path):
        return read_separate(path, expected, model_path)
    return read_combined(path, expected, model_path)


def _split_feed_fetch(block):
    """Input names, output names (both in ``col`` order) and the remaining op descriptions."""
    feeds, fetches, ops = [], [], []
    for op in block.ops:
        if op.type == "feed":
            feeds.append((_column(op), _slots(op.outputs)["Out"][0]))
        elif op.type == "fetch":
            fetches.append((_column(op), _slots(op.inputs)["X"][0]))
        else:
            ops.append(op)
    return [name for _, name in sorted(feeds)], [name for _, name in sorted(fetches)], ops


def _column(op):
    return next((a.i for a in op.attrs if a.name == "col"), 0)


def _slots(entries) -> Dict[str, List[str]]:
    """Slot -> tensor names; ``@EMPTY@`` stands for a tensor that is not given."""
    slots = {e.parameter: [n for n in e.arguments if n != "@EMPTY@"] for e in entries}
    return {slot: names for slot, names in slots.items() if names}


def _op(description, program) -> Op:
    """An op with the names of the file, and with what its blocks hold."""
    outputs = _slots(description.outputs)
    if description.type == "batch_norm":
        outputs = {slot: names for slot, names in outputs.items()
                   if slot not in BY_PRODUCTS["batch_norm"]}
    return Op(description.type, _slots(description.inputs), outputs,
              _attributes(description, program))


def _region(index, program) -> Region:
    block = program.blocks[index]
    return Region([_op(d, program) for d in block.ops], *_variables(block))


def _attributes(op, program):
    attrs = {}
    for attr in op.attrs:
        if attr.name in NOISE_ATTRS:
            continue
        if attr.type == BLOCK_ATTR:
            attrs[attr.name] = _region(attr.block_idx, program)
            continue
        field = _VALUE_FIELD[attr.type]
        if field is None:
            what = ("consists of several blocks" if attr.type == _BLOCKS else
                    "is computed by the program itself")
            raise ModelError(f"attribute '{attr.name}' of op '{op.type}' {what}, which is not "
                             "supported: export the model with fixed sizes")
        value = getattr(attr, field)
        if field == "scalar":
            value = _proto_scalar(value)
        elif field == "scalars":
            value = [_proto_scalar(v) for v in value]
        elif field.endswith("s") and field != "s":
            value = list(value)
        attrs[attr.name] = value
    return attrs


def _proto_scalar(value):
    return {1: value.b, 2: value.i, 3: value.r}.get(value.type, value.r)


def _single_assignment(given, read, graph):
    """Ops in which every tensor is written once, because in-place writes get a new name; and the
    last name of every tensor.
    """
    written = set(graph.inputs) | set(graph.params)
    current: Dict[str, str] = {}
    ops = []
    for op in given:
        inputs = {slot: [current.get(n, n) for n in names] for slot, names in op.inputs.items()}
        outputs = {}
        for slot, names in op.outputs.items():
            if slot in BY_PRODUCTS.get(op.type, ()) and not any(n in read for n in names):
                continue
            outputs[slot] = [_fresh(n, written, current, graph) for n in names]
        ops.append(Op(op.type, inputs, outputs, op.attrs))
    return ops, {name: current.get(name, name) for name in written}


def _fresh(name, written, current, graph):
    if name in written:
        renamed = graph.unique_name(f"{name}.inplace")
        old = graph.tensors.get(name, TensorInfo(name))
        graph.tensors[renamed] = TensorInfo(renamed, old.shape, old.dtype)
        current[name] = renamed
        name = renamed
    written.add(name)
    return name


def _constants_to_params(ops, graph):
    """Make tensors that the program spells out (``assign_value``)
    parameters, as they are in PIR.
    """
    kept = []
    for op in ops:
        if op.type != "assign_value":
            kept.append(op)
            continue
        dtype = DTYPE_NAMES[op.attrs["dtype"]]
        values = next((op.attrs[key] for key in _VALUE_ATTRS if op.attrs.get(key)), [])
        graph.params[op.output("Out")] = np.asarray(values, dtype).reshape(op.attrs["shape"])
    return kept
