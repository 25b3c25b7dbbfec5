# SPDX-License-Identifier: Apache-2.0
"""Rewrites of a QDQ program that Paddle Lite's converter insists on; none changes
what the program computes.

Programs of this package need only the last three; those that Paddle's quantization API or
PaddleSlim wrote need more. Each function changes a graph in place and returns what it did as a
sentence, or an empty string. Each docstring states the symptom measured without the rewrite.
"""
from typing import List

import numpy as np

from ..errors import numbered
from ..graph.carried import rewritten
from ..graph.graph import WEIGHT_SLOTS, Graph, Op, TensorInfo
from ..grids.affine import Encoding, QuantSpec
from .forms import tensor_like

# what opt fuses into convolutions
FUSED_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "hard_swish", "hard_sigmoid", "sigmoid", "tanh",
                     "swish", "prelu")


def for_lite(graph: Graph) -> List[str]:
    """All rewrites that ``paddle_lite_opt`` needs, for any target.

    Args:
        graph(Graph): a quantized program; it is changed.

    Returns:
        list[str]: what was done, a sentence each.
    """
    steps = [scales_in_place, share_scales, store_int8, scale_per_channel, complete_swish,
             give_constants_an_axis, part_scales_from_convolutions, turn_paddings]
    return [text for text in (step(graph) for step in steps) if text]


def scales_in_place(graph: Graph) -> str:
    """``fake_quantize_dequantize`` ops write their scale where they read it: else opt
    dies of a missing tensor.

    The reader gives every tensor one writer, so the second name of the variable is taken back here.
    """
    count = 0
    for op in graph.ops:
        written = op.output("OutScale") or ""
        if not op.type.startswith("fake_") or written in graph.params:
            continue
        name = op.input("InScale")
        if name is None:
            weight, axis = graph.params.get(op.input("X")), op.attrs.get("quant_axis", 0)
            if weight is None:
                continue
            axes = (tuple(k for k in range(weight.ndim) if k != axis) if "channel_wise" in op.type
                    else None)
            name = add_param(graph, f"{op.input('X')}.scale",
                             np.abs(weight).max(axis=axes).reshape(-1))
        op.outputs["OutScale"] = [name]
        count += 1
    return f"{count} fake_quantize_dequantize ops write their scale in place" if count else ""


def share_scales(graph: Graph) -> str:
    """One Scale and ZeroPoint variable for a quantize and its dequantize: else
    ``is_weight`` fails and opt aborts.
    """
    producers, count = graph.producers(), 0
    for op in graph.ops:
        quantize = producers.get(op.input("X")) if op.type == "dequantize_linear" else None
        if quantize is None or quantize.type != "quantize_linear":
            continue
        for slot in ("Scale", "ZeroPoint"):
            mine, shared = op.input(slot), quantize.input(slot)
            if mine != shared and _equal(graph, mine, shared):
                op.inputs[slot] = [shared]
                count += slot == "Scale"
    return (f"{count} dequantize_linear share the scale variable of their quantize_linear" if count
            else "")


def _equal(graph, first, second) -> bool:
    a, b = graph.params.get(first), graph.params.get(second)
    return a is not None and b is not None and np.array_equal(np.ravel(a), np.ravel(b))


def weight_dequantizers(graph: Graph) -> List[Op]:
    """The ``dequantize_linear`` ops that read stored codes."""
    return [op for op in graph.ops
            if op.type == "dequantize_linear" and op.input("X") in graph.params]


def store_int8(graph: Graph) -> str:
    """Codes as int8 instead of whole numbers in float32: else opt keeps float
    data under an int8 kernel.
    """
    count = 0
    for op in weight_dequantizers(graph):
        name = op.input("X")
        codes = graph.params[name]
        if (codes.dtype != np.int8 and np.array_equal(codes, np.rint(codes))
            and np.abs(codes).max(initial=0) <= 127.5):
            graph.params[name] = codes.astype(np.int8)
            graph.tensors[name] = TensorInfo(name, codes.shape, "int8")
            count += 1
    return f"int8 codes are stored for {numbered(count, 'weight')}" if count else ""


