# SPDX-License-Identifier: Apache-2.0
"""Folded batch norms, quantized additions, biases and power-of-two scales."""
import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.errors import ConfigError, ModelError
from paddle_mrecg.aware.job import (export_quantized, freeze, quant_aware_prepare,
                                    quantized_layers)
from paddle_mrecg.aware.additions import addition_quanters, find_additions, intercepted
from paddle_mrecg.aware.fold import FoldedConv, fold_batch_norms

FRIENDLY = {"QuantAware": {"hardware_friendly": True, "target": "simulation", "weight_bits": 4,
                           "activation_bits": 4}}


def folded_net(small):
    net = small.float_net()
    net.eval()
    convolutions = [s for s in net.sublayers() if isinstance(s, nn.Conv2D)]
    pairs = fold_batch_norms(net, convolutions, lambda: [net(small.images()).numpy()])
    return net, pairs


def test_folding_finds_the_batch_norm_behind_each_convolution(small):
    net, pairs = folded_net(small)
    assert (pairs == {net.stem[0]: net.stem[1], net.depthwise[0]: net.depthwise[1],
                      net.pointwise: net.norm})
    assert list(net.state_dict()) == list(small.float_net().state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_a_folded_net_trains_and_evaluates_as_before(small, training):
    """Outputs, gradients and running statistics of the unfolded net, but for the last digits."""
    nets = small.float_net(), folded_net(small)[0]
    for net in nets:
        net.train() if training else net.eval()
        net(small.images(seed=9)).square().mean().backward()
    plain, folded = ({k: v.numpy() for k, v in net.state_dict().items()} for net in nets)
    for key, value in plain.items():
        np.testing.assert_allclose(folded[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
    trained = [[(n, p) for n, p in net.named_parameters() if not p.stop_gradient] for net in nets]
    for (name, a), (_, b) in zip(*trained):
        np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=2e-3, atol=2e-5,
                                   err_msg=name)


def test_channels_may_come_last():
    paddle.seed(3)
    nets = [nn.Sequential(nn.Conv2D(3, 4, 3, data_format="NHWC"),
                          nn.BatchNorm2D(4, data_format="NHWC")) for _ in range(2)]
    nets[1].set_state_dict(nets[0].state_dict())
    x = paddle.randn([4, 6, 5, 3])
    nets[1].eval()
    assert fold_batch_norms(nets[1], [nets[1][0]], lambda: [nets[1](x).numpy()])
    for net in nets:
        net.train()
        net(x).square().mean().backward()
    for (key, a), b in zip(nets[0].state_dict().items(), nets[1].state_dict().values()):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-4, atol=1e-5, err_msg=key)
    np.testing.assert_allclose(nets[1][0].weight.grad.numpy(), nets[0][0].weight.grad.numpy(),
                               rtol=2e-3, atol=2e-5)


def test_a_convolution_that_others_read_is_not_folded_silently():
    class Shared(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2D(3, 3, 1), nn.BatchNorm2D(3)
            self.norm._mean.set_value(paddle.ones([3]))

        def forward(self, x):
            x = self.conv(x)
            return self.norm(x) + x
    net, x = Shared(), paddle.randn([2, 3, 4, 4])
    net.eval()
    before = net(x).numpy()
    with pytest.raises(ModelError, match="read by others"):
        quant_aware_prepare(net, {"QuantAware": {"fold_batch_norm": True}}, [x])
    np.testing.assert_array_equal(net(x).numpy(), before)  # as it was
    assert type(net.conv) is nn.Conv2D and type(net.norm) is nn.BatchNorm2D


def test_everything_at_once(small):
    """Folded, all layers at low bits, powers of two, 8-bit biases; frozen weights and
    biases lie on these grids.
    """
    model, penalty = small.prepared(FRIENDLY)
    losses = small.train(model, penalty, steps=3)
    assert np.isfinite(losses).all()
    layers = dict(quantized_layers(model))
    assert sum(isinstance(layer, FoldedConv) for layer in layers.values()) == 3
    assert {layer.weight_quanter.bits for layer in layers.values()} == {4}
    frozen = freeze(model)
    for name, layer in quantized_layers(frozen):
        for quanter, tensor in ((layer.weight_quanter, layer.weight),
                                (layer.bias_quanter, layer.bias)):
            step = quanter.step().numpy()
            np.testing.assert_array_equal(np.exp2(np.round(np.log2(step))), step, err_msg=name)
            codes = tensor.numpy() / quanter.along(quanter.step(), tensor.ndim).numpy()
            np.testing.assert_array_equal(codes, np.round(codes))
            assert codes.min() >= quanter.qmin and codes.max() <= quanter.qmax
    x = small.images(seed=50)
    np.testing.assert_array_equal(frozen(x).numpy(), model(x).numpy())


def test_additions_are_quantized_on_all_sides(small):
    model, _ = small.prepared({"QuantAware": {"quantize_additions": True, "target": "simulation",
                                              "activation_bits": 3}})
    quanters = dict(addition_quanters(model))
    assert list(quanters) == [f"additions.0.{side}" for side in ("left", "right", "result")]
    seen = []
    model.relu.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    model.eval()
    model(small.images())
    result = quanters["additions.0.result"]
    codes = seen[0].numpy() / result.step().numpy()
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-4)
    assert codes.min() >= result.qmin - 1e-4 and codes.max() <= result.qmax + 1e-4
    assert paddle.Tensor.__add__.__name__ != "addition"  # Paddle's own again


def test_which_additions_count():
    parameter = nn.Linear(2, 2).weight
    x = paddle.ones([2, 2])

    def run():
        y = x + x
        y += x
        paddle.add(x, y)
        x.add(y)
        (x + parameter), (x + 1.0), (x + paddle.ones([2])), (paddle.ones([2]) + paddle.ones([2]))
        x.astype("int32") + x.astype("int32")
    assert sum(find_additions(run)) == 4


def test_an_exception_leaves_paddle_as_it_was():
    before = paddle.add, paddle.Tensor.__add__
    with pytest.raises(ZeroDivisionError):
        with intercepted(lambda original, a, b: original(a, b)):
            1 / 0
    assert (paddle.add, paddle.Tensor.__add__) == before


def test_a_sequential_model_keeps_its_order():
    class Block(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2D(3, 3, 1)

        def forward(self, x):
            return x + self.conv(x)
    model, _ = quant_aware_prepare(nn.Sequential(Block(), Block()),
                                   {"QuantAware": {"quantize_additions": True}},
                                   [paddle.randn([2, 3, 4, 4])])
    assert len(model.additions) == 2 and model(paddle.randn([2, 3, 4, 4])).shape == [2, 3, 4, 4]
    assert [k for k in model.state_dict() if k.startswith("additions.1.left")]


class Positions(nn.Layer):
    """Tokens with positions in two ways, as in a transformer, and a residual addition behind."""

    def __init__(self):
        super().__init__()
        self.table, self.first = nn.Linear(4, 4), nn.Linear(4, 4)
        self.learned = self.create_parameter([1, 3, 4])

    def forward(self, x):
        x = x + self.learned
        x = x + self.table(paddle.ones([1, 3, 4]))
        return x + self.first(x)


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_added_to_every_sample_does_not_shift_the_others(whole, tmp_path):
    """Neither in the program, whose batch is free, nor for one sample; nor where a part of the
    model was prepared on its own.
    """
    x = np.random.default_rng(0).standard_normal((4, 3, 4)).astype("float32")
    model = Positions() if whole else nn.Sequential(nn.ReLU(), Positions())
    quant_aware_prepare(model if whole else model[1],
                        {"QuantAware": {"quantize_additions": True, "target": "simulation",
                                        "activation_bits": 3}}, [x])
    prefix = "" if whole else "1."
    assert [n for n, _ in addition_quanters(model)] == [f"{prefix}additions.0.{side}"
                                                        for side in ("left", "right", "result")]
    model.eval()
    together = model(paddle.to_tensor(x)).numpy()
    alone = model(paddle.to_tensor(x[:1])).numpy()
    np.testing.assert_allclose(alone, together[:1], atol=1e-5)
    exported = export_quantized(model, str(tmp_path / "out"),
                                [paddle.static.InputSpec([None, 3, 4], "float32", "x")], [x])
    assert exported.verification["max_abs_diff"] < 1e-5


class Named(nn.Layer):
    """Names that quantized layers keep things of their own under."""

    def __init__(self):
        super().__init__()
        self.convolution, self.batch_norm = nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4)
        self.additions, self.loads = nn.LayerList([nn.ReLU()]), nn.Linear(4, 2)

    def forward(self, x):
        x = self.batch_norm(self.convolution(x)).mean([2, 3])
        x = x + self.additions[0](x)
        return self.loads(x)


@pytest.mark.parametrize("fold", [True, False])
def test_a_model_may_have_layers_of_any_name(fold, tmp_path):
    x = np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype("float32")
    model, _ = quant_aware_prepare(Named(), {"QuantAware": {"fold_batch_norm": fold}}, [x])
    exported = export_quantized(model, str(tmp_path / "out"),
                                [paddle.static.InputSpec([None, 3, 6, 6], "float32", "x")], [x])
    assert exported.agrees
    with pytest.raises(ConfigError, match="'additions'.*rename"):
        quant_aware_prepare(Named(), {"QuantAware": {"quantize_additions": True}}, [x])
