# SPDX-License-Identifier: Apache-2.0
"""PIR's loops, branches and arrays in ProgramDesc's terms.

In PIR a loop or a branch returns values: a block ends in ``yield``. In ProgramDesc the blocks write
variables around them: a loop its loop variables, which are copies of what it starts from, and a
branch one variable for each result and side, between which ``select_input`` chooses.
"""
from typing import List, Tuple

import numpy as np

from .carried import STEP_SCOPES, TENSOR_ARRAY, Region, read_by, written_by
from .graph import TensorInfo
from .params import DTYPE_CODES
from .pir_attrs import ARRAY, attributes

BLOCK_OPS = ("while", "if")


class Blocks:
    """Part of the reader; see ``pir._Reader`` for the rest."""

    # Loops and branches. -----------------------------------------------------------------------

    def _read_while(self, _, op):
        condition, *given = [self._names[i["%"]] for i in op["I"]]
        block, = op["regions"][0]["blocks"]
        shadowed = {arg["#"]: self._names.get(arg["#"]) for arg in block["args"]}
        variables = [self._variable(arg, name) for arg, name in zip(block["args"], given)]
        goes_on = self._derived("assign", condition)
        body, read, written = self._block(
            block, lambda found: self._step([goes_on, *variables], found))
        scopes = self._scopes("while_scopes")
        self._emit("while", {"X": read, "Condition": [goes_on]},
                   {"Out": written, "StepScopes": [scopes]}, {"sub_block": body, "is_test": True})
        self._names.update({key: name for key, name in shadowed.items() if name is not None})
        for out, name in zip(op["O"], variables):
            self._result(out, name)

    def _variable(self, arg, start: str) -> str:
        """A loop variable that starts from ``start``; an array is its own variable."""
        name = start if _is_array(arg) else self._named("while", arg["TT"])
        if name != start:
            self._emit("assign", {"X": [start]}, {"Out": [name]}, {})
        self._names[arg["#"]] = name
        return name

    def _step(self, variables: List[str], found: List[str]) -> None:
        """At the end of a loop's body: all variables get their next values at once."""
        taken = {value: self._derived("assign", value) for name, value in zip(variables, found)
                 if value != name and value in variables}
        for name, value in zip(variables, found):
            if name != value:
                self._emit("assign", {"X": [taken.get(value, value)]}, {"Out": [name]}, {})

    def _read_if(self, _, op):
        condition = self._names[op["I"][0]["%"]]
        sides = []
        for name, region in zip((condition, self._derived("logical_not", condition)),
                                op["regions"]):
            block, = region["blocks"]
            results = [self._side(out) for out in op["O"]]
            body, read, written = self._block(
                block, lambda found, results=results: self._assign(results, found))
            scopes = self._scopes("if_scopes")
            self._emit("conditional_block", {"Cond": [name], "Input": read},
                       {"Out": written, "Scope": [scopes]},
                       {"sub_block": body, "is_scalar_condition": True})
            sides.append(results)
        mask = self._derived("cast", condition, "int32", in_dtype=DTYPE_CODES["bool"],
                             out_dtype=DTYPE_CODES["int32"])
        for out, yes, no in zip(op["O"], *sides):
            if _is_array(out):
                self._names[out["%"]] = yes
            else:
                self._emit("select_input", {"X": [no, yes], "Mask": [mask]},
                           {"Out": [self._new(out, "if")]}, {})

    def _derived(self, op_type: str, source: str, dtype: str = None, **attrs) -> str:
        """What an op with one input makes of it: a tensor of the same shape, and of the same type
        but where ``dtype`` says another.
        """
        name, info = self._fresh(op_type), self.graph.tensors[source]
        self.graph.tensors[name] = TensorInfo(name, info.shape, dtype or info.dtype)
        self._emit(op_type, {"X": [source]}, {"Out": [name]}, attrs)
        return name

    def _side(self, out):
        """The variable of one side for a result."""
        return None if _is_array(out) else self._named("if_side", out["TT"])

    def _assign(self, results, found):
        """At the end of a branch: its results; an array stays where it is."""
        for k, value in enumerate(found):
            if results[k] is None:
                results[k] = value
            else:
                self._emit("assign", {"X": [value]}, {"Out": [results[k]]}, {})

    def _block(self, block, finish) -> Tuple[Region, List[str], List[str]]:
        """Translate a block; ``finish`` gets the names that it yields and may add ops. Returns it,
        and what it reads and writes of what is around it.
        """
        outer, self.graph.ops = self.graph.ops, []
        around = {*self.graph.tensors, *self.graph.params}
        *ops, last = block["ops"]
        for op in ops:
            self.read(op)
        finish([self._names[i["%"]] for i in last["I"]])
        ops, self.graph.ops = self.graph.ops, outer
        tensors, kinds = self.graph.tensors, self.kinds
        own = {n for op in ops for n in op.output_names} - around  # blocks inside have theirs
        region = Region(ops, {n: tensors[n] for n in sorted(own & set(tensors))},
                        {n: kinds[n] for n in sorted(own & set(kinds))})
        around |= set(self.graph.params)  # constants of the block are there now, too
        return region, sorted(around & read_by(ops)), sorted(around & written_by(ops))

    def _scopes(self, stem: str) -> str:
        """The variable in which a loop or a branch keeps the scopes of its block."""
        name = self._fresh(stem)
        self.kinds[name] = STEP_SCOPES
        self.graph.tensors[name] = TensorInfo(name)
        return name

    def _result(self, out, variable: str) -> None:
        if _is_array(out):
            self._names[out["%"]] = variable
        else:
            self._emit("assign", {"X": [variable]}, {"Out": [self._new(out, "while")]}, {})

    # Arrays of tensors, which are written in place. --------------------------------------------

    def _read_create_array(self, _, op):
        self.kinds[self._new(op["O"][0], "array")] = TENSOR_ARRAY

    def _read_array_write_(self, _, op):
        array, value, place = [self._names[i["%"]] for i in op["I"]]
        self._emit("write_to_array", {"X": [value], "I": [place]}, {"Out": [array]}, {})
        self._names[op["O"][0]["%"]] = array

    def _read_array_read(self, _, op):
        array, place = [self._names[i["%"]] for i in op["I"]]
        self._emit("read_from_array", {"X": [array], "I": [place]},
                   {"Out": [self._new(op["O"][0], "array_read")]}, {})

    def _read_slice_array_dense(self, _, op):
        """One element; ``slice`` takes it out of an array as out of a tensor."""
        array, start = [i["%"] for i in op["I"]]
        attrs = {"axes": [0], "decrease_axis": [0], "infer_flags": [-1]}
        inputs = {"Input": [self._names[array]]}
        if start in self._constants:
            first = int(np.ravel(self._constants[start])[0])
            attrs.update(starts=[first], ends=[first + 1 or np.iinfo("int32").max])
        else:
            first = (self._lists.get(start) or [self._names[start]])[0]
            inputs.update(StartsTensorList=[first],
                          EndsTensorList=[self._derived("scale", first, scale=1.0, bias=1.0)])
            attrs.update(starts=[-1], ends=[-1])
        self._emit("slice", inputs, {"Out": [self._new(op["O"][0], "slice")]}, attrs)

    def _read_array_length(self, _, op):
        self._emit("lod_array_length", {"X": [self._names[op["I"][0]["%"]]]},
                   {"Out": [self._new(op["O"][0], "array_length")]}, {})

    def _read_array_to_tensor(self, _, op):
        out, index = [self._new(o, "array") for o in op["O"]]
        self._emit("tensor_array_to_tensor", {"X": [self._names[op["I"][0]["%"]]]},
                   {"Out": [out], "OutIndex": [index]}, attributes(op))


def _is_array(value) -> bool:
    return value["TT"]["#"].endswith(ARRAY)
