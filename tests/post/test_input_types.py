# SPDX-License-Identifier: Apache-2.0
"""Models whose inputs or outputs are not float32: pixels as bytes, token ids, flags, places."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.post.job import quant_post_mrecg

from tests.jobs import settings


class Behind(paddle.nn.Layer):
    """Two convolutions behind a cast, or behind an embedding of ids."""

    def __init__(self, kind, choose=False):
        super().__init__()
        self._choose = choose
        self.embedding = paddle.nn.Embedding(16, 3) if kind == "int64" else None
        self.a = paddle.nn.Conv2D(3, 6, 3, padding=1)
        self.b = paddle.nn.Conv2D(6, 4, 3)

    def forward(self, x):
        if self.embedding is not None:
            x = self.embedding(x).transpose([0, 3, 1, 2])
        x = self.b(paddle.nn.functional.relu(self.a(x.astype("float32"))))
        return x.argmax(1) if self._choose else x


def quantized(net, shape, kind, samples, folder, **mrecg):
    """The report of a job of 20 steps per layer."""
    net.eval()
    paddle.jit.save(net, str(folder / "float" / "inference"),
                    input_spec=[paddle.static.InputSpec([None, *shape], kind, "x")])
    return quant_post_mrecg(str(folder / "float"), [samples[:16], samples[16:]],
                            settings(granularity="layer", **mrecg), str(folder / "out")).report


@pytest.mark.parametrize("loss", ["mse", "fisher"])
@pytest.mark.parametrize("kind", ["uint8", "int32", "int64", "float16", "bool"])
def test_units_that_read_the_input_itself_train_with_dropping(kind, loss, tmp_path):
    shape = [8, 8] if kind == "int64" else [3, 8, 8]
    numbers = np.random.RandomState(0).randint(0, 2 if kind == "bool" else 16, (32, *shape))
    report = quantized(Behind(kind), shape, kind, numbers.astype(kind), tmp_path, keep_prob=0.5,
                       loss=loss)
    assert report.verification["verdict"] == "agrees"
    assert all(unit.iterations for unit in report.units)


def test_gradients_of_the_fisher_loss_begin_in_front_of_an_argmax(tmp_path):
    samples = np.random.RandomState(0).standard_normal((32, 3, 8, 8)).astype(np.float32)
    report = quantized(Behind("float32", choose=True), [3, 8, 8], "float32", samples, tmp_path,
                       loss="fisher")
    assert all(unit.iterations for unit in report.units)
