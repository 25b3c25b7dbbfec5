# SPDX-License-Identifier: Apache-2.0
"""Ops that Paddle Lite lacks are told before anything is trained."""
import pytest

from paddle_mrecg.deploy.lite.convert import convert
from paddle_mrecg.deploy.lite.ops import kernels, lite_note, missing_ops
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from tests.deploy.derive_lite_ops import table
from tests.lite import lite_tools
from tests.tiny import tiny_graph, tiny_quantized


def of_ops(*types):
    names = [f"t{k}" for k in range(len(types) + 1)]
    ops = [Op(kind, {"X": [a]}, {"Out": [b]}) for kind, a, b in zip(types, names, names[1:])]
    return Graph(ops, {n: TensorInfo(n, (1, 4)) for n in names}, {}, names[:1], names[-1:])


def test_ops_without_a_kernel_are_named_for_their_target():
    graph = of_ops("relu", "acosh", "softsign", "erf", "quantize_linear")
    assert missing_ops(graph, "arm") == ["acosh", "softsign"]
    assert missing_ops(graph, "x86") == ["acosh", "erf"]
    note, = lite_note(graph)
    assert "has no kernel for acosh, softsign (arm), erf (x86): express" in note


def test_what_lite_runs_is_not_mentioned():
    for graph in (tiny_graph(), tiny_quantized(target="paddle_lite")):
        assert lite_note(graph) == []


@pytest.fixture
def tools():
    return lite_tools()


def test_the_table_is_what_the_converter_says(tools):
    assert table() == kernels()


@pytest.mark.parametrize("kind, target, runs", [("erf", "arm", True), ("erf", "x86", False),
                                                ("acosh", "arm", False), ("floor", "x86", True)])
def test_the_converter_takes_what_the_table_promises(tools, kind, target, runs):
    graph = of_ops(kind)
    assert bool(missing_ops(graph, target)) != runs
    if runs:
        assert convert(graph, tools, target).data
    else:
        with pytest.raises(ModelError, match=kind):
            convert(graph, tools, target)
