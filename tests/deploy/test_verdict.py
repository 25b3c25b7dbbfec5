# SPDX-License-Identifier: Apache-2.0
"""A right program, one that is wrong in a layer, and rounding at an edge are told apart."""
import dataclasses

import numpy as np
import pytest

from paddle_mrecg.deploy.check import doctor, runtimes, verdict as module
from paddle_mrecg.deploy.check.agreement import agreement
from paddle_mrecg.deploy.check.text import report_text
from paddle_mrecg.deploy.check.verdict import compared_tensors, verdict
from paddle_mrecg.deploy.apart import Ran
from paddle_mrecg.deploy.simulate import simulate
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.writer import save_program
from tests.tiny import tiny_quantized, tiny_samples

FEED = {"image": tiny_samples()["image"][:4]}


@pytest.fixture
def written(tmp_path):
    graph = tiny_quantized(first_layer_weight_bits=4, last_layer_weight_bits=4)
    save_program(graph, str(tmp_path / "model"))
    return str(tmp_path / "model"), graph, simulate(graph, FEED, compared_tensors(graph))


def test_a_right_program_agrees(written):
    prefix, graph, expected = written
    found = verdict(prefix, FEED, expected)
    assert found["verdict"] == "agrees" and found["relative"] < 1e-4 and not found["why"]
    assert found["agreement"] == ["top-1 of 'probability' is equal for 4 of 4 samples"]


def test_one_sample_of_four_that_rounds_otherwise_is_not_another_network(written):
    prefix, _, expected = written
    for apart, wanted in (([1], "agrees but for rounding at the edge of a step"),
                          ([0, 1, 2], "differs")):
        moved = {n: v.copy() for n, v in expected.items()}
        for value in moved.values():
            value[apart] *= 1.2
        assert verdict(prefix, FEED, moved)["verdict"] == wanted


def test_another_program_in_the_file_differs(written):
    prefix, graph, expected = written
    name = next(n for n, v in graph.params.items() if v.dtype == np.int8)
    graph.params[name] = -graph.params[name]
    save_program(graph, prefix)
    found = verdict(prefix, FEED, expected)
    assert found["verdict"] == "differs" and "not the network that was simulated" in found["why"]


def test_a_layer_that_the_runtime_computes_otherwise_is_named(written, monkeypatch):
    prefix, graph, expected = written

    def wrong(graph_, feed, seconds, repeat=0):
        graph_ = graph_.copy()
        graph_.params["c.b"] = graph_.params["c.b"] + 3.0
        return RUN(graph_, feed, seconds, repeat)
    RUN = runtimes.RUNTIMES["inference"]
    monkeypatch.setitem(runtimes.RUNTIMES, "inference", wrong)
    monkeypatch.setattr(module, "_run_inference", lambda graph_, names, feed: Ran(
        wrong(dataclasses.replace(graph_, outputs=names), feed, 60).outputs))
    found = verdict(prefix, FEED, expected)
    assert found["verdict"] == "differs" and "c.w" in found["why"]


def test_nan_differs_and_a_crash_is_a_verdict(written, monkeypatch):
    prefix, graph, expected = written
    run = module._run_inference

    def nan(graph_, names, feed, optimize=True):
        ran = run(graph_, names, feed)
        ran.outputs[names[0]][0] = np.nan
        return ran
    monkeypatch.setattr(module, "_run_inference", nan)
    found = verdict(prefix, FEED, expected)
    assert found["verdict"] == "differs" and "NaN" in found["why"] and "max_abs_diff" not in found
    killed = Ran(failure="killed by SIGSEGV")
    monkeypatch.setattr(module, "_run_inference", lambda *args, **kwargs: killed)
    found = verdict(prefix, FEED, expected)
    assert found["verdict"] == "failed" and found["why"].endswith("SIGSEGV")
    monkeypatch.setattr(module, "_run_inference", lambda *args, optimize=True:
                        killed if optimize else run(*args))
    found = verdict(prefix, FEED, expected)
    assert found["verdict"] == "failed" and "switch_ir_optim(False)" in found["why"]


