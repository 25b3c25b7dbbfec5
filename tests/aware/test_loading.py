# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are loaded after ``quant_aware_prepare``: float ones, quantized ones, parts."""
import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware.job import export_quantized, quant_aware_prepare
from paddle_mrecg.aware.layers import quantized_layers
from paddle_mrecg.errors import ConfigError

X = [paddle.to_tensor(np.random.default_rng(k).standard_normal((8, 3, 8, 8)).astype("float32"))
     for k in range(2)]
CONFIGS = [{"QuantAware": {"weight_bits": 8}},
           {"QuantAware": {"weight_bits": 8, "weight_quanter": "tqt"}},
           {"QuantAware": {"weight_bits": 8, "target": "simulation", "quantize_additions": True,
                           "fold_batch_norm": True}}]


class Net(nn.Layer):
    def __init__(self, seed, factor=1.0):
        paddle.seed(seed)
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8), nn.ReLU())
        self.branch, self.head = nn.Conv2D(8, 8, 3, padding=1), nn.Conv2D(8, 4, 1)
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.set_value(parameter * factor)

    def forward(self, x):
        y = self.body(x)
        return self.head(y + self.branch(y))


def decibel(model, want):
    model.eval()
    got = model(X[0]).numpy()
    return 10 * np.log10((want ** 2).sum() / ((got - want) ** 2).sum())


def test_a_float_checkpoint_brings_new_grids():
    source = Net(5, factor=8.0)
    source.eval()
    want = source(X[0]).numpy()
    for config in CONFIGS:
        for load in (lambda m: m.set_state_dict(source.state_dict()),
                     lambda m: [m.body.set_state_dict(source.body.state_dict()),
                                m.branch.set_state_dict(source.branch.state_dict()),
                                m.head.set_state_dict(source.head.state_dict())]):
            model, _ = quant_aware_prepare(Net(9), config, X)
            load(model)
            assert decibel(model, want) > 20.0, config


@pytest.mark.parametrize("config", CONFIGS)
def test_a_quantized_checkpoint_keeps_its_grids(config):
    """Even where only the weights differ from those that are there."""
    model, _ = quant_aware_prepare(Net(5), config, X)
    model.branch.weight.set_value(model.branch.weight * 3.0)
    model.eval()
    want = model(X[0]).numpy()
    other, _ = quant_aware_prepare(Net(5), config, X)
    other.set_state_dict(model.state_dict())
    other.eval()
    assert np.array_equal(other(X[0]).numpy(), want)
    other.set_state_dict(Net(9, factor=8.0).state_dict())
    other.set_state_dict(model.state_dict())
    assert np.array_equal(other(X[0]).numpy(), want)


def test_part_of_a_quantized_checkpoint_keeps_all_grids():
    model, _ = quant_aware_prepare(Net(5), {}, X)
    before = {n: layer.activation_quanter.step().numpy() for n, layer in quantized_layers(model)}
    other, _ = quant_aware_prepare(Net(9), {}, X)
    model.set_state_dict({k: v for k, v in other.state_dict().items() if k.startswith("head.")})
    model(X[0])
    after = {n: layer.activation_quanter.step().numpy() for n, layer in quantized_layers(model)}
    assert np.array_equal(before["branch"], after["branch"])
    assert not np.array_equal(before["head"], after["head"])


def test_a_model_loaded_twice_is_exported(tmp_path):
    model, _ = quant_aware_prepare(Net(9), {}, X)
    model.set_state_dict(Net(5, factor=8.0).state_dict())
    model(X[0])
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")]
    for _ in range(2):  # into the same directory
        exported = export_quantized(model, str(tmp_path / "out"), spec)
    assert exported.verification["max_abs_diff"] < 1e-4


class Tokens(nn.Layer):
    """First and last layers cannot be told without data: takes no image, runs in another order."""

    def __init__(self):
        super().__init__()
        self.middle, self.last = nn.Linear(8, 8), nn.Linear(8, 4)
        self.table, self.first = nn.Embedding(16, 8), nn.Linear(8, 8)

    def forward(self, tokens):
        return self.last(self.middle(self.first(self.table(tokens))))


def test_first_and_last_layers_are_those_of_a_loaded_checkpoint(tmp_path):
    """Which is loaded to be exported, without data."""
    tokens = paddle.to_tensor(np.arange(12).reshape(3, 4))
    spec = [paddle.static.InputSpec([None, 4], "int64", "tokens")]
    config = {"QuantAware": {"weight_bits": 3, "activation_bits": 4, "target": "simulation"}}
    trained, _ = quant_aware_prepare(Tokens(), config, [tokens])
    trained.eval()
    bits = {n: (layer.weight_quanter.bits, layer.activation_quanter.bits)
            for n, layer in quantized_layers(trained)}
    assert bits == {"first": (8, 8), "last": (8, 8), "middle": (3, 4)}
    model, _ = quant_aware_prepare(Tokens(), config)
    model.set_state_dict(trained.state_dict())
    model.eval()
    assert np.array_equal(model(tokens).numpy(), trained(tokens).numpy())
    other, _ = quant_aware_prepare(Tokens(), config)
    other.set_state_dict(trained.state_dict())
    exported = export_quantized(other, str(tmp_path / "out"), spec, [tokens.numpy()])
    assert exported.verification["max_abs_diff"] < 1e-5


@pytest.mark.parametrize("calibration", [None, X])
def test_a_checkpoint_of_other_bits_is_refused_before_it_is_used(calibration):
    """And each time that it is."""
    trained, _ = quant_aware_prepare(Net(5), {"QuantAware": {"weight_bits": 5}}, X)
    model, _ = quant_aware_prepare(Net(5), {"QuantAware": {"weight_bits": 3}}, calibration)
    model.set_state_dict(trained.state_dict())
    for _ in range(2):
        with pytest.raises(ConfigError, match="layer 'branch'.*with 5 bits.*ask for 3 bits"):
            model(X[0])
    model.set_state_dict(quant_aware_prepare(Net(5), {"QuantAware": {"weight_bits": 3}},
                                             X)[0].state_dict())
    model(X[0])
