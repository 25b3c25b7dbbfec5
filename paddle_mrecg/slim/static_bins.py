# SPDX-License-Identifier: Apache-2.0
"""Bin regularization in a static training program: its gradient is added to that
of every quantized weight.

``dL/dv = 2 (v - s q) / V(q)`` (see ``strategies/bin_regularization.py``), with
the step that the program itself uses. It enters between the backward pass and
the optimizer, as ops of the program: no loss changes, and the test program
knows nothing of it.
"""
from typing import Dict, List, NamedTuple

import numpy as np

from ..config.aware import BinRegularization
from ..errors import ModelError
from .modes import optimizer_ops

BACKWARD = 1  # op_role
PREFIX = "bin_regularization."


class _BinnedWeight(NamedTuple):
    """A quantized parameter: where its abs-max is, and its grid."""

    name: str
    scale: str
    bits: int
    axis: int  # -1: one scale in all


def add_bin_regularization(program, settings: BinRegularization) -> List[str]:
    """Insert the gradient into ``program``, in place.

    Args:
        program(paddle.static.Program): what ``quant_aware`` made of a training program.
        settings(BinRegularization): lambda.

    Returns:
        list[str]: the regularized weights.

    Raises:
        ModelError: the program trains no quantized weight.
    """
    block = program.global_block()
    weights = {w.name: w for w in _quantized(block)}
    found = []
    for op in optimizer_ops(program):
        if op.input("Param")[0] in weights:
            weight, gradient = weights[op.input("Param")[0]], op.input("Grad")[0]
            ops = _Ops(block, block.ops.index(op), PREFIX + weight.name)
            op._rename_input(gradient, _regularized(ops, weight, gradient, settings.lambda_))
            found.append(weight.name)
    if not found:
        raise ModelError("bin regularization found no quantized weight with an optimizer in the "
                         "program: call minimize before quant_aware, and pass the training program")
    return found


def _quantized(block) -> List[_BinnedWeight]:
    """Parameters behind a fake-quantizer, in the ONNX form and in the older one."""
    result = []
    for op in block.ops:
        if (op.type == "quantize_linear" or op.type.startswith("fake_")
            and "OutScale" in op.output_names):
            name = op.input("X")[0]
            scale = op.output("OutScale") if "OutScale" in op.output_names else op.input("Scale")
            if scale and block.has_var(name) and block.var(name).persistable:
                axis = (op.attr("quant_axis")
                        if op.has_attr("quant_axis") and "moving" not in op.type else -1)
                axis = axis if int(np.prod(block.var(scale[0]).shape)) > 1 else -1
                result.append(_BinnedWeight(name, scale[0], op.attr("bit_length"), axis))
    return result


def _regularized(ops: "_Ops", weight: _BinnedWeight, gradient: str, factor: float) -> str:
    """Ops for ``gradient + factor dL/dv``; returns the name of their result."""
    shape = list(ops.block.var(weight.name).shape)
    top = 2 ** (weight.bits - 1) - 1
    step = ops("scale", {"X": weight.scale}, scale=1.0 / top, bias=1e-30, bias_after_scale=True)
    if weight.axis >= 0:
        step = ops.reshape(step, [n if k == weight.axis else 1 for k, n in enumerate(shape)])
    code = ops("round", {"X": ops("elementwise_div", {"X": weight.name, "Y": step}, axis=-1)})
    code = ops("clip", {"X": code}, min=float(-top - 1), max=float(top))
    error = ops("elementwise_sub",
                {"X": weight.name, "Y": ops("elementwise_mul", {"X": code, "Y": step}, axis=-1)},
                axis=-1)
    bins = ops("scale", {"X": code}, scale=1.0, bias=float(top + 1), bias_after_scale=True)
    bins = ops.reshape(ops.cast(bins, "int64"), [-1])
    counts = ops.cast(ops("bincount", {"X": bins}, "int64", minlength=2 ** weight.bits), "float32")
    size = ops.reshape(ops("gather", {"X": counts, "Index": bins}), shape)
    own = ops("scale", {"X": ops("elementwise_div", {"X": error, "Y": size}, axis=-1)},
              scale=2.0 * factor, bias=0.0,
              bias_after_scale=True)
    return ops("elementwise_add", {"X": gradient, "Y": own}, axis=-1)


class _Ops:
    """Appends ops at a place of a block, one after the other."""

    def __init__(self, block, place: int, prefix: str):
        self.block, self.place, self.prefix, self.count = block, place, prefix, 0

    def __call__(self, kind: str, inputs: Dict[str, str], dtype="float32", output="Out", extra=(),
                 **attrs) -> str:
        names = [f"{self.prefix}.{self.count}.{slot}" for slot in (output, *extra)]
        self.count += 1
        for name in names:
            self.block.create_var(name=name, dtype=dtype, stop_gradient=True)
        self.block._insert_op(self.place, type=kind, inputs={k: [v] for k, v in inputs.items()},
                              outputs={slot: [name] for slot, name in zip((output, *extra), names)},
                              attrs=dict(attrs, op_role=BACKWARD))
        self.place += 1
        return names[0]

    def reshape(self, x: str, shape) -> str:
        return self("reshape2", {"X": x}, self.block.var(x).dtype, extra=("XShape",), shape=shape)

    def cast(self, x: str, dtype: str) -> str:
        import paddle
        convert = paddle.base.framework.convert_np_dtype_to_dtype_
        return self("cast", {"X": x}, dtype, in_dtype=self.block.var(x).dtype,
                    out_dtype=convert(dtype))
