# SPDX-License-Identifier: Apache-2.0
"""Write a Graph as ProgramDesc: ``prefix.pdmodel`` and ``prefix.pdiparams``.

ProgramDesc is what Paddle Inference 2.x and 3.x, Paddle Lite and paddle2onnx all read.
"""
import os

from ..compat import framework_pb2, op_versions
from ..errors import ModelError, OutputError, said
from .block_desc import FEED_LIST, FETCH_LIST, add_op, add_region, add_tensors, add_variable
from .carried import CARRIED, in_place, op_types
from .graph import Graph, Op, TensorInfo
from .params import write_combined


def save_program(graph: Graph, prefix: str) -> None:
    """Write ``prefix.pdmodel`` and ``prefix.pdiparams``; both or neither appear.

    Args:
        graph(Graph): ops in execution order.
        prefix(str): path without suffix; its directory is made when missing.

    Raises:
        OutputError: the files cannot be written.
        ModelError: the graph has an op type or a value that Paddle has no ProgramDesc form of.
    """
    try:
        program = program_desc(graph)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise ModelError("the model cannot be written as a program "
                         f"({said(error)[:200]}): its file may be damaged, "
                         "export it again") from error
    paths = [prefix + ".pdmodel", prefix + ".pdiparams"]
    temporary = [f"{path}.{os.getpid()}.tmp" for path in paths]
    try:
        os.makedirs(os.path.dirname(os.path.abspath(prefix)), exist_ok=True)
        with open(temporary[0], "wb") as file:
            file.write(program.SerializeToString())
        with open(temporary[1], "wb") as file:
            write_combined(file, graph.params)
        for source, target in zip(temporary, paths):
            os.replace(source, target)
    except OSError as error:
        raise OutputError(f"cannot write the model to {prefix}.* ({error.strerror}): check "
                          "Global.save_dir") from error
    finally:
        for path in temporary:
            if os.path.exists(path):
                os.remove(path)


def program_desc(graph: Graph):
    """The graph as a ``framework_pb2.ProgramDesc`` with feed and fetch ops."""
    graph = _without_leading_params(graph)
    program = framework_pb2().ProgramDesc()
    program.version.version = 0  # read by every Paddle version
    block = program.blocks.add(idx=0, parent_idx=-1)
    add_variable(block, "feed", FEED_LIST, persistable=True)
    add_variable(block, "fetch", FETCH_LIST, persistable=True)
    add_tensors(block, graph)
    names = set(graph.tensors) | set(graph.params)
    for column, name in enumerate(graph.inputs):
        add_op(program, block, Op("feed", {"X": ["feed"]}, {"Out": [name]}, {"col": column}), names)
    for op in graph.ops:
        if op.type == CARRIED:
            add_region(program, block, in_place(op, names), names)
        else:
            add_op(program, block, op, names)
    _add_op_versions(program, graph)
    for column, name in enumerate(graph.outputs):
        fetch = Op("fetch", {"X": [name]}, {"Out": ["fetch"]}, {"col": column})
        add_op(program, block, fetch, names)
    return program


def _without_leading_params(graph: Graph) -> Graph:
    """A concat whose first input is a parameter (a class token in front of the patches) kills
    Paddle Inference's seqpool_cvm_concat_fuse_pass: it reads a copy instead.
    """
    if not any(op.type == "concat" and op.inputs["X"][0] in graph.params for op in graph.ops):
        return graph
    graph = graph.copy()
    ops, graph.ops = graph.ops, []
    for op in ops:
        if op.type == "concat" and op.inputs["X"][0] in graph.params:
            name = op.inputs["X"][0]
            copied = graph.unique_name(name + ".copy")
            value = graph.params[name]
            graph.tensors[copied] = TensorInfo(copied, value.shape, str(value.dtype))
            graph.ops.append(Op("assign", {"X": [name]}, {"Out": [copied]}))
            op.inputs["X"][0] = copied
        graph.ops.append(op)
    return graph


def _add_op_versions(program, graph):
    """Without an entry Paddle takes an op for one of its first version and rewrites attributes."""
    versions = op_versions()
    for op_type in sorted(op_types(graph.ops)):
        if op_type in versions:
            pair = program.op_version_map.pair.add(op_name=op_type)
            pair.op_version.version = versions[op_type]
