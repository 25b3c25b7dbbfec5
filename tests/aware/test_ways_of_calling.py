# SPDX-License-Identifier: Apache-2.0
"""Models in a wrapper, and layers that are called by keyword."""
import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware import job
from paddle_mrecg.aware.distillation import FloatTeacher
from paddle_mrecg.aware.job import export_quantized, quant_aware_prepare
from paddle_mrecg.errors import ModelError

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
