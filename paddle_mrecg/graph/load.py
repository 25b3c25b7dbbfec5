# SPDX-License-Identifier: Apache-2.0
"""Find the files of an exported model, whatever their names, and read them."""
import os
from typing import List, Optional, Tuple

import numpy as np

from ..compat import op_proto, paddle_version
from ..errors import ModelError, MrecgError
from ..files import is_hidden
from .batch import free_batch
from .carried import all_ops, op_types
from .graph import Graph, TensorInfo
from .pir import read_pir
from .program import read_program

_PROGRAM_SUFFIXES = (".pdmodel", ".json")
_LEGACY_PROGRAM = "__model__"
_PARAMS_SUFFIX = ".pdiparams"
_LEGACY_PARAMS = ("__params__", "params")


def load_graph(model_dir: str, model_filename: Optional[str] = None,
               params_filename: Optional[str] = None,
               allow_quantized: bool = False) -> Graph:
    """Read an exported inference model.

    Args:
        model_dir(str): directory of the model, or the common prefix of its two files
            (``dir/inference``), or the program file itself.
        model_filename(str, optional): program file inside ``model_dir``; needed only when
            several would do. Default: None.
        params_filename(str, optional): combined parameter file inside ``model_dir``. Default: None,
            found automatically; the directory holds one file per parameter when there is none.
        allow_quantized(bool, optional): accept a program with quantize / dequantize ops, to look at
            a result. Default: False.

    Returns:
        Graph: the model, from ProgramDesc or from PIR JSON.

    Raises:
        ModelError: nothing, or more than one candidate, was found, or a file cannot be used.
    """
    model_dir = os.fspath(model_dir)
    program, params = _locate(model_dir, model_filename, params_filename)
    read = read_pir if program.endswith(".json") else read_program
    try:
        graph = read(program, params, allow_quantized)
        _check_texts(graph)
        _check_connected(graph)
        _check_writable(graph)
        free_batch(graph)
        _complete_batch_norms(graph)
        graph.files = (program, params) if os.path.isfile(params) else None
        _use_running_statistics(graph)
        return graph
    except (MrecgError, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever a few wrong bytes bring about
        raise ModelError(f"{program} or its parameters are damaged ({type(error).__name__}: "
                         f"{str(error)[:200]}): export the model again") from error


def _use_running_statistics(graph):
    """Batch norms that take the statistics of every batch at inference too, as pix2pix's do, take
    their running ones, as they do wherever a runtime folds them into a convolution, and in Lite.
    """
    found = [op for op in graph.ops if op.type in ("batch_norm", "sync_batch_norm")
             and (op.attrs.pop("trainable_statistics", False) or not op.attrs.get("is_test", False))
             and not op.attrs.get("use_global_stats", False)]
    for op in found:
        op.attrs["is_test"] = True
    if found:
        graph.files = None  # it computes something else
        graph.remarks += (
            f"batch normalizations of {graph.source} ({len(found)}) take the mean and variance of "
            "every batch at inference too (trainable_statistics, or exported while training); "
            "runtimes that fold them into convolutions cannot, so their running mean and variance "
            "are used: expect other outputs than those of the Python model",)


def _complete_batch_norms(graph):
    """Give batch norms without scale or bias ones and zeros: oneDNN's kernel crashes without."""
    for op in graph.ops:
        shape = graph.tensors[op.input("Variance")].shape if op.type == "batch_norm" else ()
        for slot, value in (("Scale", 1.0), ("Bias", 0.0)) if shape and shape[0] > 0 else ():
            if slot not in op.inputs:
                name = graph.unique_name(f"{op.output('Y')}.{slot.lower()}")
                graph.params[name] = np.full(shape, value, "float32")
                graph.tensors[name] = TensorInfo(name, shape)
                op.inputs[slot] = [name]


def _check_writable(graph):
    """Every op needs a ProgramDesc form; nothing made of the graph can be written without it."""
    for op_type in sorted(op_types(graph.ops)):
        if op_proto(op_type) is None:
            name = op_type.split(".", 1)[-1] if op_type[0].isdigit() else op_type
            raise ModelError(f"{graph.source}: op '{name}' has no ProgramDesc form in Paddle "
                             f"{paddle_version()}, which every target needs: express it with other "
                             "ops, or cut the model in front of it, and export again")


def _check_texts(graph):
    """Protobuf hands on names that are not text as bytes; nothing can be written with those."""
    for op in all_ops(graph.ops):
        texts = [op.type, *op.inputs, *op.outputs, *op.input_names, *op.output_names, *op.attrs]
        for value in op.attrs.values():
            texts += value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(text, bytes) for text in texts):
            raise ModelError(f"{graph.source} is damaged (an op has a name that is not text): "
                             "export the model again")


