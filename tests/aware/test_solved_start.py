# SPDX-License-Identifier: Apache-2.0
"""``QuantAware.rounding: solve``: training starts at the codes of post-training's solve."""
import logging
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware.job import quant_aware_prepare, quantized_layers
from paddle_mrecg.aware.table import say
from paddle_mrecg.errors import ConfigError, ModelError
from paddle_mrecg.report.progress import get_logger
from tests.training_nets import LAYERS, Residual, float_net, images, train

DATA = [images(32, seed=k) for k in range(4)]
LOW = dict(target="simulation", weight_bits=3, activation_bits=8, first_layer_weight_bits=3,
           last_layer_weight_bits=3)


def configured(rounding, **more):
    return dict(QuantAware=dict(LOW, rounding=rounding, **more))


def error_of(model, reference, x=None):
    """Of a quantized network's outputs on images that the solve did not see, over their variation.
    """
    x = images(64, seed=50) if x is None else x
    with paddle.no_grad():
        model.eval()
        reference.eval()
        want, got = reference(x).numpy(), model(x).numpy()
    return np.square(want - got).sum() / np.square(want - want.mean(0)).sum()


def errors(make, **more):
    """With nearest and with solved rounding."""
    found = []
    for rounding in ("nearest", "solve"):
        model = quant_aware_prepare(make(), configured(rounding, **more), DATA)[0]
        found.append(error_of(model, make()))
    return found


def turned_over():
    """Some batch norms have negative factors: the grid of the folded weight is upside down."""
    net = float_net()
    for norm in (net.stem[1], net.depthwise[1], net.norm):
        signs = np.where(np.arange(norm.weight.shape[0]) % 3, 1.0, -1.0).astype(np.float32)
        norm.weight.set_value(norm.weight.numpy() * signs)
    return net


@pytest.mark.parametrize("make", [float_net, turned_over])
@pytest.mark.parametrize("more", [
    {}, dict(weight_per_channel=False), dict(weight_quanter="tqt"), dict(weight_bits=2),
    dict(activation_bits=4, activation_quanter="lsq_plus"), dict(fold_batch_norm=True),
    dict(hardware_friendly=True), dict(activation_quanter="symmetric_pact"),
    dict(activation_bits=32, first_layer_activation_bits=32, last_layer_activation_bits=32)],
    ids=lambda more: "-".join(map(str, more)) or "lsq")
def test_the_start_is_much_closer_to_the_float_network(make, more):
    nearest, solved = errors(make, **more)
    assert solved < 0.7 * nearest, (nearest, solved)


def test_weights_move_no_further_than_into_the_bin_of_their_code():
    before = {n: p.numpy() for n, p in float_net().named_parameters()}
    model = quant_aware_prepare(float_net(), configured("solve"), DATA)[0]
    others = 0
    for name, layer in quantized_layers(model):
        weight, quanter = layer.weight, layer.weight_quanter
        step = quanter.along(quanter.step(), weight.ndim).numpy()
        change = np.abs(weight.numpy() - before[f"{name}.weight"]) / step
        codes = quanter.codes(weight).numpy()
        old = np.clip(np.rint(before[f"{name}.weight"] / step), quanter.qmin, quanter.qmax)
        others += int((codes != old).sum())
        np.testing.assert_allclose(change[codes == old].max(initial=0.0), 0.0, atol=0.051)
        off = np.abs(weight.numpy() / step - codes)[(codes != old) & (codes > quanter.qmin)
                                                    & (codes < quanter.qmax)]
        assert off.max(initial=0.0) < 0.46  # not on the edge, from where it would fall back
    assert others > 20


def test_the_mean_goes_into_the_running_mean_or_the_bias():
    reference = float_net()
    model = quant_aware_prepare(float_net(), configured("solve"), DATA)[0]
    changed = {n for n, v in model.state_dict().items()
               if n in reference.state_dict()
               and not np.array_equal(v.numpy(), reference.state_dict()[n].numpy())}
    assert {"stem.1._mean", "depthwise.1._mean", "norm._mean", "plain.bias", "head.bias"} <= changed
    assert not {n for n in changed if n.endswith(("_variance", "norm.weight", "norm.bias"))}


def test_without_bias_and_batch_norm_nothing_counts_on_a_correction():
    def make():
        paddle.seed(3)
        return nn.Sequential(nn.Conv2D(3, 16, 3, bias_attr=False), nn.ReLU(),
                             nn.Conv2D(16, 8, 3, bias_attr=False), nn.Flatten())
    nearest, solved = errors(make)
    assert solved < 0.7 * nearest


