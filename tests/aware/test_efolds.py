# SPDX-License-Identifier: Apache-2.0
"""Bin regularization by a wanted number of e-folds."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.aware.bin_regularizer import BinRegularizer
from paddle_mrecg.config.aware import BinRegularization
from paddle_mrecg.errors import ConfigError


def test_efolds_give_every_layer_the_same_pull(make_layer, make_quanter):
    """The term alone brings weights exp(-n) closer, in layers of 33 and of 3,300 weights."""
    layers = []
    for count in (33, 3300):
        values = np.resize(np.float32([-1.0, 0.0, 1.0]), count)  # bins of equal size
        values += np.random.default_rng(1).uniform(-0.4, 0.4, count).astype("float32")
        layers.append((str(count), make_layer(values, make_quanter(1.0, 2))))
    bins = BinRegularizer(layers, BinRegularization(efolds=1.0, schedule="S1",
                                                    grad_to_scale=False))
    with pytest.raises(ConfigError, match="penalty.plan"):
        bins.loss()
    rate = paddle.optimizer.lr.CosineAnnealingDecay(0.01, T_max=300)
    sgd = paddle.optimizer.Momentum(rate, 0.9, [layer.weight for _, layer in layers])
    bins.plan(sgd, 300)
    for _ in range(300):
        bins.loss().backward()
        sgd.step()
        sgd.clear_grad()
        rate.step()
    for row in bins.statistics():
        assert row["predicted_efolds"] == pytest.approx(1.0)
        assert row["measured_efolds"] == pytest.approx(1.0, abs=0.05)


def test_efolds_need_an_optimizer_that_follows_gradients(make_layer, make_quanter):
    layer = make_layer(np.float32([0.1, 0.9, 1.2]), make_quanter(1.0, 2))
    bins = BinRegularizer([("a", layer)], BinRegularization(efolds=1.0, schedule="S1"))
    with pytest.raises(ConfigError, match="cannot be planned for Adam"):
        bins.plan(paddle.optimizer.Adam(parameters=[layer.weight]), 10)
