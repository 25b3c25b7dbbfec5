# SPDX-License-Identifier: Apache-2.0
"""Which ops let factors per channel pass, take them up or give them back: one rule per op.

A rule follows the channels of its op's inputs to its output (``ChannelClasses`` keeps them) and
returns False where it cannot. Then, as for every op without a rule (sigmoid, hard-swish, ReLU6,
softmax), the inputs keep their values and so does the output.
"""
import numpy as np

from . import channel_moves  # noqa: F401  (its rules)
from .channels import CHANNEL_RULES, FIXED, ChannelClasses, Channels, channel_rule
from .graph import Graph, Op

_CONV_SLOTS = ("Input", "Filter", "Bias")


def channel_classes(graph: Graph) -> ChannelClasses:
    """The classes of all channels of a graph.

    Channels are those of images (axis 1 of NCHW) and the last axis behind matrix products. A
    parameter that several ops read stays as it is, and so do the graph's inputs and outputs.

    Args:
        graph(Graph): a folded graph.
    """
    found = ChannelClasses(graph)
    for op in graph.ops:
        follow = CHANNEL_RULES.get(op.type)
        if op.type != "shape" and (follow is None or not follow(found, op)):
            for name in op.input_names:
                found.fix(name)
    for name in graph.outputs:
        found.fix(name)
    return found


def weight_channels(op: Op, shape):
    """Input and output channel of every entry of a weight.

    Args:
        op(Op): a convolution or a matrix product.
        shape(tuple): the weight's.

    Returns:
        tuple: two integer arrays that broadcast to ``shape``.
    """
    first, second = (np.arange(n) for n in shape[:2])
    if len(shape) == 2:
        turned = op.attrs.get("trans_y", op.attrs.get("transpose_Y", False))
        return (second[None], first[:, None]) if turned else (first[:, None], second[None])
    # A group's channels of the second axis follow each other.
    size = len(first) // op.attrs.get("groups", 1)
    own = first[:, None, None, None]
    other = own // size * len(second) + second[:, None, None]
    return (own, other) if "transpose" in op.type else (other, own)


@channel_rule("relu", "leaky_relu", "prelu", "abs", "assign", "dropout", "pool2d",
              "max_pool2d_with_index", "nearest_interp_v2", "bilinear_interp_v2",
              "bicubic_interp_v2")
def _as_it_is(found, op):
    """f(m x) = m f(x), channel by channel; PReLU's slopes may have either sign."""
    channels = found.channels(op.input("X"))
    layout = op.attrs.get("data_format", op.attrs.get("data_layout", "NCHW"))
    if channels is None or layout not in ("NCHW", "AnyLayout"):
        return False
    if op.type not in ("relu", "leaky_relu", "abs", "assign", "dropout") and channels.axis != 1:
        return False
    found.put(op.output("Out"), channels)
    return True


@channel_rule("scale")
def _scale(found, op):
    return not op.attrs.get("bias", 0.0) and "ScaleTensor" not in op.inputs and _as_it_is(found, op)


@channel_rule("pad2d", "pad")
def _pad(found, op):
    """Padding with a constant other than 0 would have to be scaled, too."""
    channels = found.channels(op.input("X"))
    if channels is None or "Paddings" in op.inputs:
        return False
    if op.attrs.get("pad_value", 0.0) and op.attrs.get("mode", "constant") == "constant":
        return False
    amounts = op.attrs.get("paddings", ())
    if op.type == "pad" and any(amounts[2 * channels.axis:2 * channels.axis + 2]):
        return False
    return _as_it_is(found, op)


@channel_rule("conv2d", "depthwise_conv2d", "conv2d_transpose", "depthwise_conv2d_transpose")
def _conv(found, op):
    name, weight = op.input("Filter"), found.own(op.input("Filter"))
    bias = op.input("Bias")
    if (weight is None or weight.ndim != 4 or (bias and found.own(bias) is None)
            or op.attrs.get("data_format", "NCHW") not in ("NCHW", "AnyLayout")
            or any(names for slot, names in op.inputs.items() if slot not in _CONV_SLOTS)):
        return False
    source, result = weight_channels(op, weight.shape)
    before = _read_classes(found, op.input("Input"), 1, int(source.max()) + 1)
    after = found.fresh(op.output("Output"), 4, 1, int(result.max()) + 1)
    found.scale(name, lambda f: f[after[result]] / f[before[source]])
    if bias:
        shape = found.graph.params[bias].shape
        found.scale(bias, lambda f: f[after].reshape(shape))
    return True


def _read_classes(found, name, axis, count):
    """Classes of the channels that a weight reads; fixed where they are not followed."""
    channels = found.channels(name)
    if channels is not None and channels.axis == axis and len(channels.classes) == count:
        return channels.classes
    found.fix(name)
    return np.full(count, FIXED)


