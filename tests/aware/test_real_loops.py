# SPDX-License-Identifier: Apache-2.0
"""What real training loops and models bring: loaders, recurrent layers, heads that start at
zero, other threads.
"""
import threading

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware.job import export_quantized, quant_aware_prepare
from paddle_mrecg.aware.layers import as_float, quantized_layers
from paddle_mrecg.errors import MrecgError
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.report.progress import get_logger


def images(count=8, seed=0):
    values = np.random.default_rng(seed).standard_normal((count, 3, 8, 8))
    return values.astype("float32")


def spec(*shape, dtype="float32"):
    return [paddle.static.InputSpec([None, *shape], dtype, "x")]


def steps_of(model):
    return {name: layer.activation_quanter.step().numpy() for name, layer
            in quantized_layers(model)}


def plain_net(seed=0):
    paddle.seed(seed)
    return nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.ReLU(), nn.Conv2D(4, 4, 3),
                         nn.BatchNorm2D(4))


def test_a_data_loader_calibrates_as_its_batches_do():
    batches = [images(seed=k) for k in (1, 2)]
    loader = paddle.io.DataLoader(
        paddle.io.TensorDataset([paddle.to_tensor(np.concatenate(batches)), paddle.arange(16)]),
        batch_size=8)
    want = steps_of(quant_aware_prepare(plain_net(), {}, batches)[0])
    for given in (loader, (batch for batch in batches)):
        got = steps_of(quant_aware_prepare(plain_net(), {}, given)[0])
        assert all(np.array_equal(got[name], step) for name, step in want.items())


@pytest.mark.parametrize("count", [1, 2])
def test_a_calibration_function_runs_any_number_of_batches(count):
    batches = [paddle.to_tensor(images(seed=k)) for k in range(count)]
    config = {"QuantAware": {"hardware_friendly": True, "target": "simulation"}}
    want, _ = quant_aware_prepare(plain_net(), config, batches)
    got, _ = quant_aware_prepare(plain_net(), config, lambda m: [m(x) for x in batches])
    assert ([type(layer).__name__ for _, layer in quantized_layers(got)]
            == [type(layer).__name__ for _, layer in quantized_layers(want)])
    assert all(np.array_equal(steps_of(got)[n], s) for n, s in steps_of(want).items())


class Recurrent(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2D(3, 8, 3, padding=1), nn.LSTM(8, 8, direction="bidirect")
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.rnn(self.conv(x).mean(2).transpose([0, 2, 1]))[0])


def test_a_recurrent_model_is_exported(tmp_path):
    paddle.seed(0)
    model, _ = quant_aware_prepare(Recurrent(), {}, [images()])
    model(paddle.to_tensor(images())).sum().backward()
    exported = export_quantized(model, str(tmp_path / "out"), spec(3, 8, 8))
    assert exported.verification["max_abs_diff"] < 1e-4


def test_integer_inputs_are_exported(tmp_path):
    class Words(nn.Layer):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(50, 32), nn.Linear(32, 8)

        def forward(self, ids):
            return self.head(self.table(ids))
    ids = np.random.default_rng(0).integers(0, 50, (4, 12)).astype("int64")
    model, _ = quant_aware_prepare(Words(), {}, [ids])
    exported = export_quantized(model, str(tmp_path / "out"), spec(12, dtype="int64"))
    assert exported.verification["max_abs_diff"] < 1e-4


def test_layers_without_bias_are_exported_hardware_friendly(tmp_path):
    paddle.seed(0)
    net = nn.Sequential(nn.Conv2D(3, 8, 3, padding=1), nn.ReLU(),
                        nn.Conv2D(8, 4, 1, bias_attr=False))
    model, _ = quant_aware_prepare(net, {"QuantAware": {"hardware_friendly": True}}, [images()])
    exported = export_quantized(model, str(tmp_path / "out"), spec(3, 8, 8))
    assert exported.verification["max_abs_diff"] < 1e-4


