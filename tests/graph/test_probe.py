# SPDX-License-Identifier: Apache-2.0
"""What a tensor is follows from where it comes from, not from what it happens to hold."""
import itertools
import warnings

import numpy as np
import paddle
import pytest

from paddle_mrecg.errors import DataError, ModelError
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.ops import run_ops
from paddle_mrecg.graph.probe import probe

from tests.tiny import tiny_graph, tiny_samples


def graph_of(*ops, params=None):
    names = {n for op in ops for n in op.input_names + op.output_names} | {"x"}
    return Graph(list(ops), {n: TensorInfo(n) for n in names}, dict(params or {}), ["x"],
                 [ops[-1].output_names[0]])


def simple(kind, source, result, **attrs):
    return Op(kind, {"X": [source]}, {"Out": [result]}, attrs)


def shape_of(source, result):
    return Op("shape", {"Input": [source]}, {"Out": [result]})


def part(source, result, start, end):
    attrs = dict(axes=[0], starts=[start], ends=[end], decrease_axis=[])
    return Op("slice", {"Input": [source]}, {"Out": [result]}, attrs)


FEED = {"x": np.arange(24, dtype="float32").reshape(3, 2, 4)}


def test_shape_chains_split_into_batch_and_constant():
    ops = simple("relu", "x", "y"), shape_of("y", "s"), part("s", "n", 0, 1), part("s", "hw", 1, 3)
    found = probe(graph_of(*ops), FEED)
    assert ({n: found.kind[n] for n in "xysn"}
            == {"x": "sample", "y": "sample", "s": "other", "n": "other"})
    assert found.kind["hw"] == "constant"
    assert found.constants["hw"].tolist() == [2, 4]
    assert found.shapes["y"] == (-1, 2, 4)


def test_equal_values_from_data_are_not_constant():
    zeros = graph_of(simple("scale", "x", "z", scale=0.0, bias=0.0, bias_after_scale=True))
    assert probe(zeros, FEED).kind["z"] == "sample"


def test_parameters_give_constants():
    add = Op("elementwise_add", {"X": ["x"], "Y": ["c"]}, {"Out": ["y"]}, {"axis": -1})
    graph = graph_of(simple("relu", "w", "c"), add,
                     params={"w": np.array([-1.0, 2.0, 3.0, 4.0], "float32")})
    found = probe(graph, FEED)
    assert found.constants["c"].tolist() == [0.0, 2.0, 3.0, 4.0]
    assert found.is_constant(graph.ops[0]) and not found.is_constant(graph.ops[1])


def test_batch_elsewhere_or_fused_is_other():
    graph = graph_of(simple("transpose2", "x", "t", axis=[1, 0, 2]),
                     simple("reshape2", "x", "r", shape=[-1, 4]))
    assert {n: probe(graph, FEED).kind[n] for n in "tr"} == {"t": "other", "r": "other"}


def test_mixing_samples_is_other():
    graph = graph_of(simple("softmax", "x", "y", axis=0))
    for feed in (FEED, {"x": FEED["x"][:1]}):  # also when one sample stands for all
        assert probe(graph, feed).kind["y"] == "other"


def test_unsupported_ops_and_what_follows_are_unreached():
    graph = graph_of(simple("relu", "x", "y"), simple("multiclass_nms3", "y", "boxes"),
                     simple("relu", "boxes", "z"))
    found = probe(graph, FEED)
    assert found.unsupported == [graph.ops[1]]
    assert list(found.unreached) == graph.ops[1:]
    assert ("multiclass_nms3" in found.unreached[graph.ops[1]]
            and "boxes" in found.unreached[graph.ops[2]])
    assert "z" not in found.kind


def test_bad_numbers_name_the_tensor():
    with pytest.raises(DataError, match="'x'.*NaN"):
        probe(graph_of(simple("relu", "x", "y")), {"x": np.full((2, 2), np.nan, "float32")})
    with pytest.raises(DataError, match="no samples.*'x'"):
        probe(graph_of(simple("relu", "x", "y")), {"z": FEED["x"]})
    overflow = simple("scale", "x", "y", scale=3e38, bias=0.0, bias_after_scale=True)
    infinite = graph_of(overflow, simple("relu", "y", "z"))
    with pytest.raises(ModelError, match="'y'.*NaN or Inf"):
        probe(infinite, FEED)
    clip = simple("clip", "y", "z", min=-1.0, max=1.0)
    assert probe(graph_of(overflow, clip), FEED).kind["z"] == "sample"
    with pytest.raises(ModelError, match="'y'.*NaN or Inf"):
        probe(graph_of(overflow, clip, simple("relu", "y", "w")), FEED)


@pytest.mark.parametrize("scaled, name, weight",
                         [("image", "image", "a.w"), ("b.w", "b.conv", "b.w")])
def test_layers_whose_values_are_too_large_are_named(scaled, name, weight):
    """One sentence in front of everything that squares them, and no warning of numpy."""
    graph, feed = tiny_graph(), {n: v[:3].copy() for n, v in tiny_samples().items()}
    (feed if scaled in feed else graph.params)[scaled] *= np.float32(1e25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=f"activation '{name}' of the layer with weight "
                                            f"'{weight}': its values reach .*e.25 .*: scale the"):
            probe(graph, feed)


