# SPDX-License-Identifier: Apache-2.0
"""The neutral graph: what every reader fills and every job works on.

Op types, slot names and attributes are those of Paddle's ProgramDesc
(``conv2d`` with ``Input``/``Filter``/``Output``), whichever format was read;
there is one vocabulary inside. Ops stand in a valid execution order. ``feed``
and ``fetch`` are not ops here: they are ``Graph.inputs`` and ``Graph.outputs``.
Loops and branches, and what depends on them, are one op: see ``carried``.
"""
import dataclasses
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np


@dataclasses.dataclass
class TensorInfo:
    """What is known of a tensor without running the graph.

    ``shape`` has -1 where a dimension is free; ``dtype`` is a numpy name
    (``float32``, ``int64``, ...).
    """

    name: str
    shape: Tuple[int, ...] = ()
    dtype: str = "float32"


@dataclasses.dataclass(eq=False)
class Op:
    """One op: ``inputs`` and ``outputs`` map a slot to tensor names.

    ``alone`` is not empty for an op that takes one sample at a time, as where a batch of one was
    written into it (see ``probe``): per input name, how many entries along axis 0 belong to a
    sample, 0 where all samples share the tensor.
    """

    type: str
    inputs: Dict[str, List[str]]
    outputs: Dict[str, List[str]]
    attrs: Dict[str, Any] = dataclasses.field(default_factory=dict)
    alone: Tuple[int, ...] = ()

    def input(self, slot: str) -> Optional[str]:
        """The single tensor name in ``slot``, or None when the slot is empty."""
        names = self.inputs.get(slot)
        return names[0] if names else None

    def output(self, slot: str) -> Optional[str]:
        names = self.outputs.get(slot)
        return names[0] if names else None

    @property
    def input_names(self) -> List[str]:
        return [n for names in self.inputs.values() for n in names]

    @property
    def output_names(self) -> List[str]:
        return [n for names in self.outputs.values() for n in names]

    def __repr__(self):
        return f"{self.type}({', '.join(self.input_names)}) -> {', '.join(self.output_names)}"


@dataclasses.dataclass
class Graph:
    """Ops in execution order, tensors by name, parameters as numpy arrays."""

    ops: List[Op]
    tensors: Dict[str, TensorInfo]
    params: Dict[str, np.ndarray]
    inputs: List[str]
    outputs: List[str]
    source: str = ""
    # Program and combined parameters that it was read from, where they compute the same.
    files: Optional[Tuple[str, str]] = None
    remarks: Tuple[str, ...] = ()  # what reading it changed, in sentences

    def producers(self) -> Dict[str, Op]:
        """Tensor name -> the op that writes it."""
        return {name: op for op in self.ops for name in op.output_names}

    def consumers(self) -> Dict[str, List[Op]]:
        """Tensor name -> the ops that read it, in execution order."""
        table: Dict[str, List[Op]] = {}
        for op in self.ops:
            for name in dict.fromkeys(op.input_names):
                table.setdefault(name, []).append(op)
        return table

    def up_to(self, names: Sequence[str]) -> "Graph":
        """What computes the tensors ``names``, which are its outputs; ops and arrays are shared."""
        ops = ops_behind(self.ops, names)
        read = {n for op in ops for n in op.input_names}
        return dataclasses.replace(self, ops=ops, inputs=[n for n in self.inputs if n in read],
                                   outputs=list(names))

    def copy(self) -> "Graph":
        """A copy whose ops and tables may be changed; arrays are shared."""
        ops = [Op(o.type, {k: list(v) for k, v in o.inputs.items()},
                  {k: list(v) for k, v in o.outputs.items()}, dict(o.attrs), o.alone)
               for o in self.ops]
        tensors = {n: dataclasses.replace(t) for n, t in self.tensors.items()}
        return Graph(ops, tensors, dict(self.params), list(self.inputs), list(self.outputs),
                     self.source, self.files, self.remarks)

    def unique_name(self, stem: str) -> str:
        """A tensor name that is not taken yet."""
        name, k = stem, 0
        while name in self.tensors or name in self.params:
            k += 1
            name = f"{stem}_{k}"
        return name


def ops_behind(ops: Sequence[Op], names: Iterable[str]) -> List[Op]:
    """Those of ``ops`` that the tensors ``names`` depend on, in order."""
    needed, found = set(names), []
    for op in reversed(ops):
        if needed.intersection(op.output_names):
            needed.update(op.input_names)
            found.append(op)
    return found[::-1]


QUANTIZED = "@quantized"  # suffix of the quantized view of a tensor

# Ops whose weight may be quantized, and where their activation, weight and
# result sit. `channel` is the output-channel axis of the weight.
WEIGHT_SLOTS = {
    "conv2d": ("Input", "Filter", "Output"),
    "depthwise_conv2d": ("Input", "Filter", "Output"),
    "conv2d_transpose": ("Input", "Filter", "Output"),
    "depthwise_conv2d_transpose": ("Input", "Filter", "Output"),
    "mul": ("X", "Y", "Out"),
    "matmul": ("X", "Y", "Out"),
    "matmul_v2": ("X", "Y", "Out"),
}


def weight_name(op: Op, graph: Graph) -> Optional[str]:
    """The parameter that quantization of ``op`` would touch, else None."""
    if op.type not in WEIGHT_SLOTS:
        return None
    name = op.input(WEIGHT_SLOTS[op.type][1])
    if name not in graph.params:
        return None
    # A product with a stack of matrices has no output channel that Paddle's kernels could scale.
    wanted = 2 if op.type in ("mul", "matmul", "matmul_v2") else 4
    return name if graph.params[name].ndim == wanted else None


def activation_name(op: Op) -> str:
    """The activation that a quantizable ``op`` reads."""
    return op.input(WEIGHT_SLOTS[op.type][0])


def channel_axis(op: Op) -> int:
    """The output-channel axis of the weight of a quantizable ``op``."""
    if op.type in ("conv2d", "depthwise_conv2d", "depthwise_conv2d_transpose"):
        return 0  # of a depthwise transposed weight [C, 1, h, w] too: a channel has its own kernel
    if op.type == "conv2d_transpose":
        return 1
    transposed = op.attrs.get("trans_y", op.attrs.get("transpose_Y", False))
    return 0 if transposed else 1
