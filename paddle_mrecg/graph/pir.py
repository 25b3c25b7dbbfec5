# SPDX-License-Identifier: Apache-2.0
"""Read Paddle 3.x's PIR JSON into a Graph of ProgramDesc ops.

The file is a list of ops in static single assignment form: ``#`` is the op's
name with a dialect number, ``I`` the value ids read, ``O`` the values written
with their types, ``A`` typed attributes. Parameters are ``p`` ops, with the
name in ``A[3]``; their values are in a ``.pdiparams`` as for ProgramDesc.
"""
import json
from typing import Any, Dict, List

import numpy as np

from ..errors import ModelError
from .carried import all_ops, apart, carry, read_by
from .graph import Graph, Op, TensorInfo, ops_behind
from .params import read_combined
from .pir_attrs import as_list, attributes, finish_attrs, is_list_attr, tensor_info
from .pir_blocks import BLOCK_OPS, Blocks
from .pir_forms import Forms
from .pir_table import PIR_RULES
from .program import BY_PRODUCTS, is_quantize_op
from .simplify import drop_unused

_EMPTY = 0  # the id of an operand that is not given


def read_pir(json_path: str, params_path: str, allow_quantized: bool = False) -> Graph:
    """Read a PIR inference program.

    Args:
        json_path(str): the ``.json`` program.
        params_path(str): the combined parameter file.
        allow_quantized(bool, optional): accept programs with quantize /
            dequantize ops. Default: False.

    Returns:
        Graph: the program in ProgramDesc's vocabulary. A PIR op without a
            translation keeps its PIR name, its
        operands in the slots ``X`` and ``Out`` and its raw attributes.

    Raises:
        ModelError: a file is missing, truncated, foreign, does not belong to the other, or the
            program is quantized already.
    """
    ops = _parse_json(json_path)
    reader = _Reader(json_path, allow_quantized)
    for op in ops:
        reader.read(op)
    graph = reader.finish()
    if reader.parameters:
        graph.params.update(read_combined(params_path, reader.parameters, json_path))
    drop_unused(graph)
    return graph


def _parse_json(path) -> List[dict]:
    try:
        with open(path, encoding="utf-8") as file:
            program = json.load(file)
    except OSError as error:
        raise ModelError(f"cannot read the program file {path} ({error.strerror}); check "
                         "Global.model_dir") from error
    except ValueError as error:
        raise ModelError(f"{path} is not a complete JSON program (wrong file, or truncated): "
                         "export the model again with paddle.jit.save") from error
    try:
        if program["base_code"]["magic"] != "pir":
            raise KeyError("magic")
        regions = program["program"]["regions"]
        return regions[0]["blocks"][0]["ops"]
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError(f"{path} is JSON but not a Paddle PIR program: give the model that "
                         "paddle.jit.save wrote") from error


