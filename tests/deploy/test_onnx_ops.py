# SPDX-License-Identifier: Apache-2.0
"""What paddle2onnx gets wrong without a word is written otherwise, or refused."""
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddle_mrecg.deploy.check.runtimes import run_onnxruntime
from paddle_mrecg.deploy.onnx_ops import as_paddle2onnx_reads_it
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.load import load_graph

X = np.random.RandomState(0).standard_normal((2, 8, 6, 6)).astype(np.float32)


NETS = {  # what has parameters: a layer, or one and the size of its output
    "group norm of three": lambda: (paddle.nn.GroupNorm(4, 8), lambda m, x: m(x[:, :, 0])),
    "group norm of two": lambda: (paddle.nn.GroupNorm(4, 8), lambda m, x: m(x[:, :, 0, 0])),
    "output size": lambda: (paddle.nn.Conv2DTranspose(8, 4, 3, 2, 1),
                            lambda m, x: m(x, output_size=[12, 11])),
    "same and dilated": lambda: (paddle.nn.Conv2D(8, 4, 3, 1, "SAME", dilation=2),
                                 lambda m, x: m(x)),
}


class Only(paddle.nn.Layer):
    """A function and nothing else, or one of a layer."""

    def __init__(self, function):
        super().__init__()
        self.inner, self.function = function if isinstance(function, tuple) else (None, function)

    def forward(self, x):
        return self.function(x) if self.inner is None else self.function(self.inner, x)


def program(layer, folder, side=6):
    layer.eval()
    paddle.jit.save(layer, str(folder / "net"),
                    input_spec=[paddle.static.InputSpec([None, 8, side, side], "float32", "x")])
    return load_graph(str(folder / "net"))


def assert_same(layer, folder):
    for module in ("onnx", "onnxruntime", "paddle2onnx"):
        pytest.importorskip(module)
    ran = run_onnxruntime(program(layer, folder), {"x": X})
    assert not ran.failure
    wanted = layer(paddle.to_tensor(X))
    wanted = wanted if isinstance(wanted, list) else [wanted]
    assert len(ran.outputs) == len(wanted)
    for found, value in zip(ran.outputs.values(), wanted):
        np.testing.assert_allclose(found, value.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [
    lambda x: F.softplus(x, 3.0), lambda x: F.softplus(x, 0.5, 15), lambda x: F.softplus(x),
    lambda x: F.channel_shuffle(x, 2), lambda x: F.channel_shuffle(x, 4),
    lambda x: x.mean(1, keepdim=True).expand_as(x),
    lambda x: [F.adaptive_avg_pool2d(x, [4, 5]), F.adaptive_avg_pool2d(x, 7),
               F.adaptive_max_pool2d(x, 5), F.adaptive_avg_pool1d(x[:, :, 0], 4)],
    lambda x: [paddle.norm(x, p=float("inf"), axis=1), paddle.norm(x, p=-float("inf"), axis=2,
                                                                   keepdim=True)],
    lambda x: [F.gelu(x, approximate=True), F.gelu(x), F.log_sigmoid(x * 100)],
    lambda x: [paddle.tile(x[0, 0], [2, 1, 2]), (x > 0).sum(1).astype("float32")],
    lambda x: [x[:, :, ::-1], x[:, 4::-2, 1:]]])
def test_onnxruntime_computes_what_paddle_computes(function, tmp_path):
    assert_same(Only(function), tmp_path)


@pytest.mark.parametrize("net", list(NETS))
def test_onnxruntime_computes_what_the_layer_computes(net, tmp_path):
    assert_same(Only(NETS[net]()), tmp_path)


@pytest.mark.parametrize("function, words", [
    (lambda x: F.max_pool2d(x, 2, data_format="NHWC"), "pool2d with data_format NHWC"),
    (lambda x: F.pad(x, [1, 1, 1, 1], "circular"), "pad3d with mode circular"),
    (lambda x: F.adaptive_max_pool2d(x, 4), "max_pool2d_with_index with windows of different"),
    (lambda x: F.avg_pool2d(x, 3, 2, "SAME", exclusive=False), "pool2d with padding SAME that"),
    (lambda x: paddle.norm(x, p=2), "p_norm with all axes at once"),
    (lambda x: paddle.norm(x, p=0, axis=1), "p_norm with porder 0"),
    (lambda x: F.unfold(x, 3, 1, [1, 0]), "unfold with unequal paddings")])
def test_what_has_no_form_is_refused(function, words, tmp_path):
    with pytest.raises(ModelError, match=f"no form for {words}.*: express it"):
        as_paddle2onnx_reads_it(program(Only(function), tmp_path))


def test_a_pool_on_a_free_size_is_refused(tmp_path):
    graph = program(Only(lambda x: F.adaptive_avg_pool2d(x, 3)), tmp_path, side=None)
    with pytest.raises(ModelError, match="windows of a free size: .* with fixed sizes where one"):
        as_paddle2onnx_reads_it(graph)