@pytest.mark.parametrize("quanter", ["lsq", "tqt", "abs_max"])
def test_a_head_that_starts_at_zero_learns(quanter):
    paddle.seed(1)
    zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
    net = nn.Sequential(nn.Conv2D(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2D(1), nn.Flatten(),
                        nn.Linear(8, 3, weight_attr=zero))
    x = paddle.to_tensor(images())
    model, penalty = quant_aware_prepare(net, {"QuantAware": {"weight_quanter": quanter}}, [x])
    sgd = paddle.optimizer.Momentum(0.05, parameters=penalty.parameter_groups())
    model.train()
    for _ in range(30):
        (model(x) - 30 * x.mean([2, 3])).square().mean().backward()
        sgd.step()
        sgd.clear_grad()
    head = model[4]
    assert float(head.quantized_weight(head.weight).abs().max()) > 0.1


def test_a_branch_behind_a_zero_gamma_wakes_up():
    paddle.seed(1)
    net = nn.Sequential(nn.Conv2D(3, 8, 3), nn.BatchNorm2D(8), nn.Conv2D(8, 4, 3))
    net[1].weight.set_value(np.zeros(8, "float32"))
    x = paddle.to_tensor(images())
    model, _ = quant_aware_prepare(net, {}, [x])
    net[1].weight.set_value(np.ones(8, "float32"))
    model.train()
    model(x).sum().backward()
    assert 1e-3 < float(net[2].activation_quanter.step()) < 1.0
    assert float(net[1].weight.grad.abs().max()) > 0


def test_a_checkpoint_of_other_bits_is_an_error_that_names_the_layer(tmp_path):
    trained, _ = quant_aware_prepare(plain_net(), {"QuantAware": {"weight_bits": 3}}, [images()])
    trained_last, _ = quant_aware_prepare(
        plain_net(), {"QuantAware": {"weight_bits": 3, "last_layer_weight_bits": 3}}, [images()])
    trained_last.set_state_dict(trained.state_dict())
    with pytest.raises(MrecgError, match="layer '3'.*trained with 8 bits.*ask for 3 bits"):
        export_quantized(trained_last, str(tmp_path / "out"), spec(3, 8, 8))


def test_averaged_weights_are_of_the_same_grid(tmp_path):
    """PaddleDetection's averages correct their start with the last decay: all is too large."""
    trained, _ = quant_aware_prepare(plain_net(), {"QuantAware": {"weight_bits": 3}}, [images()])
    state = {k: v * 1.0153 if "float" in str(v.dtype) else v
             for k, v in trained.state_dict().items()}
    again, _ = quant_aware_prepare(plain_net(), {"QuantAware": {"weight_bits": 3}}, [images()])
    again.set_state_dict(state)
    assert export_quantized(again, str(tmp_path / "out"), spec(3, 8, 8)).agrees


def test_additions_of_another_thread_stay_float():
    class Net(nn.Layer):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Conv2D(3, 3, 3, padding=1) for _ in range(2))
            self.gate = None

        def forward(self, x):
            x = self.a(x)
            if self.gate:
                self.gate()
            return x + self.b(x)
    model, _ = quant_aware_prepare(Net(), {"QuantAware": {"quantize_additions": True}},
                                   [images()])
    model.eval()
    x, seen = paddle.to_tensor(images()), []
    alone = model(x).numpy()
    a, b = paddle.full([2, 4], 1.2345), paddle.full([2, 4], 0.001)

    def gate():
        thread = threading.Thread(target=lambda: seen.append((a + b).numpy()))
        thread.start()
        thread.join()
    model.gate = gate
    assert np.array_equal(model(x).numpy(), alone)
    assert np.array_equal(seen[0], a.numpy() + b.numpy())


def normed(norm):
    return nn.Sequential(norm(nn.Conv2D(3, 8, 3, padding=1)), nn.BatchNorm2D(8), nn.ReLU(),
                         norm(nn.Conv2D(8, 4, 1)))


LAYERS = {
    "Conv1D": (lambda: nn.Sequential(nn.Conv1D(3, 8, 3, padding=1), nn.ReLU(),
                                     nn.Conv1D(8, 8, 3, groups=8),
                                     nn.Conv1D(8, 4, 1, padding=1, padding_mode="reflect")), 1),
    "depthwise transposed": (lambda: nn.Sequential(
        nn.Conv2D(3, 8, 3), nn.ReLU(), nn.Conv2DTranspose(8, 8, 2, stride=2, groups=8),
        nn.Conv2DTranspose(8, 6, 2, groups=2)), 2),
    "weight norm": (lambda: normed(nn.utils.weight_norm), 2),
    "spectral norm": (lambda: normed(nn.utils.spectral_norm), 2),
}


