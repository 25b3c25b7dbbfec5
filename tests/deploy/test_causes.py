# SPDX-License-Identifier: Apache-2.0
"""What Paddle itself computes differently is named, with what to do."""
import numpy as np
import pytest

from paddle_mrecg.deploy.check import causes
from paddle_mrecg.deploy.check.causes import UNKNOWN, likely_cause
from paddle_mrecg.deploy.check.cut import Layer
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo

POOL = dict(pooling_type="avg", ceil_mode=True, exclusive=False)


def cause_of(op_type, **attrs):
    op = Op(op_type, {"X": ["x"]}, {"Out": ["y"]}, attrs)
    return likely_cause(Layer("y", [op], []), Graph([op], {}, {}, ["x"], ["y"]), "inference", {})


def test_average_pooling_beyond_the_border():
    found = cause_of("pool2d", **POOL)
    assert "ceil_mode=True and exclusive=False" in found.text and "disable_mkldnn" in found.cure
    for other in (dict(pooling_type="max"), dict(ceil_mode=False), dict(exclusive=True)):
        assert cause_of("pool2d", **{**POOL, **other}) is UNKNOWN


@pytest.mark.parametrize("version, named", [("2.6.2", True), ("3.3.1", False)])
def test_padding_of_paddle_2(version, named, monkeypatch):
    monkeypatch.setattr(causes, "paddle_version", lambda: version)
    found = cause_of("pad3d")
    assert ("padding of zeros" in found.text) == named and (found is UNKNOWN) != named


@pytest.mark.parametrize("side, written, named", [
    (13, -1, "leaves sizes free"), (8, -1, None),
    (13, 13, None)])  # written in float: something else is wrong
def test_x86_spoils_what_its_quantizer_leaves_over(side, written, named):
    ops = [Op("quantize_linear", {"X": ["x"]}, {"Y": ["q"]}),
           Op("conv2d", {"Input": ["q"], "Filter": ["w"]}, {"Output": ["y"]})]
    graph = Graph(ops, {"x": TensorInfo("x", (-1, 8, written, written))}, {}, ["x"], ["y"])
    found = likely_cause(Layer("y", ops, ["w"]), graph, "lite",
                         {"x": np.zeros([2, 8, side, side], np.float32)})
    assert found.x86_only == (named is not None) and (named or UNKNOWN.text) in found.text
