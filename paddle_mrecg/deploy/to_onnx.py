# SPDX-License-Identifier: Apache-2.0
"""From a QDQ program to an ONNX model of QuantizeLinear / DequantizeLinear.

paddle2onnx 2.1.0 aborts on Paddle's ``quantize_linear`` and 1.3.1 drops most activation quantizers,
so it converts the float operators only: a stand-in op goes through it for every activation
quantizer, floats for every weight, and both are exchanged by name afterwards.
"""
import dataclasses
import importlib.util
import os
import subprocess
import sys
from typing import Dict

import numpy as np

from ..errors import ModelError, MrecgError
from ..graph.graph import Graph, Op, ops_behind
from ..graph.simplify import drop_unused
from ..graph.writer import save_program
from ..grids.affine import Encoding
from ..scratch import scratch_folder
from .onnx_ops import as_paddle2onnx_reads_it
from .rewrites import (activation_encoding, add_param, dequantized_weight, store_int8,
                       weight_dequantizers)

# any op of one tensor whose output paddle2onnx does not rename
STAND_IN, STAND_IN_ONNX = "leaky_relu", "LeakyRelu"
OPSET = 13  # the first with one scale per channel
CONVERT_SECONDS = 600
_INSTALL = "run `pip install 'paddle_mrecg[onnx]'`"
_CONVERT = ("import sys, PIL.Image, paddle2onnx\n"
            "paddle2onnx.export(sys.argv[1] + '.pdmodel', sys.argv[1] + '.pdiparams', sys.argv[2],"
            " opset_version=int(sys.argv[3]), enable_onnx_checker=False, verbose=False)\n")


@dataclasses.dataclass
class _ConstantWeight:
    codes: np.ndarray
    scale: np.ndarray  # step per channel
    axis: int