class _Reader(Blocks, Forms):
    """Translates one op after the other; values are known by their PIR id."""

    def __init__(self, path, allow_quantized):
        self.path, self.allow_quantized = path, allow_quantized
        self.graph = Graph([], {}, {}, [], [], path)
        self.parameters: Dict[str, TensorInfo] = {}
        # id -> tensor name, or list of names for a vector
        self._names: Dict[int, Any] = {_EMPTY: None}
        self._constants: Dict[int, Any] = {}  # id -> number or list of numbers
        self._lists: Dict[int, List[str]] = {}  # id of a stack of scalars -> the scalars' names
        self.kinds: Dict[str, int] = {}  # variables that are not tensors
        self._feeds: List[tuple] = []
        self._fetches: List[tuple] = []
        self._counts: Dict[str, int] = {}

    def read(self, op):
        try:
            name = op["#"].split(".", 1)[-1]
            if op.get("regions") and name not in BLOCK_OPS:
                raise ModelError(f"{self.path}: op '{name}' has code of its own inside, which is "
                                 "not supported: export the model with other ops")
            if not self.allow_quantized and is_quantize_op(name):
                raise ModelError(f"{self.path} is already quantized (op '{name}'): start "
                                 "from the float model")
            getattr(self, "_read_" + name, self._read_op)(name, op)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            kind = op.get("#") if isinstance(op, dict) else op
            raise ModelError(f"{self.path}: op '{kind}' is not in the form that Paddle 3.3 writes: "
                             "export the model again with Paddle 3.3") from error

    def finish(self) -> Graph:
        self.graph.inputs = [name for _, name in sorted(self._feeds)]
        fetched = sorted(self._fetches)
        self.graph.outputs = [name for _, name, _ in fetched]
        rename = {}
        for _, name, wanted in fetched:  # the names that Paddle's own predictor shows
            if (name not in self.graph.inputs and name not in rename
                and self.graph.unique_name(wanted) == wanted):
                rename[name] = wanted
        self._carry()
        _rename(self.graph, rename)
        self.graph.ops = ops_behind(self.graph.ops, self.graph.outputs)
        _drop_by_products(self.graph.ops, self.graph)
        return self.graph

    def _carry(self):
        graph = self.graph
        graph.ops, carried = apart(graph.ops, self.kinds)
        _drop_by_products(carried, graph)
        known = {*graph.inputs, *graph.params, *self.parameters,
                 *(n for op in graph.ops for n in op.output_names)}
        carry(carried, graph, {n: n for n in known}, self.kinds)

    # Ops of the format itself. ------------------------------------------------------------

    def _read_p(self, _, op):
        name, out = op["A"][3], op["O"]
        if op.get("OA", [1])[0] == 0:  # a state that is made at run time; the file does not hold it
            self._names[out["%"]] = None
            return
        self._names[out["%"]] = name
        self.parameters[name] = self.graph.tensors[name] = tensor_info(name, out["TT"])

    def _read_data(self, _, op):
        self._feed(op, len(self._feeds))

    def _read_feed(self, _, op):
        self._feed(op, attributes(op)["col"])

    def _feed(self, op, column):
        out, name = op["O"][0], attributes(op)["name"]
        self._names[out["%"]] = name
        self.graph.tensors[name] = tensor_info(name, out["TT"])
        self._feeds.append((column, name))

    def _read_fetch(self, _, op):
        attrs = attributes(op)
        self._fetches.append((attrs["col"], self._names[op["I"][0]["%"]], attrs["name"]))

    def _read_combine(self, _, op):
        self._names[op["O"][0]["%"]] = [self._names[i["%"]] for i in op["I"]]

    def _read_split(self, name, op):
        if not op["#"].startswith("0."):
            return self._read_op(name, op)
        for out, source in zip(op["O"], self._names[op["I"][0]["%"]]):
            self._names[out["%"]] = source
        return None

    def _read_slice(self, name, op):
        if not op["#"].startswith("0."):
            return self._read_op(name, op)
        self._names[op["O"][0]["%"]] = self._names[op["I"][0]["%"]][attributes(op)["index"]]
        return None

    # Everything else. ---------------------------------------------------------------------

    def _read_op(self, name, op):
        rule = PIR_RULES.get(name)
        attrs = attributes(op)
        operands = [i["%"] for i in op["I"]]
        if rule is None or len(operands) > len(rule.inputs):
            inputs = {"X": [n for i in operands if i != _EMPTY for n in as_list(self._names[i])]}
            results = [n for o in op["O"] for n in as_list(self._new(o, name))]
            self._emit(op["#"], inputs, {"Out": results}, attrs)
            return
        attrs = {rule.rename.get(k, k): v for k, v in attrs.items() if rule.rename.get(k, k)}
        attrs.update(rule.extra)
        inputs: Dict[str, List[str]] = {}
        for role, operand in zip(rule.inputs, operands):
            self._operand(rule.type, role, operand, inputs, attrs)
        outputs = {}
        for slot, out in zip(rule.outputs, op["O"]):
            names = [n for n in as_list(self._new(out, rule.type)) if n is not None]
            if names and slot != "-":
                outputs[slot] = names
        tensors = self.graph.tensors
        finish_attrs(rule.type, attrs, [tensors[n] for n in inputs.get("X", ()) if n in tensors],
                     [tensors[n] for names in outputs.values() for n in names])
        self._emit(rule.type, inputs, outputs, attrs)

    def _operand(self, op_type, role, operand, inputs, attrs):
        if role == "-" or self._names[operand] is None:
            return
        if not role.startswith("@"):
            inputs[role] = list(as_list(self._names[operand]))
            return
        attr, list_slot, tensor_slot = (role[1:].split("/") + ["", ""])[:3]
        if operand in self._constants:
            attrs[attr] = self._constants[operand]
            return
        names = self._names[operand]
        names = (names if isinstance(names, list) else self._lists.get(operand)) if list_slot \
            else None
        if names is None and not tensor_slot:
            raise ModelError(f"{self.path}: '{attr}' is computed by the program itself, which is "
                             "not supported: export the model with fixed sizes")
        inputs[list_slot if names else tensor_slot] = names or [self._names[operand]]
        if op_type in ("slice", "strided_slice"):  # of what is computed no size is known before
            attrs["infer_flags"] = [-1] * len(attrs["axes"])
        if not is_list_attr(op_type, attr):
            attrs.setdefault(attr, 0)  # ProgramDesc wants a value although the tensor's counts
            return
        shape = self.graph.tensors[self._names[operand]].shape if not names else ()
        attrs[attr] = [-1] * max(len(names) if names else int(np.prod(shape or (1,))), 1)
        if attr == "shape" and names:  # what is constant helps Paddle's shape inference
            known = self._scalar_constants()
            attrs[attr] = [int(known.get(n, -1)) for n in names]

    def _scalar_constants(self):
        return {self._names[i]: v for i, v in self._constants.items() if not isinstance(v, list)}

    def _emit(self, op_type, inputs, outputs, attrs):
        self.graph.ops.append(Op(op_type, inputs, outputs, attrs))

    def _new(self, out, stem):
        """Name a result; a vector of tensors gets a list of names, an absent result none."""
        kind = out["TT"]
        if kind["#"].endswith("t_vec"):
            names = [self._named(stem, inner) for inner in kind["D"]]
            self._names[out["%"]] = names
            return names
        name = self._named(stem, kind)
        self._names[out["%"]] = name
        return name

    def _named(self, stem, kind):
        name = self._fresh(stem)
        self.graph.tensors[name] = tensor_info(name, kind)
        return name

    def _fresh(self, stem):
        while True:
            number = self._counts[stem] = self._counts.get(stem, -1) + 1
            name = f"{stem}_{number}.tmp_0"
            if name not in self.graph.tensors:
                return name


def _rename(graph, table):
    def new(name):
        return table.get(name, name)
    for op in graph.ops:
        for slots in (op.inputs, op.outputs):
            for slot, names in slots.items():
                slots[slot] = [new(n) for n in names]
    graph.tensors = {new(n): TensorInfo(new(n), t.shape, t.dtype) for n, t in graph.tensors.items()}
    graph.outputs = [new(n) for n in graph.outputs]


def _drop_by_products(ops, graph):
    read = read_by(ops).union(graph.outputs)
    for op in all_ops(ops):
        for slot in BY_PRODUCTS.get(op.type, ()):
            if op.type == "batch_norm" or not read.intersection(op.outputs.get(slot, ())):
                op.outputs.pop(slot, None)