@pytest.mark.parametrize("friendly", [False, True])
@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_train_and_are_exported(name, friendly, tmp_path):
    paddle.seed(0)
    make, ndim = LAYERS[name]
    x = images() if ndim == 2 else images()[..., 0]
    config = {"QuantAware": {"hardware_friendly": friendly}}
    model, penalty = quant_aware_prepare(make(), config, [x])
    count = len(list(quantized_layers(model)))
    sgd = paddle.optimizer.SGD(0.01, parameters=penalty.parameter_groups())
    model.train()
    before = [q.step().numpy() for _, layer in quantized_layers(model) for q in layer.quanters()]
    for _ in range(2):
        (model(paddle.to_tensor(x)).square().mean() + penalty()).backward()
        sgd.step()
        sgd.clear_grad()
    model.eval()
    after = [q.step().numpy() for _, layer in quantized_layers(model) for q in layer.quanters()]
    assert friendly or any(not np.array_equal(a, b) for a, b in zip(before, after))
    exported = export_quantized(model, str(tmp_path / "out"), spec(3, *[8] * ndim))
    largest = exported.verification["max_abs_output"]
    assert exported.verification["max_abs_diff"] < 1e-5 * max(1.0, largest)
    graph = load_graph(str(tmp_path / "out"), allow_quantized=True)
    assert sum(value.dtype == np.int8 for value in graph.params.values()) == count
    quantized = {op.output("Y") for op in graph.ops if op.type == "dequantize_linear"}
    padded = 1 if name == "Conv1D" else 0  # reflection stands between quantizer and convolution
    read = [op for op in graph.ops if "conv2d" in op.type and op.input("Input") in quantized]
    assert friendly or len(read) == count - padded


class Sized(nn.Layer):
    """A detector: a picture, and sizes of a free batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3)

    def forward(self, image, sizes):
        return self.conv(image).mean([2, 3]) * sizes.sum()


def test_inputs_need_not_have_as_many_samples(tmp_path, monkeypatch):
    """PicoDet's export: one picture, and sizes of a free batch, looked at layer by layer."""
    from paddle_mrecg.deploy.check import verdict
    monkeypatch.setattr(verdict, "SURE", -1.0)
    model, _ = quant_aware_prepare(Sized(), {})
    model.train()
    model(paddle.rand([2, 3, 8, 8]), paddle.rand([2, 2]))
    specs = [paddle.static.InputSpec(shape, "float32", name)
             for shape, name in (([1, 3, 8, 8], "image"), ([None, 2], "sizes"))]
    exported = export_quantized(model, str(tmp_path / "a"), specs)
    assert exported.agrees and exported.verification["samples"] == 1
    given = [np.random.default_rng(0).standard_normal(shape).astype("float32")
             for shape in ((1, 3, 8, 8), (2, 2))]
    assert export_quantized(model, str(tmp_path / "b"), specs, given).agrees


def test_norms_that_take_the_statistics_of_a_batch_are_named_first_and_last(tmp_path, caplog,
                                                                           monkeypatch):
    monkeypatch.setattr(get_logger(), "propagate", True)
    net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm(4, trainable_statistics=True))
    model, _ = quant_aware_prepare(net, calibration=[images()])
    said = "batch normalizations of Sequential (1) take the mean and variance"
    assert said in caplog.text
    caplog.clear()
    exported = export_quantized(model, str(tmp_path / "out"), spec(3, 8, 8))
    assert said in caplog.text and not exported.agrees


def test_a_network_that_keeps_tensors_is_exported_after_it_was_traced(tmp_path):
    """PaddleYOLO traces a detector to see what it reads; its parts keep what they computed."""
    class Box:
        kept = None

    class Keeper(nn.Layer):
        def __init__(self):
            super().__init__()
            self.body, self.box = nn.Conv2D(3, 4, 3), Box()
            self.unregistered = [nn.Sequential(self.body)]

        def forward(self, x):
            self.box.kept = self.unregistered[0](x["image"]) * x["scale"].mean()
            return self.box.kept * 2

    inputs = {"image": paddle.to_tensor(images()), "scale": paddle.ones([8, 2])}
    model, _ = quant_aware_prepare(Keeper(), calibration=lambda model: model(inputs))
    declared = [{name: paddle.static.InputSpec([None, *value.shape[1:]], "float32", name)
                 for name, value in inputs.items()}]
    with as_float(model):
        traced = paddle.jit.to_static(model, input_spec=declared, full_graph=True)
        assert traced.forward.main_program is not None
    assert not isinstance(model.box.kept, paddle.Tensor)
    assert export_quantized(model, str(tmp_path / "out"), declared).agrees
