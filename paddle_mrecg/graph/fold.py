# SPDX-License-Identifier: Apache-2.0
"""Rewrite an inference graph so that every convolution is one weight and one bias.

What is folded: batch norm, per-channel and scalar multiplications and
additions by parameters (PP-OCRv4's learnable affine blocks), ``scale`` and
``Bias`` inputs, when they follow a convolution or a matrix product that nothing
else reads. Every tensor that remains keeps its value, except that the result
of a folded convolution, before its bias, is scaled like its weight.
"""
import dataclasses
from typing import List, Optional

import numpy as np

from ..errors import ModelError, MrecgError, said
from .constants import fold_constants
from .graph import WEIGHT_SLOTS, Graph, Op, TensorInfo, weight_name
from .simplify import affine_to_scale, drop_identities, drop_unused, merge_scales

_TRANSPOSED = ("conv2d_transpose", "depthwise_conv2d_transpose")
_CHANNEL_SECOND = ("conv2d", "depthwise_conv2d", *_TRANSPOSED)


def fold(graph: Graph) -> Graph:
    """Fold all affine ops; see the module's docstring.

    Dropout and ``assign`` disappear (dropout that was trained with
    ``downgrade_in_infer`` becomes a ``scale``), a scalar affine op that follows no
    convolution becomes a ``scale``. A batch norm that does not follow a convolution
    alone stays.

    Args:
        graph(Graph): an inference graph; it is not changed.

    Returns:
        Graph: the same function. Biases are ``elementwise_add`` ops, with axis 1 and a
            parameter of shape ``[C]``
        behind convolutions and with axis -1 behind matrix products.

    Raises:
        ModelError: ops do not fit their inputs.
    """
    result = graph.copy()
    try:
        fold_constants(result)
        drop_identities(result)
        _fold_chains(result)
        affine_to_scale(result)
        merge_scales(result)
        drop_unused(result)
    except MrecgError:
        raise
    except Exception as error:  # whatever a kernel raises on what a damaged file says
        raise ModelError(f"{graph.source or 'the model'} cannot be simplified "
                         f"({said(error)[:200]}): its file may be damaged, "
                         "export it again") from error
    return result


@dataclasses.dataclass
class _Affine:
    """y = a * x + b per output channel; ``a`` and ``b`` are float64 of shape [C]."""

    a: np.ndarray
    b: np.ndarray

    def then(self, a, b):
        self.a, self.b = self.a * a, self.b * a + b


def _fold_chains(graph):
    readers = graph.consumers()
    removed = set()
    added = {}  # id of a weighted op -> its bias op
    for op in graph.ops:
        if weight_name(op, graph) is None or not _is_channel_known(op):
            continue
        chain, affine = _follow(op, graph, readers)
        bias = op.inputs.pop("Bias", None)
        if not chain and not bias:
            continue
        if bias:
            affine.b = affine.b + affine.a * graph.params[bias[0]].astype("float64").reshape(-1)
        removed.update(id(link) for link in chain)
        _scale_weight(op, affine.a, graph, readers)
        added[id(op)] = _bias_op(op, chain, affine.b, graph)
    ops: List[Op] = []
    for op in graph.ops:
        if id(op) not in removed:
            ops.append(op)
            ops += [added[id(op)]] if added.get(id(op)) else []
    graph.ops = ops


def _is_channel_known(op):
    if op.type in _CHANNEL_SECOND:
        return op.attrs.get("data_format", "NCHW") in ("NCHW", "AnyLayout")
    return (op.attrs.get("alpha", 1.0) == 1.0
            and (op.type != "mul" or op.attrs.get("y_num_col_dims", 1) == 1))


def _out_channels(op, weight):
    if op.type in ("conv2d", "depthwise_conv2d"):
        return weight.shape[0]
    if op.type in _TRANSPOSED:
        return weight.shape[1] * op.attrs.get("groups", 1)
    return weight.shape[-2 if _is_transposed(op) else -1]


def _is_transposed(op):
    return bool(op.attrs.get("trans_y", op.attrs.get("transpose_Y", False)))


def _follow(op, graph, readers):
    """The affine ops behind ``op``, each the only reader of the one before, and
    what they compute together.
    """
    channels = _out_channels(op, graph.params[weight_name(op, graph)])
    affine = _Affine(np.ones(channels), np.zeros(channels))
    current, chain = op.output(WEIGHT_SLOTS[op.type][2]), []
    rank, axis = _rank_and_axis(op, graph)
    while current not in graph.outputs and len(readers.get(current, ())) == 1 and rank:
        link = readers[current][0]
        step = _affine_of(link, current, graph, (rank, axis, channels))
        if step is None or not np.isfinite(step[0]).all() or not np.isfinite(step[1]).all():
            break
        affine.then(*step)
        chain.append(link)
        current = link.output_names[0]
    return chain, affine


def _rank_and_axis(op, graph):
    """Rank of the op's result and its channel axis; rank 0 when unknown."""
    if op.type in _CHANNEL_SECOND:
        return 4, 1
    info = graph.tensors.get(op.output("Out"))
    rank = len(info.shape) if info else 0
    return rank, rank - 1


