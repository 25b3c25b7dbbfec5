# SPDX-License-Identifier: Apache-2.0
"""PIR ops that a table cannot translate: constants, and ops that become several or other ones."""
import numpy as np

from .graph import TensorInfo
from .params import DTYPE_CODES
from .pir_attrs import attributes, tensor_info


class Forms:
    """Part of the reader: ``_read_<op>`` for each such op; see ``pir._Reader`` for the rest."""

    # Constants: kept as values for folding, and as tensors for whatever reads them. ---

    def _read_full(self, _, op):
        attrs, out = attributes(op), op["O"][0]
        dtype, value, shape = attrs["dtype"], attrs["value"], list(attrs["shape"])
        value = value if dtype.startswith("float") else int(value)
        if len(shape) == 0 or shape == [1]:
            self._constants[out["%"]] = value
        text = str(value) if isinstance(value, int) else repr(float(value))
        self._emit("fill_constant", {}, {"Out": [self._new(out, "fill_constant")]},
                   {"shape": shape, "value": float(value), "str_value": text,
                    "dtype": DTYPE_CODES[dtype]})

    def _read_full_int_array(self, _, op):
        attrs, out = attributes(op), op["O"][0]
        self._constants[out["%"]] = list(attrs["value"])
        self._constant_tensor(out, np.asarray(attrs["value"], attrs["dtype"]))

    def _read_assign_value(self, _, op):
        attrs = attributes(op)
        self._constant_tensor(op["O"][0],
                              np.asarray(attrs["values"], attrs["dtype"]).reshape(attrs["shape"]))

    _read_assign_value_ = _read_assign_value

    def _constant_tensor(self, out, array):
        self.graph.params[self._new(out, "assign_value")] = array

    # Ops with another shape in ProgramDesc. -------------------------------------------------

    def _read_shape64(self, _, op):
        out = op["O"][0]
        narrow = self._fresh("shape")
        self.graph.tensors[narrow] = TensorInfo(narrow, tensor_info("", out["TT"]).shape, "int32")
        self._emit("shape", {"Input": [self._names[op["I"][0]["%"]]]}, {"Out": [narrow]}, {})
        self._emit("cast", {"X": [narrow]}, {"Out": [self._new(out, "cast")]},
                   {"in_dtype": DTYPE_CODES["int32"], "out_dtype": DTYPE_CODES["int64"]})

    def _read_arange(self, name, op):
        """ProgramDesc's range has the type of its operands; PIR's has a type of its own."""
        wanted = tensor_info("", op["O"][0]["TT"]).dtype
        given = self.graph.tensors[self._names[op["I"][0]["%"]]].dtype
        self._read_op(name, op)
        if wanted == given:
            return
        written = self.graph.ops[-1]
        plain = self._fresh("range")
        shape = self.graph.tensors[written.output("Out")].shape
        self.graph.tensors[plain] = TensorInfo(plain, shape, given)
        self._emit("cast", {"X": [plain]}, written.outputs,
                   {"in_dtype": DTYPE_CODES[given], "out_dtype": DTYPE_CODES[wanted]})
        written.outputs = {"Out": [plain]}

    def _read_deformable_conv(self, name, op):
        """Without a mask it is another op in ProgramDesc."""
        self._read_op(name, op)
        written = self.graph.ops[-1]
        if "Mask" not in written.inputs:
            written.type = "deformable_conv_v1"

    def _read_repeat_interleave(self, name, op):
        """ProgramDesc has no such op; along a dimension of known size it picks elements."""
        source = self._names[op["I"][0]["%"]]
        attrs, shape = attributes(op), self.graph.tensors[source].shape
        axis = attrs["axis"] % len(shape)
        if shape[axis] < 1:
            self._read_op(name, op)
            return
        index = self._fresh("repeat_interleave")
        picked = np.repeat(np.arange(shape[axis], dtype="int64"), attrs["repeats"])
        self.graph.params[index] = picked
        self.graph.tensors[index] = TensorInfo(index, picked.shape, "int64")
        self._emit("gather", {"X": [source], "Index": [index]},
                   {"Out": [self._new(op["O"][0], "gather")]}, {"axis": axis})

    def _read_stack(self, name, op):
        self._lists[op["O"][0]["%"]] = self._names[op["I"][0]["%"]]
        self._read_op(name, op)