def test_ops_that_take_one_sample_at_a_time_get_them_one_by_one():
    graph = graph_of(simple("reshape2", "x", "y", shape=[1, 8]), simple("relu", "y", "z"))
    x = np.random.RandomState(0).standard_normal((3, 2, 4)).astype("float32")
    found = probe(graph, {"x": x})
    assert found.one_by_one and not found.unreached
    assert [op.alone for op in graph.ops] == [(1,), ()]
    assert found.kind["y"] == found.kind["z"] == "sample"
    values = run_ops(graph.ops, {"x": paddle.to_tensor(x)})
    np.testing.assert_array_equal(values["z"].numpy(), np.maximum(x.reshape(3, 8), 0))
    graph.ops[0].attrs["shape"] = [-1, 8]
    assert not probe(graph, {"x": x}).one_by_one and graph.ops[0].alone == ()  # marked anew


@pytest.mark.parametrize("shape, counted", [([-1, 8], 3), ([1, 8], 1 + 2 + 3)])
def test_a_pass_is_timed_per_sample(monkeypatch, shape, counted):
    """Of the last run; of all runs, where samples go one by one."""
    seconds = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(seconds)))  # a second per question
    graph = graph_of(simple("reshape2", "x", "y", shape=shape), simple("relu", "y", "z"))
    found = probe(graph, {"x": FEED["x"]})
    assert found.seconds(graph.ops) == pytest.approx(2 / counted)
    assert found.seconds(graph.ops[1:]) == pytest.approx(1 / counted)


def test_what_mixes_a_batch_of_one_is_done_sample_by_sample():
    """Squeezed, every axis is the sample's own: a softmax over the first must not see others."""
    graph = graph_of(simple("squeeze2", "x", "s", axes=[0]), simple("softmax", "s", "p", axis=0),
                     simple("reshape2", "p", "y", shape=[1, 2, 4]))
    x = np.random.RandomState(0).standard_normal((3, 2, 4)).astype("float32")
    found = probe(graph, {"x": x})
    assert not found.unreached and [op.alone for op in graph.ops] == [(1,), (2,), (2,)]
    assert found.kind["p"] == "other" and found.kind["y"] == "sample"
    values = run_ops(graph.copy().ops, {"x": paddle.to_tensor(x)})
    np.testing.assert_allclose(values["y"].numpy(),
                               np.exp(x) / np.exp(x).sum(1, keepdims=True), rtol=1e-5)


def test_the_shape_of_one_sample_is_a_constant_where_a_batch_of_one_is_written():
    to = Op("reshape2", {"X": ["f"], "ShapeTensor": [], "Shape": ["s"]}, {"Out": ["y"]}, {})
    graph = graph_of(shape_of("x", "s"), simple("reshape2", "x", "f", shape=[1, 8]), to)
    x = np.random.RandomState(0).standard_normal((3, 2, 4)).astype("float32")
    found = probe(graph, {"x": x})
    assert found.constants["s"].tolist() == [1, 2, 4] and found.kind["y"] == "sample"
    values = run_ops(graph.ops, {"x": paddle.to_tensor(x)})
    np.testing.assert_array_equal(values["y"].numpy(), x)


def test_results_that_cannot_be_joined_stay_in_the_program():
    graph = graph_of(simple("reshape2", "x", "y", shape=[1, 8]),
                     simple("reduce_sum", "y", "z", reduce_all=True, keep_dim=False),
                     simple("relu", "z", "r"))
    found = probe(graph, {"x": np.ones((3, 2, 4), "float32")})
    assert found.unsupported == [graph.ops[1]] and list(found.unreached) == graph.ops[1:]
    assert "though one alone runs" in found.unreached[graph.ops[1]]


def test_attention_has_its_batch_on_another_axis(registry_model):
    prefix, feed = registry_model("ocr_rec")
    found = probe(load_graph(prefix), feed)
    moved = [n for n, s in found.shapes.items()
             if found.kind[n] == "other" and len(s) == 5 and s[0] == 3]
    assert moved and all(found.shapes[n][1] == 2 for n in moved)
    assert not found.unreached


def test_ops_of_the_executor_are_reached_and_named(monkeypatch):
    """Dygraph's functions refuse the op; what stands behind it is known all the same."""
    from paddle_mrecg.graph.ops import legacy
    monkeypatch.setattr(legacy, "is_known", lambda op: False)
    graph = graph_of(simple("logsumexp", "x", "y", axis=[1], keepdim=True),
                     simple("relu", "y", "z"))
    found = probe(graph, FEED)
    assert found.forward_only == graph.ops[:1] and not found.unreached
    assert found.kind["z"] == "sample"


def test_masks_may_be_infinite_and_layers_may_not():
    shape = FEED["x"].shape[1:]
    mask = np.full(shape, -np.inf, "float32")
    add = Op("elementwise_add", {"X": ["x"], "Y": ["m"]}, {"Out": ["y"]}, {"axis": -1})
    softly = simple("exp", "y", "z")
    graph = graph_of(add, softly)
    graph.params["m"] = mask
    assert probe(graph, FEED).kind["z"] == "sample"
    graph.params["m"] = np.full(shape, np.nan, "float32")
    with pytest.raises(ModelError, match="NaN"):
        probe(graph, FEED)


def test_a_size_that_does_not_fit_is_not_taken_for_a_batch():
    reshape = Op("reshape2", {"X": ["y"]}, {"Out": ["z"]}, dict(shape=[-1, 3]))
    said = r"on one sample of x \[2, 4\] too .* calibration data of the size"
    with pytest.raises(ModelError, match=said):
        probe(graph_of(simple("relu", "x", "y"), reshape), FEED)
