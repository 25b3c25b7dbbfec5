# SPDX-License-Identifier: Apache-2.0
"""Steps that do not train, and steps that have become NaN, are noticed."""
import logging

import numpy as np
import paddle
import pytest

from paddle_mrecg.aware.job import quant_aware_prepare
from paddle_mrecg.errors import DataError
from paddle_mrecg.report.progress import get_logger


@pytest.fixture
def warnings(caplog):
    """Warnings of our logger, as they come."""
    logger = get_logger()
    logger.addHandler(caplog.handler)
    yield lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)


def run(small, model, penalty, parameters, steps=6):
    sgd = paddle.optimizer.SGD(0.01, parameters=parameters)
    model.train()
    for _ in range(steps):
        (model(small.images()).square().mean() + penalty()).backward()
        sgd.step()
        sgd.clear_grad()


@pytest.mark.parametrize("calibration", [True, False])
def test_an_optimizer_made_before_prepare_is_noticed(small, warnings, calibration):
    model, penalty = small.prepared(calibration=calibration)
    known = [p for p in model.parameters()
             if id(p) not in {id(q) for q in penalty.parameter_groups()[1]["params"]}]
    run(small, model, penalty, known)
    assert [text for text in warnings() if "made before quant_aware_prepare" in text]
    assert len(warnings()) == 1


@pytest.mark.parametrize("config", [{}, {"QuantAware": {"scale_lr": 0.0}},
                                    {"QuantAware": {"weight_quanter": "tqt"}},
                                    {"QuantAware": {"hardware_friendly": True}},
                                    {"QuantAware": {"weight_quanter": "abs_max",
                                                    "activation_quanter": "abs_max"}}])
def test_no_warning_where_steps_train_or_are_meant_to_rest(small, warnings, config):
    model, penalty = small.prepared(config)
    run(small, model, penalty, penalty.parameter_groups())
    assert warnings() == []


def test_a_step_that_is_nan_names_its_layer(small):
    model, penalty = small.prepared()
    model.plain.activation_quanter.scale.set_value(np.array([np.nan], "float32"))
    with pytest.raises(DataError, match="step of the input of layer 'plain'.*learning rate"):
        penalty.on_epoch(0, 3)
    with pytest.raises(DataError, match="input of layer 'plain'"):
        penalty()


def test_bin_regularization_names_the_layer_that_diverged(small):
    model, penalty = small.prepared({"BinRegularization": {"schedule": "S1"}})
    penalty()
    model.plain.weight.set_value(model.plain.weight * np.float32(np.nan))
    with pytest.raises(DataError, match="layer 'plain'.*diverged"):
        penalty()


def test_calibration_with_nan_names_the_layer(small):
    net = small.float_net()
    net.norm.bias.set_value(np.full(8, np.inf, "float32"))
    with pytest.raises(DataError, match="input of layer 'plain'"):
        quant_aware_prepare(net, {}, [small.images()])
