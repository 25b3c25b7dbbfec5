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


class Only(paddle.nn.Layer):
    """A function and nothing else."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def program(function, folder):
    layer = Only(function)
    layer.eval()
    paddle.jit.save(layer, str(folder / "net"),
                    input_spec=[paddle.static.InputSpec([None, 8, 6, 6], "float32", "x")])
    return load_graph(str(folder / "net"))


@pytest.mark.parametrize("function", [
    lambda x: F.softplus(x, 3.0), lambda x: F.softplus(x, 0.5, 15), lambda x: F.softplus(x),
    lambda x: F.channel_shuffle(x, 2), lambda x: F.channel_shuffle(x, 4),
    lambda x: x.mean(1, keepdim=True).expand_as(x)])
def test_onnxruntime_computes_what_paddle_computes(function, tmp_path):
    for module in ("onnx", "onnxruntime", "paddle2onnx"):
        pytest.importorskip(module)
    ran = run_onnxruntime(program(function, tmp_path), {"x": X})
    assert not ran.failure
    found, = ran.outputs.values()
    np.testing.assert_allclose(found, function(paddle.to_tensor(X)).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function, words", [
    (lambda x: F.max_pool2d(x, 2, data_format="NHWC"), "pool2d with data_format NHWC"),
    (lambda x: F.pad(x, [1, 1, 1, 1], "circular"), "pad3d with mode circular")])
def test_what_has_no_form_is_refused(function, words, tmp_path):
    with pytest.raises(ModelError, match=f"no form for {words}: express it"):
        as_paddle2onnx_reads_it(program(function, tmp_path))
