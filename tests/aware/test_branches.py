# SPDX-License-Identifier: Apache-2.0
"""Blocks with branches are quantized as the convolution that is deployed."""
import numpy as np
import pytest

import paddle
from paddle import nn
from paddle_mrecg.aware.job import export_quantized, quant_aware_prepare
from paddle_mrecg.aware.layers import quantized_layers
from paddle_mrecg.errors import ModelError
from paddle_mrecg.report.progress import get_logger

X = paddle.to_tensor(np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype("float32"))
SPEC = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")]
FLOAT = {"QuantAware": {"weight_bits": 8, "activation_bits": 32}}


class Branches(nn.Layer):
    """3 x 3 and 1 x 1, as RepVGG has them; what is left of them is up to ``rep``."""

    def __init__(self, channels, width, rate=1.0):
        super().__init__()
        attr = paddle.ParamAttr(learning_rate=rate)
        self.wide = nn.Conv2D(channels, width, 3, padding=1, weight_attr=attr)
        self.narrow = nn.LayerList([nn.Conv2D(channels, width, 1, weight_attr=attr)])
        self.act = nn.ReLU()
        self.done = False

    def forward(self, x):
        return self.act(self.merged(x) if self.done else self.wide(x) + self.narrow[0](x))

    def rep(self):
        if self.done:
            return
        self.merged = nn.Conv2D(*self.wide.weight.shape[1::-1], 3, padding=1)
        self.merged.weight.set_value(self.kernel())
        self.merged.bias.set_value(self.wide.bias + self.narrow[0].bias)
        self.done = True

    def kernel(self):
        return self.wide.weight + nn.functional.pad(self.narrow[0].weight, [1, 1, 1, 1])


class Deleted(Branches):
    """PaddleDetection removes the branches, and does not expect a second call."""

    rep = None

    def convert_to_deploy(self):
        Branches.rep(self)
        del self.wide, self.narrow


class Wrong(Branches):
    def kernel(self):
        return self.wide.weight


class Two(Branches):
    """Takes more than an image."""

    def forward(self, x, y):
        return super().forward(x + y)


class Several(Branches):
    def forward(self, x):
        return super().forward(x), x


class Parent(nn.Layer):
    """Merges nothing of its own."""

    def __init__(self, channels, width):
        super().__init__()
        self.inner = Branches(channels, width)

    def forward(self, x):
        return self.inner(x)

    def rep(self):
        self.inner.rep()


def net(block=Branches, **settings):
    paddle.seed(0)
    return nn.Sequential(block(3, 4, **settings), nn.Conv2D(4, 4, 1))


@pytest.mark.parametrize("block", [Branches, Deleted])
def test_branches_are_merged_before_they_are_quantized(block, tmp_path):
    model = net(block)
    model.eval()
    want = model(X).numpy()
    model, _ = quant_aware_prepare(model, FLOAT, [X])
    assert [name for name, _ in quantized_layers(model)] == ["0.merged", "1"]
    assert sorted(model.state_dict())[0].startswith("0.merged")
    got = model(X).numpy()
    assert 0 < np.abs(got - want).max() < 0.05 * np.abs(want).max()
    if block is Branches:
        model[0].rep()  # PaddleOCR's export does
    exported = export_quantized(model, str(tmp_path / "out"), SPEC)
    assert exported.agrees and not exported.dropped


def test_the_new_convolution_trains_as_its_branches_did():
    model, _ = quant_aware_prepare(net(rate=0.2), FLOAT, [X])
    new = model[0].merged
    assert [p.optimize_attr["learning_rate"] for p in (new.weight, new.bias)] == [0.2, 1.0]
    assert new.training and not new.weight.stop_gradient
    frozen = net()
    for parameter in frozen[0].parameters():
        parameter.stop_gradient = True
    frozen, _ = quant_aware_prepare(frozen, FLOAT, [X])
    assert [name for name, _ in quantized_layers(frozen)] == ["1"]


def test_branches_that_are_merged_already_and_models_without_calibration():
    model = net()
    model[0].rep()
    quant_aware_prepare(model, FLOAT)
    assert "0.merged" in dict(quantized_layers(model))
    other, _ = quant_aware_prepare(net(), FLOAT)
    assert [name for name, _ in quantized_layers(other)] == ["0.merged", "1"]


def test_the_innermost_block_is_merged():
    model, _ = quant_aware_prepare(net(Parent), FLOAT, [X])
    assert [name for name, _ in quantized_layers(model)] == ["0.inner.merged", "1"]


@pytest.mark.parametrize("block, why", [(Wrong, "changes what the block computes"),
                                        (Two, "could not be tried on an image"),
                                        (Several, "could not be tried (the block returns a tup")])
def test_branches_that_cannot_be_merged_stay(block, why, caplog, monkeypatch):
    class Model(nn.Layer):
        def __init__(self):
            super().__init__()
            self.block = block(3, 4)

        def forward(self, x):
            y = self.block(x, x) if block is Two else self.block(x)
            return y[0] if block is Several else y
    monkeypatch.setattr(get_logger(), "propagate", True)
    model, _ = quant_aware_prepare(Model(), FLOAT, [X])
    assert [name for name, _ in quantized_layers(model)] == ["block.wide", "block.narrow.0"]
    assert f"the branches of 'block' stay: rep() {why}" in caplog.text


def test_branches_stay_where_that_is_asked_for(tmp_path):
    settings = {"QuantAware": dict(FLOAT["QuantAware"], merge_branches=False)}
    model, _ = quant_aware_prepare(net(), settings, [X])
    assert "0.wide" in dict(quantized_layers(model))
    assert export_quantized(model, str(tmp_path / "out"), SPEC).agrees


def test_branches_that_are_merged_too_late_are_named(tmp_path):
    settings = {"QuantAware": dict(FLOAT["QuantAware"], merge_branches=False)}
    model, _ = quant_aware_prepare(net(), settings, [X])
    model[0].rep()
    with pytest.raises(ModelError, match="0.wide, 0.narrow.0: evaluation ran them when"):
        export_quantized(model, str(tmp_path / "out"), SPEC)
    assert not (tmp_path / "out").exists()


def test_a_float_checkpoint_with_branches_comes_too_late():
    trained = net()
    trained[1].weight.set_value(trained[1].weight + 1)
    model, _ = quant_aware_prepare(net(), FLOAT, [X])
    model.set_state_dict(trained.state_dict())
    with pytest.raises(ModelError, match="no weights of '0.merged'.*load it before"):
        model(X)
    same, _ = quant_aware_prepare(net(), FLOAT, [X])
    same.set_state_dict(net().state_dict())  # as PaddleOCR does, the same one once more
    assert same(X).shape == [2, 4, 8, 8]


def test_a_trained_checkpoint_fits(tmp_path):
    model, _ = quant_aware_prepare(net(), FLOAT, [X])
    model[0].merged.weight.set_value(model[0].merged.weight * 2)
    paddle.save(model.state_dict(), str(tmp_path / "model.pdparams"))
    fresh, _ = quant_aware_prepare(net(), FLOAT, [X])
    fresh.set_state_dict(paddle.load(str(tmp_path / "model.pdparams")))
    np.testing.assert_array_equal(fresh(X).numpy(), model(X).numpy())
