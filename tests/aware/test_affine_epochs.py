# SPDX-License-Identifier: Apache-2.0
"""Last epochs in which only batch norms' scales and shifts train."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.config.io import load_training_config
from paddle_mrecg.errors import ConfigError, ModelError
from paddle_mrecg.aware.job import quant_aware_prepare


def values(model):
    return {name: p.numpy() for name, p in model.named_parameters()
            if not name.endswith(("_mean", "_variance"))}


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.parametrize("sections", [{}, {"BinRegularization": {"schedule": "S3"}},
                                      {"Dampening": {"weight": 0.1}}])
def test_only_scales_and_shifts_train_in_the_last_epochs(small, sections):
    model, penalty = small.prepared({"QuantAware": {"affine_epochs": 2}, **sections})
    norms = {f"{name}.{key}" for name, layer in model.named_sublayers()
             if isinstance(layer, paddle.nn.BatchNorm2D) for key in ("weight", "bias")}
    sgd = paddle.optimizer.Momentum(0.01, parameters=penalty.parameter_groups(1e-4))
    model.train()
    for epoch in range(5):
        penalty.on_epoch(epoch, 5)
        before = values(model)
        for k in range(2):
            (model(small.images(seed=k)).square().mean() + penalty()).backward()
            sgd.step()
            sgd.clear_grad()
        moved = changed(before, values(model))
        if epoch >= 3:
            assert moved == norms
            assert float(penalty()) == 0.0
        else:
            assert moved - norms
    penalty.on_epoch(0, 5)  # another training
    assert not model.stem[0].weight.stop_gradient or "BinRegularization" in sections


def test_what_cannot_be_is_said():
    for sections in ({"QuantAware": {"affine_epochs": 1, "hardware_friendly": True}},
                     {"QuantAware": {"affine_epochs": 1}, "BinRegularization": {"efolds": 2.0,
                                                                               "schedule": "S1"}}):
        with pytest.raises(ConfigError, match="affine_epochs.*leave one of the two out"):
            load_training_config(sections)
    plain = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3))
    with pytest.raises(ModelError, match="has none that train"):
        quant_aware_prepare(plain, {"QuantAware": {"affine_epochs": 1}})