def edge():
    """A value that lies on the edge of two coarse steps, and what amplifies it a thousandfold."""
    from paddle_mrecg.deploy.qdq import QdqBuilder
    from paddle_mrecg.grids.affine import Encoding, QuantSpec
    tensors = {n: TensorInfo(n, (-1, 4)) for n in ("x", "y", "z", "out")}
    graph = Graph([], tensors, {"w": np.eye(4, dtype=np.float32)}, ["x"], ["out"])
    graph.tensors["w"] = TensorInfo("w", (4, 4))
    encoding = Encoding(QuantSpec(8, signed=True, symmetric=True), np.float32(1.0), np.float32(0.0))
    builder = QdqBuilder(graph)
    ops = [Op("matmul_v2", {"X": ["x"], "Y": ["w"]}, {"Out": ["y"]}, {}),
           *builder.activation("y", encoding),
           Op("matmul_v2", {"X": ["y@quantized"], "Y": ["w"]}, {"Out": ["z"]}, {}),
           Op("scale", {"X": ["z"]}, {"Out": ["out"]}, dict(scale=1000.0, bias=0.0,
                                                           bias_after_scale=True))]
    graph.ops = ops
    return graph


def test_rounding_at_an_edge_is_not_a_difference(monkeypatch):
    """The runtime sums in another order: 1e-6 more in front of the quantizer."""
    graph = edge()
    feed = {"x": np.array([[0.5 - 1e-7, 1.2, 2.9, -3.4]], np.float32)}

    def shaken(graph_, given, seconds, repeat=0):
        given = {n: v if n.endswith("@cut") else v * np.float32(1 + 1e-6)
                 for n, v in given.items()}
        return runtimes.Outcome({n: v for n, v in simulate(graph_, given, graph_.outputs).items()})
    monkeypatch.setitem(runtimes.RUNTIMES, "inference", shaken)
    report = doctor.check(graph, feed, ["inference"], arm=False)
    found, = report.runtimes
    assert found.relative > 0.01 and report.is_fine
    assert found.status == doctor.EDGE and "amplified behind" in found.why
    assert "rounding at the edge of a step" in report_text(report)


def test_a_difference_that_rounding_does_not_explain_is_none_of_an_edge(monkeypatch):
    graph = edge()
    feed = {"x": np.array([[0.2, 1.2, 2.9, -3.4]], np.float32)}

    def wrong(graph_, given, seconds, repeat=0):
        found = simulate(graph_, given, graph_.outputs)
        whole = not any(n.endswith("@cut") for n in graph_.inputs)
        return runtimes.Outcome({n: v * np.float32(1.5) if whole and n == "out" else v
                                 for n, v in found.items()})
    monkeypatch.setitem(runtimes.RUNTIMES, "inference", wrong)
    found, = doctor.check(graph, feed, ["inference"], arm=False).runtimes
    assert found.status == doctor.DIFFERS and "in a whole run alone" in found.why


def test_labels_and_boxes_are_counted():
    ops = [Op("softmax", {"X": ["a"]}, {"Out": ["p"]}, {}),
           Op("arg_max", {"X": ["a"]}, {"Out": ["label"]}, {}),
           Op("multiclass_nms3", {"BBoxes": ["a"], "Scores": ["a"]}, {"Out": ["boxes"]}, {})]
    graph = Graph(ops, {}, {}, ["a"], ["p", "label", "boxes"])
    p = np.array([[0.1, 0.9], [0.6, 0.4]])
    label, boxes = np.array([1, 0]), np.array([[0, .9, 0, 0, 10, 10], [1, .8, 0, 0, 10, 10]])
    moved = np.array([[0, .9, 1, 0, 10, 10], [0, .8, 0, 0, 10, 10]])
    assert agreement(graph, dict(p=p, label=label, boxes=boxes),
                     dict(p=p[:, ::-1] * [[1, 1], [0, 1]], label=np.array([1, 1]), boxes=moved)
                     ) == ["top-1 of 'p' is equal for 0 of 2 samples",
                           "50.0% of the whole numbers of 'label' are equal",
                           "1 of 2 boxes are found again (overlap 0.5, same class), of 2"]


def test_features_are_not_called_classes_and_outputs_are_named():
    graph = Graph([], {}, {}, [], ["p", "features", "map"])
    p, features = np.full((1, 2), 0.5), np.array([[-3.0, 2.0, 1.0]])
    values = dict(p=p, features=features, map=np.ones((1, 2, 3)))
    assert agreement(graph, values, values) == [
        "top-1 of 'p' is equal for 1 of 1 sample",
        "the largest value of 'features' is in the same place in 1 of 1 sample"]
