# SPDX-License-Identifier: Apache-2.0
"""A batch of one that the export wrote into the program becomes a free one."""
import numpy as np
import paddle
import paddle.nn as nn
import pytest

import paddle_mrecg
from paddle_mrecg.graph.from_layer import graph_from_layer
from paddle_mrecg.graph.probe import probe
from tests.executor import executor_outputs
from tests.graph.sweep.blocks import Of
from tests.graph.sweep.networks import NETWORKS


def exported(function):
    paddle.seed(0)
    layer = Of(lambda m, x: function(m.conv(x)), conv=nn.Conv2D(3, 12, 3, padding=1))
    spec = [paddle.static.InputSpec([1, 3, 4, 4], "float32", "x")]
    return layer, graph_from_layer(layer, spec)


X = np.random.RandomState(0).uniform(-1, 1, (3, 3, 4, 4)).astype("float32")


@pytest.mark.parametrize("function", [
    lambda y: y.reshape([1, 2, 6, 4, 4]).transpose([0, 1, 3, 4, 2]),
    lambda y: y.reshape([1, 12, -1]).transpose([0, 2, 1]), lambda y: y.reshape([1, -1]),
    lambda y: y.mean([2, 3], keepdim=True).expand([1, 12, 4, 4]) + y,
    lambda y: y.reshape([1, 3, 4, 16]).reshape([1, 12, 4, 4])])
def test_every_sample_of_a_batch_is_what_it_is_alone(function):
    layer, graph = exported(function)
    assert graph.tensors["x"].shape[0] == -1
    together = executor_outputs(graph, {"x": X}, graph.outputs)[0]
    for k in range(len(X)):
        alone = layer(paddle.to_tensor(X[k:k + 1])).numpy()
        np.testing.assert_allclose(together[k:k + 1], alone, rtol=1e-5, atol=1e-6)
    assert probe(graph, {"x": X}).kind[graph.outputs[0]] == "sample"


def moved(y):
    return y.transpose([1, 0, 2, 3]).reshape([12, 1, 16])


def test_a_batch_that_was_moved_stays():
    _, graph = exported(moved)
    found = probe(graph, {"x": X})
    assert [op.type for op in graph.ops if op.alone] == ["transpose2", "reshape2"]
    assert not found.unreached


def test_what_takes_one_sample_is_quantized_and_run_sample_by_sample(tmp_path):
    layer, _ = exported(moved)
    spec = [paddle.static.InputSpec([1, 3, 4, 4], "float32", "x")]
    config = {"Global": {"visualdl": False, "tune_cpu": False}, "MRECG": {"preset": "none"},
              "Data": {"num_samples": 3, "batch_size": 1}}
    seen = []

    def score(predict):
        seen.append(predict({"x": X})[0])
        return {"mean": float(seen[-1].mean())}
    done = paddle_mrecg.quant_post_mrecg((layer, spec), [[x[None]] for x in X], config,
                                         save_dir=str(tmp_path / "out"), evaluator=score)
    assert done.report.verification["verdict"] == "agrees" and len(done.report.weights) == 1
    expected = np.concatenate([layer(paddle.to_tensor(x[None])).numpy() for x in X])
    np.testing.assert_allclose(seen[0], expected, rtol=1e-4, atol=1e-5)
    assert 0 < np.abs(seen[-1] - expected).max() < 0.05 * np.abs(expected).max()


def test_layers_behind_a_batch_of_one_are_quantized_and_trained(tmp_path):
    paddle.seed(0)
    net = NETWORKS["net_vision_transformer_batch_1"]()
    net.eval()
    samples = np.random.RandomState(0).uniform(-1, 1, (8, 3, 32, 32)).astype("float32")
    config = {"Global": {"visualdl": False, "tune_cpu": False},
              "MRECG": {"preset": "fast", "num_iters": 4, "batch_size": 4},
              "QuantPost": {"weight_bits": 8}, "Data": {"num_samples": 8, "batch_size": 1}}
    spec = [paddle.static.InputSpec([1, 3, 32, 32], "float32", "x")]
    report = paddle_mrecg.quant_post_mrecg((net, spec), [[x[None]] for x in samples], config,
                                           save_dir=str(tmp_path / "out")).report
    assert len(report.weights) == 6 and not report.float_tensors
    assert any("one sample at a time" in note for note in report.notes)
    assert "computes what was simulated" in report.verification["why"] or (
        report.verification["verdict"].startswith("agrees"))