def scale_per_channel(graph: Graph) -> str:
    """One weight scale per output channel: else opt's batch-norm fusion corrupts its heap."""
    count = 0
    for op in weight_dequantizers(graph):
        codes, scale = graph.params[op.input("X")], graph.params.get(op.input("Scale"))
        if scale is None or scale.size != 1:
            continue
        axis = op.attrs.get("quant_axis", -1)
        axis = axis if axis >= 0 else _channel_axis(op, graph)
        channels = codes.shape[axis]
        op.attrs["quant_axis"] = axis
        for slot in ("Scale", "ZeroPoint"):
            old = op.input(slot)
            if old:
                values = np.broadcast_to(np.ravel(graph.params[old])[:1],
                                         (channels,)).astype(np.float32)
                op.inputs[slot] = [add_param(graph, f"{old}.per_channel", values)]
        count += 1
    return f"{count} weight scales are repeated for every output channel" if count else ""


def _channel_axis(dequantize: Op, graph: Graph) -> int:
    readers = [op for op in graph.ops if dequantize.output("Y") in op.input_names]
    kinds = {op.type for op in readers}
    if kinds <= {"conv2d", "depthwise_conv2d"}:
        return 0
    return 1 if kinds <= set(WEIGHT_SLOTS) else 0


def complete_swish(graph: Graph) -> str:
    """``beta``, which newer Paddles leave out where it is 1: else opt for ARM dies of a missing
    attribute.
    """
    chosen = [op for op in graph.ops if op.type == "swish" and "beta" not in op.attrs]
    for op in chosen:
        op.attrs["beta"] = 1.0
    return f"{len(chosen)} swish say their beta" if chosen else ""


def give_constants_an_axis(graph: Graph) -> str:
    """Constants without an axis get one of length 1: else the predictor dies of `no valid
    out_shape`, as at the start of every loop.
    """
    count = 0

    def change(op: Op) -> Op:
        nonlocal count
        if op.type != "fill_constant" or op.inputs or op.attrs.get("shape") != []:
            return op
        count += 1
        return Op(op.type, op.inputs, op.outputs, {**op.attrs, "shape": [1]})
    graph.ops = [rewritten(op, change) for op in graph.ops]
    return f"{count} constants without an axis got one" if count else ""


def part_scales_from_convolutions(graph: Graph) -> str:
    """``x * factor + bias`` in ops of their own behind activations of a float convolution: opt
    folds a ``scale`` there into the convolution's weights, in front of the activation, and the
    model computes something else (by 10 to 150 % in small networks, and in PP-OCRv4's recognizer).
    """
    producers, ops, count = graph.producers(), [], 0
    for op in graph.ops:
        before = producers.get(op.input("X")) if op.type == "scale" else None
        if (before is not None and before.type in FUSED_ACTIVATIONS
                and not op.input("ScaleTensor")
                and from_float_convolution(before.input("X"), graph, producers)):
            ops += _multiplied_and_added(op, graph)
            count += 1
        else:
            ops.append(op)
    graph.ops = ops
    return (f"{count} scale ops behind activations of float convolutions are written as "
            "multiplications and additions, which are not folded past them" if count else "")


def from_float_convolution(name: str, graph: Graph, producers) -> bool:
    """Whether a float convolution computes tensor ``name``, but for its bias and batch norm."""
    op = producers.get(name)
    while op is not None and (op.type == "batch_norm" or op.type == "elementwise_add"
                              and op.input("Y") in graph.params):
        op = producers.get(op.input("X"))
    if op is None or "conv2d" not in op.type:
        return False
    source = producers.get(op.input("Input"))
    return source is None or source.type != "dequantize_linear"


def _multiplied_and_added(op: Op, graph: Graph) -> List[Op]:
    """A ``scale`` op as one or two ops with constants."""
    factor, bias = (float(op.attrs.get(name, default)) for name, default in
                    (("scale", 1.0), ("bias", 0.0)))
    steps = [("elementwise_mul", factor), ("elementwise_add", bias)]
    if not op.attrs.get("bias_after_scale", True):
        steps.reverse()
    steps = [step for step in steps if step != ("elementwise_add", 0.0)]
    made, source, out = [], op.input("X"), op.output("Out")
    for k, (kind, value) in enumerate(steps):
        target = out if k == len(steps) - 1 else tensor_like(graph, out, "part")
        constant = add_param(graph, f"{out}.constant", np.array([value], np.float32))
        made.append(Op(kind, {"X": [source], "Y": [constant]}, {"Out": [target]}, {"axis": -1}))
        source = target
    return made


