# SPDX-License-Identifier: Apache-2.0
"""Bin regularization by a wanted number of e-folds."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.aware.bin_regularizer import BinRegularizer
from paddle_mrecg.config.aware import BinRegularization
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.report.bins import BinHistory
from paddle_mrecg.report.progress import get_logger


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


def test_the_pull_is_foretold_and_a_weak_one_is_a_warning(make_layer, make_quanter, caplog,
                                                          tmp_path):
    """A lambda that closes a small layer does nothing in a large one."""
    layers = [(name, make_layer(np.resize(np.float32([-1.1, 0.1, 1.1]), count),
                                make_quanter(1.0, 2))) for name, count in (("a", 3), ("b", 3000))]
    bins = BinRegularizer(layers, BinRegularization(lambda_=1.0, schedule="S1"))
    sgd = paddle.optimizer.SGD(0.01, [layer.weight for _, layer in layers])
    get_logger().addHandler(caplog.handler)
    try:
        bins.plan(sgd, 100)  # 2 lambda rate steps / V, with bins of 1 and of 1,000 weights
    finally:
        get_logger().removeHandler(caplog.handler)
    said = [record.getMessage() for record in caplog.records]
    assert any("by 0.002 ('b') to 2 e-folds ('a')" in text for text in said)
    assert any("hardly act in 1 of 2 layers (less than 0.3 e-folds)" in text for text in said)
    history = BinHistory(str(tmp_path))
    bins.on_epoch(1, 2)
    history.add(1, bins.statistics(), layers)
    text = (tmp_path / "bins.csv").read_text(encoding="utf-8").splitlines()
    assert text[0].endswith("predicted_efolds,measured_efolds") and text[1].endswith(",1,0")
