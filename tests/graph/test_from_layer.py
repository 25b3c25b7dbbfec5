# SPDX-License-Identifier: Apache-2.0
"""Layers become graphs by export, without a trace on the layer."""
import numpy as np
import pytest

import paddle
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.from_layer import graph_from_layer
from tests.executor import executor_outputs

SPEC = [paddle.static.InputSpec([None, 3, 16, 16], "float32", "x")]


@pytest.mark.parametrize("batch", [1, 5])
def test_graph_computes_the_layer_for_any_batch(batch, small_layer):
    graph = graph_from_layer(small_layer, SPEC)
    x = np.random.RandomState(batch).uniform(-1, 1, (batch, 3, 16, 16)).astype("float32")
    want = small_layer(paddle.to_tensor(x)).numpy()
    np.testing.assert_allclose(executor_outputs(graph, {"x": x}, graph.outputs)[0], want, rtol=1e-5,
                               atol=1e-6)
    assert graph.tensors["x"].shape[0] == -1


def test_sigmoid_and_multiply_export():
    class Gate(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.linear = paddle.nn.Linear(4, 4)

        def forward(self, x):
            return paddle.multiply(paddle.nn.functional.sigmoid(self.linear(x)), x)

    graph = graph_from_layer(Gate(), [paddle.static.InputSpec([-1, 4], "float32", "x")])
    assert ([op.type for op in graph.ops][:4]
            == ["matmul_v2", "elementwise_add", "sigmoid", "elementwise_mul"])


def test_training_flags_are_restored(small_layer):
    small_layer.train()
    small_layer.norm.eval()
    graph = graph_from_layer(small_layer, SPEC)
    assert small_layer.training and small_layer.conv.training and not small_layer.norm.training
    assert all(op.attrs.get("is_test") for op in graph.ops if op.type in ("batch_norm", "dropout"))


def test_layer_that_cannot_be_exported_is_named():
    class Broken(paddle.nn.Layer):
        def forward(self, x):
            raise ValueError("no way")

    layer = Broken()
    with pytest.raises(ModelError, match="Broken cannot be exported"):
        graph_from_layer(layer, SPEC)
    assert layer.training


def test_a_trace_that_failed_leaves_nothing(small_layer, monkeypatch):
    """Paddle keeps the parameters of a trace under its program's address, which comes again."""
    class Half(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.linear = paddle.nn.Linear(16, 16)

        def forward(self, x):
            raise ValueError(self.linear(x).shape)

    noted = pytest.importorskip("paddle.jit.dy2static.parameter_recorder",
                                reason="Paddle 2.6 keeps none")
    monkeypatch.setattr(noted, "_program_hash", lambda program: 1)
    for _ in range(2):
        with pytest.raises(Exception, match="ValueError"):
            paddle.jit.save(Half(), "unused", SPEC)
        with pytest.raises(ModelError):
            graph_from_layer(Half(), SPEC)
        assert graph_from_layer(small_layer, SPEC).ops
