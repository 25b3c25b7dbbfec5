# SPDX-License-Identifier: Apache-2.0
"""Quantizers as ops of a program: ``quantize_linear`` and ``dequantize_linear`` (QDQ).

Codes are int8 whatever their bits (an 8-bit container: the scale attribute is step x 127),
because Paddle Lite, Paddle Inference and paddle2onnx all read that form; an activation of
fewer bits is clipped to its range first. An activation grid that ``quantize_linear`` cannot
express (zero point, or unsigned) is written as scale, clip, shift, scale: right in Paddle
Inference, for simulation only.
"""
from typing import Dict, List

import numpy as np

from ..graph.graph import QUANTIZED, Graph, Op, TensorInfo
from ..grids.affine import Encoding
from ..grids.fake_quantize import ROUNDER
from .forms import scaled

CONTAINER_BITS = 8
CONTAINER_MAX = 127.0  # quantize_linear's Scale is the value of this code


class QdqBuilder:
    """Adds the tensors and ops of one quantizer to a graph."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.prologue: List[Op] = []  # weights are dequantized first
        self.dequantized: Dict[str, str] = {}

    def weight(self, name: str, codes: np.ndarray, encoding: Encoding):
        """Replace parameter ``name`` by int8 codes and dequantize it into ``name.dequantized``."""
        graph, spec = self.graph, encoding.spec
        # unsigned codes are stored shifted into int8
        shift = 0 if spec.signed else 2**(spec.bits - 1)
        stored = codes - shift
        if (stored.min() < -128 or stored.max() > 127
            or not np.array_equal(stored, np.round(stored))):
            # an internal error, never the user's fault
            raise AssertionError(f"codes of {name} are not int8 integers")
        graph.params[name] = stored.astype(np.int8)
        graph.tensors[name] = TensorInfo(name, codes.shape, "int8")
        axis = spec.axis if spec.axis is not None else 0
        channels = codes.shape[axis]
        # One scale per channel even for per-tensor grids: Paddle Lite's batch-norm fusion
        # corrupts memory otherwise.
        scale = np.broadcast_to(encoding.scale, (channels,)).astype(np.float32)
        out = self._tensor(name + ".dequantized", codes.shape)
        self.prologue.append(Op("dequantize_linear",
                                dict(X=[name],
                                     Scale=[self._param(name + ".scale", scale * CONTAINER_MAX)],
                                     ZeroPoint=[self._param(name + ".zero_point",
                                                            np.zeros(channels, np.float32))]),
                                {"Y": [out]}, _attrs(axis)))
        offset = (np.broadcast_to(encoding.zero_point - shift, (channels,)).astype(np.float32)
                  * scale)
        if np.any(offset):
            shifted = self._tensor(name + ".shifted", codes.shape)
            self.prologue.append(Op("elementwise_add",
                                    dict(X=[out], Y=[self._param(name + ".offset", -offset)]),
                                    {"Out": [shifted]}, {"axis": axis}))
            out = shifted
        self.dequantized[name] = out

    def activation(self, name: str, encoding: Encoding) -> List[Op]:
        """The ops that turn ``name`` into its quantized view."""
        spec = encoding.spec
        out = self._tensor(name + QUANTIZED, self.graph.tensors[name].shape)
        if not spec.signed or float(encoding.zero_point) != 0.0:
            return self._plain(name, encoding, out)
        scale = self._param(name + ".scale",
                            np.float32(encoding.scale).reshape(1) * np.float32(CONTAINER_MAX))
        zero = self._param(name + ".zero_point", np.zeros(1, np.float32))
        ops, source, shape = [], name, self.graph.tensors[name].shape
        # fewer bits: Paddle 3 takes its range from elsewhere than bit_length
        if spec.qmin > -CONTAINER_MAX - 1:
            source, (low, high) = self._tensor(name + ".clipped", shape), encoding.range
            ops.append(Op("clip", {"X": [name]}, {"Out": [source]},
                          dict(min=float(low), max=float(high))))
        codes = self._tensor(name + ".codes", shape)
        # one variable for both ops: Paddle Lite fuses only then
        shared = dict(Scale=[scale], ZeroPoint=[zero])
        return ops + [Op("quantize_linear", dict(X=[source], **shared), {"Y": [codes]}, _attrs(-1)),
                      Op("dequantize_linear", dict(X=[codes], **shared), {"Y": [out]}, _attrs(-1))]

    def _plain(self, name: str, encoding: Encoding, out: str) -> List[Op]:
        """Scale, clip, shift, scale; adding ROUNDER rounds to integer, halves to even.

        oneDNN computes ``scale`` as x * a + b in one rounding, so the large number is
        taken off by a step of its own where a is 1, and its ``round`` is a hundred times
        slower than all of these.
        """
        step, shift = float(encoding.scale), float(encoding.zero_point) + ROUNDER
        shape, spec = self.graph.tensors[name].shape, encoding.spec
        rounded, clipped, codes = (self._tensor(f"{name}.{k}", shape)
                                   for k in ("rounded", "clipped", "codes"))
        return [scaled(name, rounded, 1.0 / step, shift),
                Op("clip", {"X": [rounded]}, {"Out": [clipped]},
                   dict(min=spec.qmin + ROUNDER, max=spec.qmax + ROUNDER)),
                scaled(clipped, codes, 1.0, -shift), scaled(codes, out, step)]

    def _param(self, stem: str, value: np.ndarray) -> str:
        name = self._tensor(stem, value.shape)
        self.graph.params[name] = np.ascontiguousarray(value, np.float32)
        return name

    def _tensor(self, stem: str, shape) -> str:
        name = self.graph.unique_name(stem)
        self.graph.tensors[name] = TensorInfo(name, tuple(shape), "float32")
        return name


def _attrs(axis: int):
    # round_type 0: half to even, as in the simulation.
    return dict(quant_axis=axis, bit_length=CONTAINER_BITS, round_type=0, is_test=True,
                only_observer=False)