def _affine_of(op, current, graph, layout):
    """(a, b) of shape [C] or () when ``op`` is an affine function of
    ``current`` alone, else None.
    """
    rank, axis, channels = layout
    if op.type == "batch_norm":
        return _fold_batch_norm(op, graph) if axis == 1 else None
    if op.type == "scale" and "ScaleTensor" not in op.inputs:
        scale, bias = op.attrs.get("scale", 1.0), op.attrs.get("bias", 0.0)
        return scale, bias if op.attrs.get("bias_after_scale", True) else bias * scale
    operand = channel_operand(op, current, graph, rank)
    if operand is None:
        return None
    if operand.shape[axis] not in (1, channels) or operand.size != operand.shape[axis]:
        return None
    value = operand.reshape(-1) if operand.size > 1 else operand.reshape(())
    return {"elementwise_add": lambda: (1.0, value), "elementwise_sub": lambda: (1.0, -value),
            "elementwise_mul": lambda: (value, 0.0),
            "elementwise_div": lambda: (_inverse(value), 0.0)}[op.type]()


def _inverse(value):
    with np.errstate(divide="ignore"):
        return 1.0 / value


def channel_operand(op, current, graph, rank) -> Optional[np.ndarray]:
    """The parameter that an element-wise ``op`` combines with ``current``, broadcast to
    ``rank`` axes, else None.
    """
    if op.type not in ("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div"):
        return None
    x, y, axis = op.input("X"), op.input("Y"), op.attrs.get("axis", -1)
    is_first = x == current and y in graph.params
    is_second = (y == current and x in graph.params
                 and op.type in ("elementwise_add", "elementwise_mul"))
    if not is_first and not is_second:
        return None
    value = graph.params[y if is_first else x]
    if (value.dtype.kind != "f" or value.ndim > rank
        or (is_second and axis != -1 and value.ndim != rank)):
        return None
    before = rank - value.ndim if axis == -1 else axis
    after = rank - value.ndim - before
    return (value.astype("float64").reshape((1,) * before + value.shape + (1,) * after)
            if after >= 0 else None)


def _fold_batch_norm(op, graph):
    if not (op.attrs.get("is_test", False) or op.attrs.get("use_global_stats", False)):
        return None
    values = [graph.params.get(op.input(slot)) for slot in ("Mean", "Variance", "Scale", "Bias")]
    if (values[0] is None or values[1] is None
        or op.attrs.get("data_layout", "NCHW") not in ("NCHW", "AnyLayout")):
        return None
    mean, variance, gamma, beta = (None if v is None else v.astype("float64") for v in values)
    a = (1.0 if gamma is None else gamma) / np.sqrt(variance + op.attrs.get("epsilon", 1e-5))
    return a, (0.0 if beta is None else beta) - mean * a


def _scale_weight(op, factor, graph, readers):
    """Multiply the op's weight per output channel, on a copy when others read it too."""
    if np.all(factor == 1.0):
        return
    slot = WEIGHT_SLOTS[op.type][1]
    name = op.input(slot)
    weight = graph.params[name]
    if op.type in ("conv2d", "depthwise_conv2d"):
        scaled = weight * factor.reshape((-1,) + (1,) * (weight.ndim - 1))
    elif op.type in _TRANSPOSED:
        groups = op.attrs.get("groups", 1)
        grouped = weight.reshape((groups, weight.shape[0] // groups) + weight.shape[1:])
        scaled = (grouped * factor.reshape(groups, 1, -1, 1, 1)).reshape(weight.shape)
    else:
        scaled = weight * (factor[:, None] if _is_transposed(op) else factor)
    if len(readers[name]) > 1 or op.input_names.count(name) > 1:
        shared, name = name, graph.unique_name(f"{name}.folded")
        readers[shared] = [reader for reader in readers[shared] if reader is not op]
        op.inputs[slot] = [name]
    _set_param(graph, name, scaled.astype(weight.dtype))


def _bias_op(op, chain, bias, graph):
    """The op's bias as one elementwise_add that writes what the chain wrote; None
    when there is nothing to add.
    """
    slot = WEIGHT_SLOTS[op.type][2]
    result = chain[-1].output_names[0] if chain else op.output(slot)
    adds = any(link.type != "scale" and link.type not in ("elementwise_mul", "elementwise_div")
               for link in chain)
    if chain and not adds and not np.any(bias):
        op.outputs[slot] = [result]
        return None
    raw = op.output(slot)
    if not chain:  # a Bias input: the op's result gets a new name, the sum keeps the old one
        raw = graph.unique_name(f"{result}.raw")
        graph.tensors[raw] = dataclasses.replace(graph.tensors[result], name=raw)
        op.outputs[slot] = [raw]
    dtype = graph.params[weight_name(op, graph)].dtype
    name = _bias_name(op, chain, graph)
    _set_param(graph, name, bias.astype(dtype))
    axis = 1 if op.type in _CHANNEL_SECOND else -1
    return Op("elementwise_add", {"X": [raw], "Y": [name]}, {"Out": [result]}, {"axis": axis})


def _bias_name(op, chain, graph):
    """The name of a bias that only this op had, else one made from the weight's name."""
    for link in chain:
        name = link.input("Bias") if link.type == "batch_norm" else link.input("Y")
        if link.type in ("batch_norm", "elementwise_add") and name in graph.params and (
                sum(o.input_names.count(name) for o in graph.ops) == 1):
            return name
    return graph.unique_name(f"{weight_name(op, graph)}.bias")


def _set_param(graph, name, value):
    graph.params[name] = value
    graph.tensors[name] = TensorInfo(name, value.shape, value.dtype.name)
