# SPDX-License-Identifier: Apache-2.0
"""``paddle.jit.to_static`` around quant-aware training, and in front of it."""
import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware.job import quant_aware_prepare
from paddle_mrecg.errors import ModelError

CONFIGS = [{"QuantAware": {"weight_bits": 4}, "BinRegularization": {"schedule": "S1"},
            "SymmetricPACT": {}},
           {"QuantAware": {"hardware_friendly": True}},
           {"QuantAware": {"weight_quanter": "abs_max", "penalty_mode": "injection"},
            "BinRegularization": {"schedule": "S1"}}]


# Paddle wants to know the arguments of a model's forward, which quantized additions hide
@pytest.mark.parametrize("config, whole", [(CONFIGS[0], True), (CONFIGS[2], True),
                                           *((config, False) for config in CONFIGS)])
def test_a_static_model_trains_as_it_does_without(small, config, whole):
    states = []
    for static in (False, True):
        model, penalty = small.prepared(config)
        run = model
        if static:
            run = paddle.jit.to_static(model if whole else lambda x: model(x).square())
        sgd = paddle.optimizer.SGD(0.01, parameters=penalty.parameter_groups())
        for step in range(3):
            y = run(small.images(seed=step))
            loss = y.mean() if static and not whole else y.square().mean()
            (loss + penalty()).backward()
            sgd.step()
            sgd.clear_grad()
        states.append({k: v.numpy() for k, v in model.state_dict().items()})
    for key, value in states[0].items():
        np.testing.assert_allclose(states[1][key], value, rtol=1e-4, atol=1e-6, err_msg=key)


class Decorated(nn.Layer):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2D(3, 4, 3)

    @paddle.jit.to_static
    def forward(self, x):
        return self.inner(x)


def test_a_model_that_was_static_before_is_refused(small):
    """It may have kept the float network: Paddle 2.6 trained that on without a word."""
    net = paddle.jit.to_static(small.float_net())
    with pytest.raises(ModelError, match="forward of the model a static one.*to_static afterwards"):
        quant_aware_prepare(net, {}, [small.images()])
    net.forward.rollback()
    quant_aware_prepare(net, {}, [small.images()])
    with pytest.raises(ModelError, match="forward of layer '1' a static one"):
        quant_aware_prepare(nn.Sequential(nn.ReLU(), Decorated()), {})