class TwoInputs(nn.Layer):
    """Called with a dict, as PaddleDetection's; its transposed convolution has a batch norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.up, self.norm = nn.Conv2DTranspose(8, 4, 2, stride=2), nn.BatchNorm2D(4)
        self.head = nn.Linear(4 * 16 * 16, 3)
        self.aux = nn.Linear(8, 2)  # training only

    def forward(self, inputs):
        x = nn.functional.relu(self.conv(inputs["image"]))
        if self.training:
            self.aux(x.mean([2, 3]))
        return self.head(self.norm(self.up(x)).flatten(1)) * inputs["scale"]


def test_models_that_take_a_dict_and_heads_that_only_train(caplog):
    def make():
        paddle.seed(4)
        net = TwoInputs()
        net({"image": images(32), "scale": paddle.ones([32, 1])})
        return net
    data = [{"image": v, "scale": paddle.full([len(v), 1], 2.0)} for v in DATA]
    found = []
    for rounding in ("nearest", "solve"):
        with caplog.at_level(logging.INFO, "paddle_mrecg"):
            model = quant_aware_prepare(make(), configured(rounding),
                                        lambda model: [model(v) for v in data])[0]
        x = {"image": images(64, seed=50), "scale": paddle.ones([64, 1])}
        found.append(error_of(model, make(), x))
    assert found[1] < 0.7 * found[0]
    assert "1 layer starts from nearest rounding" in caplog.text and "aux" in caplog.text


class Positions(nn.Layer):
    """The result of ``places`` is the same for every image: nothing to learn from images."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2D(3, 16, 3, padding=1), nn.Linear(16 * 64, 3)
        self.places = nn.Linear(2, 16)
        rng = np.random.default_rng(0)
        self.register_buffer("grid", paddle.to_tensor(rng.random((64, 2), np.float32)))

    def forward(self, x):
        x = nn.functional.relu(self.conv(x)).flatten(2)
        return self.head((x + self.places(self.grid).transpose([1, 0])).flatten(1))


def test_a_layer_that_sees_no_image_stays_as_it_is(caplog):
    def make():
        paddle.seed(5)
        return Positions()
    with caplog.at_level(logging.INFO, "paddle_mrecg"):
        nearest, solved = errors(make)
    assert solved < 0.7 * nearest
    assert ("1 layer starts from nearest rounding, for the solve has no place for it: places"
            in caplog.text)


def test_it_trains_and_the_program_is_the_model(tmp_path):
    from paddle_mrecg.aware.export import export_quantized
    model, penalty = quant_aware_prepare(float_net(), configured("solve"), DATA)
    losses = train(model, penalty, steps=4)
    assert np.isfinite(losses).all()
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")]
    assert export_quantized(model, str(tmp_path / "out"), spec).agrees
    assert (tmp_path / "out.pdiparams").exists() or list((tmp_path / "out").iterdir())


def test_a_second_run_gives_the_same_weights():
    first, second = (quant_aware_prepare(float_net(), configured("solve"), DATA)[0].state_dict()
                     for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value.numpy(), second[name].numpy(), name)


class Branching(Residual):
    def forward(self, x):
        return super().forward(x) if float(x.mean().numpy()) < 1e9 else x


def test_what_cannot_be_solved_says_so():
    with pytest.raises(ConfigError, match="those of weight_quanter abs_max follow the weights"):
        quant_aware_prepare(float_net(), configured("solve", weight_quanter="abs_max"), DATA)
    with pytest.raises(ModelError, match="solve reads the model as it is exported.*rounding: near"):
        quant_aware_prepare(Branching(), configured("solve"), DATA)
    with pytest.raises(ModelError, match="called with tensors alone"):
        net = float_net()
        quant_aware_prepare(Choosing(net), configured("solve"),
                            lambda model: model(images(4), True))


class Choosing(nn.Layer):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, really):
        return self.net(x) if really else x


def test_a_network_is_as_it_was_where_the_start_fails():
    net, reference = Choosing(float_net()), float_net()
    with pytest.raises(ModelError):
        quant_aware_prepare(net, configured("solve"), lambda model: model(images(4), True))
    assert not list(quantized_layers(net)) and "forward" not in vars(net)
    np.testing.assert_array_equal(net.net(images(4)).numpy(), reference(images(4)).numpy())


def test_layers_are_those_of_the_log(caplog):
    with caplog.at_level(logging.INFO, "paddle_mrecg"):
        quant_aware_prepare(float_net(), configured("solve"), DATA)
    assert "weights start from solved roundings" in caplog.text
    assert f"{len(LAYERS)} layers are quantized" in caplog.text


def test_one_layer_is_not_called_many(caplog, monkeypatch):
    monkeypatch.setattr(get_logger(), "propagate", True)
    layer = SimpleNamespace(weight_quanter=SimpleNamespace(bits=8))
    with caplog.at_level(logging.INFO, "paddle_mrecg"):
        say([("fc", layer)], SimpleNamespace(first=["fc"], last=["fc"], idle=None), [], [])
    assert "1 layer is quantized" in caplog.text