def turn_paddings(graph: Graph) -> str:
    """How ``F.pad`` pads images: opt makes one ``pad2d`` of its three ops and takes left and right
    for top and bottom; of modes it knows ``constant`` and ``reflect`` alone, else the predictor
    dies. So these two get their amounts in the wrong order, and others one ``pad3d`` for each axis,
    which opt leaves alone.
    """
    producers, readers, ops, count = graph.producers(), graph.consumers(), [], 0
    for op in graph.ops:
        left_right, top_bottom = (op.attrs.get("paddings", [])[k:k + 2] for k in (0, 2))
        fused = op.attrs.get("mode") in ("constant", "reflect")
        if not _pads_images(op, graph, producers, readers) or fused and left_right == top_bottom:
            ops.append(op)
            continue
        count += 1
        if fused:
            ops.append(Op(op.type, op.inputs, op.outputs,
                          {**op.attrs, "paddings": [*top_bottom, *left_right, 0, 0]}))
            continue
        between = tensor_like(graph, op.output("Out"), "wide", (-1,) * 5)
        ops += [Op(op.type, op.inputs, {"Out": [between]},
                   {**op.attrs, "paddings": [*left_right, 0, 0, 0, 0]}),
                Op(op.type, {"X": [between]}, op.outputs,
                   {**op.attrs, "paddings": [0, 0, *top_bottom, 0, 0]})]
    graph.ops = ops
    return f"{numbered(count, 'padding')} of images turned, or made axis by axis" if count else ""


def _pads_images(op: Op, graph: Graph, producers, readers) -> bool:
    """Whether ``op`` and the ops around it are what opt makes one ``pad2d`` of."""
    if op.type != "pad3d" or len(op.inputs) > 1 or any(op.attrs["paddings"][4:]):
        return False
    before = producers.get(op.input("X"))
    behind = readers.get(op.output("Out"), [])
    return (before is not None and before.type == "unsqueeze2" and len(behind) == 1
            and behind[0].type == "squeeze2" and len(readers[op.input("X")]) == 1
            and not {op.input("X"), op.output("Out")}.intersection(graph.outputs))


def activation_encoding(quantize: Op, graph: Graph) -> Encoding:
    """The grid of a ``quantize_linear`` on an activation: symmetric, one scale."""
    bits = quantize.attrs.get("bit_length", 8)
    spec = QuantSpec(bits, signed=True, symmetric=True)
    return Encoding(spec,
                    np.float32(np.ravel(graph.params[quantize.input("Scale")])[0])
                    / np.float32(spec.qmax), 0)


def dequantized_weight(dequantize: Op, graph: Graph) -> np.ndarray:
    """What a ``dequantize_linear`` on stored codes computes."""
    codes, scale = (graph.params[dequantize.input("X")],
                    np.ravel(graph.params[dequantize.input("Scale")]))
    qmax = np.float32(2**(dequantize.attrs.get("bit_length", 8) - 1) - 1)
    if scale.size > 1:
        shape = [1] * codes.ndim
        shape[dequantize.attrs.get("quant_axis", 0)] = -1
        scale = scale.reshape(shape)
    return codes.astype(np.float32) * (scale.astype(np.float32) / qmax)


def stored_parameter(name: str, graph: Graph, producers) -> str:
    """The parameter behind a weight input, through quantizers; empty without one."""
    while name not in graph.params:
        op = producers.get(name)
        if op is None or not op.input("X"):
            return ""
        name = op.input("X")
    return name


def add_param(graph: Graph, stem: str, value: np.ndarray) -> str:
    """Add a parameter under a free name, which is returned."""
    name = graph.unique_name(stem)
    graph.params[name] = np.ascontiguousarray(value)
    graph.tensors[name] = TensorInfo(name, value.shape, value.dtype.name)
    return name