@channel_rule("mul", "matmul", "matmul_v2")
def _matmul(found, op):
    weight, attrs = found.own(op.input("Y")), op.attrs
    info = found.graph.tensors.get(op.input("X"))
    rank = len(info.shape) if info else 0
    if (weight is None or weight.ndim != 2 or rank < 2
            or attrs.get("trans_x", attrs.get("transpose_X", False))
            or op.type == "mul" and (attrs.get("x_num_col_dims", 1) != rank - 1
                                     or attrs.get("y_num_col_dims", 1) != 1)):
        return False
    source, result = weight_channels(op, weight.shape)
    before = _read_classes(found, op.input("X"), rank - 1, int(source.max()) + 1)
    after = found.fresh(op.output("Out"), rank, rank - 1, int(result.max()) + 1)
    found.scale(op.input("Y"), lambda f: f[after[result]] / f[before[source]])
    return True


@channel_rule("batch_norm")
def _batch_norm(found, op):
    """(x - mean) / deviation * gain + offset: mean and gain take up what x has."""
    names = [op.input(slot) for slot in ("Mean", "Scale", "Bias")]
    channels = found.channels(op.input("X"))
    if (channels is None or channels.axis != 1
            or not (op.attrs.get("is_test", False) or op.attrs.get("use_global_stats", False))
            or op.attrs.get("data_layout", "NCHW") not in ("NCHW", "AnyLayout")
            or any(found.own(n) is None for n in names)):
        return False
    before = channels.classes
    after = found.fresh(op.output("Y"), channels.rank, 1, len(before))
    mean, gain, offset = names
    found.scale(mean, lambda f: f[before])
    found.scale(gain, lambda f: f[after] / f[before])
    found.scale(offset, lambda f: f[after])
    return True


@channel_rule("elementwise_add", "elementwise_sub", "elementwise_max", "elementwise_min")
def _sum(found, op):
    """Both sides have the same factors; a parameter on either takes the other's."""
    x, y = op.input("X"), op.input("Y")
    left, right = found.channels(x), found.channels(y)
    if left is not None and right is not None:
        if (left.rank, left.axis, len(left.classes)) != (right.rank, right.axis,
                                                         len(right.classes)):
            return False
        found.tie(left.classes, right.classes)
        found.put(op.output("Out"), left)
        return True
    channels, param = (left, y) if left is not None else (right, x)
    shape = _operand_shape(found, param, channels, op)
    if shape is None:
        return False
    found.put(op.output("Out"), channels)
    found.scale(param, lambda f: f[channels.classes].reshape(shape))
    return True


def _operand_shape(found, param, channels, op):
    """Shape of one value per channel that broadcasts to a parameter's own shape, else None."""
    value = found.own(param)
    if value is None or channels is None or value.dtype.kind != "f":
        return None
    axis = op.attrs.get("axis", -1)
    if value.ndim != channels.rank and (param == op.input("X") or value.ndim > channels.rank):
        return None
    place = channels.axis - (channels.rank - value.ndim if axis == -1 else axis)
    if value.ndim == channels.rank:
        place = channels.axis
    if not 0 <= place < value.ndim or value.shape[place] != len(channels.classes):
        return None
    return [-1 if k == place else 1 for k in range(value.ndim)]


@channel_rule("elementwise_mul", "elementwise_div")
def _product(found, op):
    """One side carries the factors. A parameter with a value per channel may change them."""
    x, y = op.input("X"), op.input("Y")
    swapped = (op.type == "elementwise_mul" and y not in found.graph.params
               and found.is_fixed(found.channels(x)))
    data, other = (y, x) if swapped else (x, y)
    channels = found.channels(data) or _fixed_map(found, data)
    if channels is None or data == other or not _keeps_shape(found, op, channels):
        return False
    shape = _operand_shape(found, other, channels, op)
    if shape is None:
        found.fix(other)
        found.put(op.output("Out"), channels)
        return True
    before = channels.classes
    after = found.fresh(op.output("Out"), channels.rank, channels.axis, len(before))
    if op.type == "elementwise_mul":
        found.scale(other, lambda f: (f[after] / f[before]).reshape(shape))
    else:
        found.scale(other, lambda f: (f[before] / f[after]).reshape(shape))
    return True


def _fixed_map(found, name):
    """The channels of an image that no rule could follow to here."""
    info = found.graph.tensors.get(name)
    if name in found.graph.params or info is None or len(info.shape) != 4 or info.shape[1] < 1:
        return None
    return Channels(4, 1, np.full(info.shape[1], FIXED))


def _keeps_shape(found, op, channels):
    """The result has the channels of the side that carries the factors."""
    info = found.graph.tensors.get(op.output("Out"))
    return (info is not None and len(info.shape) == channels.rank
            and info.shape[channels.axis] == len(channels.classes))


@channel_rule("sum")
def _add_all(found, op):
    known = [found.channels(n) for n in op.inputs["X"]]
    if any(c is None or (c.rank, c.axis, len(c.classes))
           != (known[0].rank, known[0].axis, len(known[0].classes)) for c in known):
        return False
    for channels in known[1:]:
        found.tie(known[0].classes, channels.classes)
    found.put(op.output("Out"), known[0])
    return True
