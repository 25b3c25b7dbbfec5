# SPDX-License-Identifier: Apache-2.0
"""Paddle's parameter files: streams of tensors, one after the other, sorted by name.

One record is: uint32 version, uint64 number of LoD levels (each: uint64 bytes
and that many bytes), uint32 version, int32 size of a TensorDesc protobuf, the
TensorDesc, the raw little-endian data. ``.pdiparams`` of ProgramDesc and of
PIR programs are the same.
"""
import os
import struct
from typing import Dict, Mapping

import numpy as np

from ..compat import framework_pb2
from ..errors import ModelError
from .graph import TensorInfo

DTYPE_NAMES = {0: "bool", 1: "int16", 2: "int32", 3: "int64", 4: "float16", 5: "float32",
               6: "float64", 20: "uint8",
               21: "int8", 22: "bfloat16"}
DTYPE_CODES = {name: code for code, name in DTYPE_NAMES.items()}
_CURE = "export the model again, program and parameters together"


class _Truncated(Exception):
    """The data ended inside a record."""


class _NotATensor(Exception):
    """The bytes at hand are not a tensor record."""


def read_combined(path: str, expected: Mapping[str, TensorInfo],
                  model_path: str = "") -> Dict[str, np.ndarray]:
    """Read a combined parameter file.

    Args:
        path(str): the file.
        expected(Mapping[str, TensorInfo]): the program's parameters; the file
            holds them sorted by name.
        model_path(str, optional): the program's file, for messages. Default: "".

    Returns:
        dict[str, np.ndarray]: name -> value.

    Raises:
        ModelError: missing, truncated, foreign, or not the file of this program.
    """
    if os.path.isdir(path):
        raise _absent(path, model_path)
    data = _read_bytes(path)
    position, params = 0, {}
    for index, name in enumerate(sorted(expected)):
        if position == len(data):
            raise ModelError(f"{path} holds {index} parameters but {model_path or 'the program'} "
                             f"has {len(expected)}: the files do not belong together or the file "
                             f"is truncated; {_CURE}")
        params[name], position = _checked_record(data, position, path, expected[name])
    if position != len(data):
        raise ModelError(f"{path} holds more than the {len(expected)} parameters of "
                         f"{model_path or 'the program'}: the files do not "
                         f"belong together; {_CURE}")
    return params


def read_separate(directory: str, expected: Mapping[str, TensorInfo],
                  model_path: str = "") -> Dict[str, np.ndarray]:
    """Read one file per parameter, each named like its parameter; arguments and
    errors as in read_combined.
    """
    if not any(os.path.isfile(os.path.join(directory, name)) for name in expected):
        raise _absent(directory, model_path)
    params = {}
    for name in sorted(expected):
        path = os.path.join(directory, name)
        if not os.path.isfile(path):
            raise ModelError(f"parameter file {path} is missing: give the complete model "
                             "directory, or name the combined parameter file in "
                             "Global.params_filename")
        data = _read_bytes(path)
        params[name], end = _checked_record(data, 0, path, expected[name])
        if end != len(data):
            raise ModelError(f"{path} holds more than one parameter: name it in "
                             "Global.params_filename if it is the combined parameter file")
    return params


def write_combined(file, params: Mapping[str, np.ndarray]) -> None:
    """Write parameters as a combined file into an open binary file."""
    pb = framework_pb2()
    for name in sorted(params):
        array = np.asarray(params[name])
        description = pb.VarType.TensorDesc(data_type=DTYPE_CODES[array.dtype.name],
                                            dims=list(array.shape))
        encoded = description.SerializeToString()
        file.write(struct.pack("<IQIi", 0, 0, 0, len(encoded)))
        file.write(encoded)
        file.write(np.ascontiguousarray(array).tobytes())


def _absent(directory, model_path) -> ModelError:
    stem = os.path.splitext(os.path.basename(model_path))[0]
    return ModelError(f"no parameter file next to {model_path or 'the program'}: copy {stem}"
                      f".pdiparams, which was exported with it, into {directory}, or name the file "
                      "in Global.params_filename")


def _read_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ModelError(f"cannot read the parameter file {path} ({error.strerror}); "
                         "check Global.params_filename") from error


def _checked_record(data, position, path, info):
    try:
        value, position = _record(data, position)
    except _Truncated as error:
        raise ModelError(f"{path} is truncated (it ends inside parameter "
                         f"'{info.name}'); {_CURE}") from error
    except _NotATensor as error:
        raise ModelError(f"{path} is not a Paddle parameter file, or is damaged at parameter "
                         f"'{info.name}'; {_CURE}") from error
    if len(info.shape) == 1 and value.size == info.shape[0] == max(value.shape, default=1):
        value = value.reshape(info.shape)  # Paddle 2.6 stores its scales as [] and [1, n]
    if info.shape and tuple(value.shape) != tuple(info.shape):
        raise ModelError(f"{path}: parameter '{info.name}' has shape {list(value.shape)} but the "
                         f"program expects {list(info.shape)}: the files do not "
                         f"belong together; {_CURE}")
    return value, position


def _take(data, position, size):
    if position + size > len(data):
        raise _Truncated
    return data[position:position + size], position + size


def _record(data, position):
    header, position = _take(data, position, 12)
    version, levels = struct.unpack("<IQ", header)
    if version != 0 or levels > 8:
        raise _NotATensor
    for _ in range(levels):
        size, position = _take(data, position, 8)
        _, position = _take(data, position, struct.unpack("<Q", size)[0])
    header, position = _take(data, position, 8)
    version, size = struct.unpack("<Ii", header)
    if version != 0 or not 0 < size < 1024:
        raise _NotATensor
    encoded, position = _take(data, position, size)
    dtype, dims = _tensor_description(encoded)
    count = 1
    for dim in dims:  # Python integers: a damaged file must not overflow
        count *= dim
    raw, position = _take(data, position, count * dtype.itemsize)
    return np.frombuffer(raw, dtype).reshape(dims).copy(), position


def _tensor_description(encoded):
    description = framework_pb2().VarType.TensorDesc()
    try:
        description.ParseFromString(encoded)
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        raise _NotATensor from error
    name = DTYPE_NAMES.get(description.data_type)
    if name == "bfloat16":
        raise ModelError("the parameters are bfloat16, which cannot be quantized here: export the "
                         "model in float32")
    if name is None or any(d < 0 for d in description.dims):
        raise _NotATensor
    return np.dtype(name), tuple(description.dims)