def _check_connected(graph):
    """Every tensor that is read must come from somewhere; a damaged program may
    parse and still not be whole.
    """
    known = set(graph.inputs) | set(graph.params)
    for op in graph.ops:
        for name in op.input_names:
            if name not in known:
                raise ModelError(f"{graph.source} is damaged (op '{op.type}' reads '{name}', which "
                                 "nothing writes): export the model again")
        known.update(op.output_names)
    missing = [name for name in graph.outputs if name not in known]
    if missing or not graph.outputs or not graph.ops:
        raise ModelError(f"{graph.source} has no complete path to its outputs "
                         f"{missing or graph.outputs}: export the model again with paddle.jit.save")


def _locate(model_dir, model_filename, params_filename) -> Tuple[str, str]:
    directory, stem = (model_dir, None) if os.path.isdir(model_dir) else _split_prefix(model_dir)
    if model_filename:
        program = os.path.join(directory, model_filename)
        if not os.path.isfile(program):
            raise ModelError(f"program file {program} does not exist; {_listing(directory)}")
    else:
        names = _programs(directory, stem)
        if stem and not names:
            raise ModelError(f"no program file {os.path.join(directory, stem)} (.pdmodel, .json); "
                             f"{_listing(directory)}")
        program = _only(names, "program", "model_filename", directory)
    if params_filename:
        params = os.path.join(directory, params_filename)
        if not os.path.isfile(params):
            raise ModelError(f"parameter file {params} does not exist; {_listing(directory)}")
        return program, params
    return program, _find_params(directory, program)


def _split_prefix(path):
    directory, stem = os.path.split(path)
    for suffix in _PROGRAM_SUFFIXES:
        if stem.endswith(suffix) and os.path.isfile(path):
            stem = stem[:-len(suffix)]
            return directory or ".", stem + suffix
    if not os.path.isdir(directory or "."):
        raise ModelError(f"model directory {path} does not exist; check Global.model_dir")
    return directory or ".", stem


def _programs(directory, stem) -> List[str]:
    """Program files that ``stem`` (a prefix, a file name, or None for any) may mean."""
    names = [n for n in sorted(os.listdir(directory)) if not is_hidden(n)]
    if stem is not None:
        names = [n for n in names if n in (stem, *(stem + s for s in _PROGRAM_SUFFIXES))]
        return [n for n in names if os.path.isfile(os.path.join(directory, n))]
    found = [n for n in names if n.endswith(".pdmodel") or n == _LEGACY_PROGRAM]
    return found + [n for n in names if n.endswith(".json") and _is_pir(os.path.join(directory, n))]


def _is_pir(path):
    """True for PIR programs, whose first key says so; a directory may hold other JSON files."""
    with open(path, "rb") as file:
        return b'"pir"' in file.read(256)


def _find_params(directory, program):
    """The combined parameter file that belongs to ``program``, else the directory."""
    stem = os.path.splitext(os.path.basename(program))[0]
    same = os.path.join(directory, stem + _PARAMS_SUFFIX)
    if os.path.isfile(same):
        return same
    found = [n for n in sorted(os.listdir(directory))
             if not is_hidden(n) and (n.endswith(_PARAMS_SUFFIX) or n in _LEGACY_PARAMS)]
    if not found:
        return directory
    return _only(found, "parameter", "params_filename", directory)


def _only(names, what, option, directory):
    if len(names) == 1:
        return os.path.join(directory, names[0])
    if names:
        raise ModelError(f"{directory} holds {len(names)} {what} files ({', '.join(names)}): "
                         f"choose one with Global.{option}")
    raise ModelError(f"no {what} file (.pdmodel, .json, __model__) in {directory}; "
                     f"{_listing(directory)}")


def _listing(directory):
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return f"{directory} cannot be listed"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"the directory holds {shown or 'nothing'}"