def onnx_model(graph: Graph):
    """Convert a quantized (or float) program.

    Args:
        graph(Graph): the program; it is not changed.

    Returns:
        onnx.ModelProto: int8 weights and explicit quantizers; grids with a zero
            point stay plain arithmetic.

    Raises:
        MrecgError: onnx or paddle2onnx is not installed.
        ModelError: paddle2onnx refuses the program, or would write one that computes something
            else; the reason is in the message.
    """
    missing = [name for name in ("onnx", "paddle2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise MrecgError(f"{' and '.join(missing)} not installed: {_INSTALL}")
    import onnx
    graph = graph.copy()
    as_paddle2onnx_reads_it(graph)
    activations, weights = _as_float(graph)
    with scratch_folder() as folder:
        prefix, path = os.path.join(folder, "model"), os.path.join(folder, "model.onnx")
        save_program(graph, prefix)
        _paddle2onnx(prefix, path)
        model = onnx.load(path)
    _put_back(model, activations, weights)
    onnx.checker.check_model(model)
    return model


def _as_float(graph: Graph):
    """Replace quantizers by stand-ins and weights by floats; returns the encodings by
    output, the weights by name.
    """
    store_int8(graph)
    producers = graph.producers()
    weights: Dict[str, _ConstantWeight] = {}
    renamed = {}
    for op in weight_dequantizers(graph):
        name = add_param(graph, f"{op.input('X')}.float", dequantized_weight(op, graph))
        weights[name] = _constant_weight(op, graph)
        renamed[op.output("Y")] = name
    activations: Dict[str, Encoding] = {}
    ops = []
    for op in graph.ops:
        op.inputs = {slot: [renamed.get(n, n) for n in names] for slot, names in op.inputs.items()}
        quantize = producers.get(op.input("X")) if op.type == "dequantize_linear" else None
        if quantize is None:
            ops.append(op)
            continue
        activations[op.output("Y")] = activation_encoding(quantize, graph)
        ops.append(Op(STAND_IN, {"X": quantize.inputs["X"]}, {"Out": op.outputs["Y"]},
                      dict(alpha=0.5)))
    graph.ops = ops
    graph.ops = ops_behind(graph.ops, graph.outputs)
    drop_unused(graph)
    if any(op.type.startswith("fake_") for op in graph.ops):
        raise ModelError("fake_quantize_dequantize ops have no ONNX form: save the model with "
                         "onnx_format=True")
    return activations, weights


def _constant_weight(op: Op, graph: Graph) -> _ConstantWeight:
    codes, scale = graph.params[op.input("X")], np.ravel(graph.params[op.input("Scale")])
    axis = max(op.attrs.get("quant_axis", 0), 0)
    step = scale.astype(np.float32) / np.float32(2**(op.attrs.get("bit_length", 8) - 1) - 1)
    return _ConstantWeight(codes, np.broadcast_to(step, (codes.shape[axis],)), axis)


def _paddle2onnx(prefix: str, path: str):
    """Convert in a separate process, because paddle2onnx aborts on what it does not know."""
    try:
        done = subprocess.run([sys.executable, "-c", _CONVERT, prefix, path, str(OPSET)],
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              # where no module of a received result is found
                              cwd=os.path.dirname(path), timeout=CONVERT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"paddle2onnx did not finish in {CONVERT_SECONDS} "
                         "s: try a smaller model") from error
    if done.returncode or not os.path.exists(path):
        lines = [line.strip() for line in done.stdout.splitlines()
                 if "ERROR" in line or "Oops" in line or "Error" in line]
        raise ModelError(_converters_words((lines or ["no message"])[0], done.returncode))


def _converters_words(line: str, code: int) -> str:
    """A sentence for what paddle2onnx said at its end."""
    cure = ("express it with other ops and export again, or deploy the program in Paddle "
            "Inference, which runs it as it is")
    unknown = line.partition("not supported yet, including ")[2].strip(" ,.")
    if unknown:
        return f"paddle2onnx has no form for {', '.join(unknown.split(','))}: {cure}"
    return f"paddle2onnx failed (exit code {code}): {line[:300].rstrip('. ')}; {cure}"


def _put_back(model, activations: Dict[str, Encoding], weights: Dict[str, _ConstantWeight]):
    """Exchange the stand-ins in place."""
    nodes, found = [], set()
    used = {name for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        name = node.output[0] if node.output else ""
        if name in weights and node.op_type == "Constant":
            nodes += _dequantized(model, name, weights[name])
        elif name in activations and node.op_type == STAND_IN_ONNX:
            nodes += _requantized(model, node, activations[name])
        else:
            nodes.append(node)
            continue
        found.add(name)
    lost = sorted((set(activations) | set(weights)) & used - found)
    if lost:
        raise ModelError(f"paddle2onnx renamed or merged {len(lost)} quantized tensors (the first "
                         f"is '{lost[0]}'): install paddle2onnx==1.3.1")
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _dequantized(model, name: str, weight: _ConstantWeight):
    from onnx import helper
    stored = [_initializer(model, f"{name}/codes", weight.codes.astype(np.int8)),
              _initializer(model, f"{name}/scale", weight.scale.astype(np.float32)),
              _initializer(model, f"{name}/zero", np.zeros(weight.scale.shape, np.int8))]
    return [helper.make_node("DequantizeLinear", stored, [name], name=f"{name}/dequantize",
                             axis=weight.axis)]


def _requantized(model, stand_in, encoding: Encoding):
    """A quantize, dequantize pair; below 8 bits behind a Clip, for opset 13 knows only 8."""
    from onnx import helper
    name, source, nodes = stand_in.output[0], stand_in.input[0], []
    if encoding.spec.bits < 8:
        limits = [_initializer(model, f"{name}/{k}", np.float32(v).reshape(()))
                  for k, v in zip(("low", "high"), encoding.range)]
        nodes.append(helper.make_node("Clip", [source, *limits], [f"{name}/clipped"],
                                      name=f"{name}/clip"))
        source = f"{name}/clipped"
    grid = [_initializer(model, f"{name}/scale", np.float32(encoding.scale).reshape(())),
            _initializer(model, f"{name}/zero", np.zeros((), np.int8))]
    return nodes + [helper.make_node("QuantizeLinear", [source, *grid], [f"{name}/codes"],
                                     name=f"{name}/quantize"),
                    helper.make_node("DequantizeLinear", [f"{name}/codes", *grid], [name],
                                     name=f"{name}/dequantize")]


def _initializer(model, name: str, value: np.ndarray) -> str:
    from onnx import numpy_helper
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name
