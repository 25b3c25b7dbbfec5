# SPDX-License-Identifier: Apache-2.0
"""What ``paddle_lite_opt`` made of every convolution and matrix product: int8, or float and why."""
import dataclasses
from typing import Dict, List

from ...compat import framework_pb2
from ...graph.graph import WEIGHT_SLOTS, Graph, Op
from ..rewrites import stored_parameter

KERNEL = "__@kernel_type_attr@__"
_INT8_KINDS = {*WEIGHT_SLOTS, "depthwise_conv2d_transpose", "fc"}
_WEIGHT_INPUTS = ("Filter", "W", "Y")


@dataclasses.dataclass
class OpRow:
    """One weighted op of the converted program.

    Attributes:
        type(str): op type after conversion.
        weight(str): the parameter that it reads.
        int8(bool): True when the kernel computes in int8.
        kernel(str): e.g. ``conv2d/int8_out``.
        why(str): why it stayed float; empty for int8.
    """

    type: str
    weight: str
    int8: bool
    kernel: str
    why: str = ""


def op_rows(graph: Graph, converted: bytes) -> List[OpRow]:
    """The table.

    Args:
        graph(Graph): the program that was converted.
        converted(bytes): opt's protobuf output.
    """
    program = framework_pb2().ProgramDesc()
    program.ParseFromString(converted)
    why = float_reasons(graph)
    rows = []
    for op in program.blocks[0].ops:
        slots = {e.parameter: list(e.arguments) for e in op.inputs}
        weight = next((slots[s][0] for s in _WEIGHT_INPUTS if slots.get(s)), "")
        if op.type not in _INT8_KINDS or weight not in why:
            continue
        attrs = {a.name: a for a in op.attrs}
        kernel = attrs[KERNEL].s if KERNEL in attrs else op.type
        is_int8 = "enable_int8" in attrs and attrs["enable_int8"].b
        rows.append(OpRow(op.type, weight, is_int8, "/".join(kernel.split("/")[:2]),
                          "" if is_int8 else why[weight] or "the converter has "
                                                            "no int8 kernel for it"))
    return rows


def float_reasons(graph: Graph) -> Dict[str, str]:
    """Weight -> why no converter can run its op in int8; empty when the
    program says all that is needed.

    Stored weights are named by their parameter, in float or as codes.
    """
    producers = graph.producers()
    reasons = {}
    for op in graph.ops:
        if op.type in WEIGHT_SLOTS:
            data, weight = (op.input(slot) for slot in WEIGHT_SLOTS[op.type][:2])
            stored = stored_parameter(weight, graph, producers)
            if stored and graph.params[stored].ndim >= 2:
                reasons[stored] = _why_float(data, weight, graph, producers)
    return reasons


def _why_float(data: str, weight: str, graph: Graph, producers: Dict[str, Op]) -> str:
    maker = producers.get(weight)
    if maker is None:
        return ("computes in float on the codes, see the changes" if weight.endswith(".float")
                else "the weight is not quantized")
    if maker.type == "elementwise_add":
        return "the weight's grid has a zero point"
    source = producers.get(data)
    if source is None or not is_dequantizer(source):
        return "its activation is not quantized by quantize_linear"
    return ""


def is_dequantizer(op: Op) -> bool:
    """True for ops whose result lies on a grid."""
    return op.type == "dequantize_linear" or op.type.startswith("fake_quantize_dequantize")
