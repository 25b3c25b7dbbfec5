# SPDX-License-Identifier: Apache-2.0
"""Models in a wrapper, and layers that are called by keyword."""
import pickle

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware import job
from paddle_mrecg.aware.distillation import FloatTeacher
from paddle_mrecg.aware.job import export_quantized, freeze, quant_aware_prepare
from paddle_mrecg.errors import ModelError
from paddle_mrecg.report.progress import get_logger

SPEC = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")]


@pytest.mark.parametrize("hardware_friendly", [True, False])
def test_a_model_in_data_parallel_is_the_same(small, hardware_friendly, tmp_path):
    """Whether it is put there before or after."""
    config = {"QuantAware": {"hardware_friendly": hardware_friendly}}
    batches = [small.images(seed=k) for k in (1, 2)]
    net = paddle.DataParallel(small.float_net())
    teacher = FloatTeacher(net)
    assert float(teacher(net(batches[0]), batches[0])) < 1.0
    around, penalty = quant_aware_prepare(net, config, batches)
    model, other = small.prepared(config)
    after = paddle.DataParallel(model)
    losses = [small.train(around, penalty), small.train(after, other)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert isinstance(around, paddle.DataParallel)
    assert list(around.state_dict()) == list(model.state_dict())
    assert export_quantized(around, str(tmp_path / "out"), SPEC, [batches[0]]).agrees


def test_several_processes_get_the_wrapper_last(small, monkeypatch):
    """One that was made before does not know the steps, whose gradients would stay apart."""
    around = paddle.DataParallel(small.float_net())
    monkeypatch.setattr(job, "several", lambda: True)
    with pytest.raises(ModelError, match="DataParallel already.*quantize first"):
        quant_aware_prepare(around, {}, [small.images()])


class Keyword(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2D(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(input=self.conv(x).mean([2, 3]))


@pytest.mark.parametrize("calibration", [True, False])
def test_a_layer_that_is_called_by_keyword_is_named(small, calibration):
    with pytest.raises(ModelError, match="layer 'head' is given its input as a keyword"):
        model, _ = quant_aware_prepare(Keyword(), {}, [small.images()] if calibration else None)
        model(small.images())


class Tied(nn.Layer):
    """The last layer's weight is the table of the embedding, as in language models."""

    def __init__(self, skipped=False):
        super().__init__()
        self.table = nn.Linear(16, 16) if skipped else nn.Embedding(16, 16)
        self.middle, self.head = nn.Linear(16, 16), nn.Linear(16, 16)
        self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(self.middle(self.table(x)))


@pytest.mark.parametrize("rounding", ["nearest", "solve"])
@pytest.mark.parametrize("skipped", [True, False])
def test_a_float_layer_with_the_same_weight_keeps_it(tmp_path, skipped, rounding):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, 16)).astype("float32") if skipped
         else rng.integers(0, 16, (4, 16)))
    config = {"QuantAware": {"weight_bits": 3, "last_layer_weight_bits": 3, "rounding": rounding,
                             "skip": ["table"] if skipped else []}}
    model, _ = quant_aware_prepare(Tied(skipped), config, [x])
    model.eval()
    spec = [paddle.static.InputSpec([None, 16], str(x.dtype), "x")]
    exported = export_quantized(model, str(tmp_path / "out"), spec, [x])
    assert exported.verification["max_abs_diff"] < 1e-5
    np.testing.assert_allclose(freeze(model)(paddle.to_tensor(x)), model(paddle.to_tensor(x)),
                               atol=1e-5)


class Both(nn.Layer):
    def __init__(self, turned):
        super().__init__()
        self.encode, self.turned = nn.Linear(8, 8), turned

    def forward(self, x):
        weight = self.encode.weight
        return nn.functional.linear(self.encode(x), weight.t() if self.turned else weight)


@pytest.mark.parametrize("turned", [True, False])
def test_an_op_that_reads_a_weight_gets_its_values(tmp_path, caplog, turned):
    """Not its codes; what training does not quantize there is said."""
    get_logger().addHandler(caplog.handler)
    x = np.random.default_rng(0).standard_normal((4, 8)).astype("float32")
    model, _ = quant_aware_prepare(Both(turned), {}, [x])
    spec = [paddle.static.InputSpec([None, 8], "float32", "x")]
    assert export_quantized(model, str(tmp_path / "out"), spec, [x]).agrees
    get_logger().removeHandler(caplog.handler)
    assert "weight of layer 'encode' is read by" in caplog.text


@pytest.mark.parametrize("hardware_friendly", [True, False])
def test_a_prepared_model_can_be_pickled(small, hardware_friendly):
    try:
        pickle.dumps(small.float_net())
    except TypeError:
        pytest.skip("this Paddle pickles no model")
    model, _ = small.prepared({"QuantAware": {"hardware_friendly": hardware_friendly}})
    model.eval()
    again = pickle.loads(pickle.dumps(model))
    assert type(again) is type(model)
    np.testing.assert_array_equal(again(small.images()).numpy(), model(small.images()).numpy())
