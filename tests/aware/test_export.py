# SPDX-License-Identifier: Apache-2.0
"""Freezing and exporting: what was learned survives, and Paddle Inference computes
what evaluation computes.
"""
import json

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.aware import export as export_module
from paddle_mrecg.aware.job import export_quantized, freeze, quant_aware_prepare, quantized_layers
from paddle_mrecg.grids.affine import Encoding, dequantize
from paddle_mrecg.aware.additions import addition_quanters

SIMULATION = {"target": "simulation"}
CASES = {f"{quanter}-W{bits}A{bits}": dict(SIMULATION, weight_quanter=weight,
                                           activation_quanter=quanter, weight_bits=bits,
                                          activation_bits=bits, first_layer_weight_bits=bits,
                                           last_layer_weight_bits=bits)
         for bits in (2, 4, 8)
         for quanter, weight in (("lsq", "lsq"), ("lsq_plus", "lsq"), ("tqt", "tqt"),
                                 ("symmetric_pact", "lsq"),
                                 ("abs_max", "abs_max"))}
CASES["per tensor"] = dict(SIMULATION, weight_per_channel=False)
CASES["paddle_lite"] = dict(target="paddle_lite", weight_bits=4)
CASES["weights only"] = dict(weight_bits=3, activation_bits=32, first_layer_activation_bits=32,
                             last_layer_activation_bits=32)
CASES["hardware-friendly W4A4"] = dict(SIMULATION, hardware_friendly=True, weight_bits=4,
                                       activation_bits=4)
CASES["folded W2A2"] = dict(SIMULATION, weight_bits=2, activation_bits=2, fold_batch_norm=True,
                            quantize_additions=True)
CASES["skipped layers"] = dict(weight_bits=4, skip=["plain", "stem.0"])


def spec(side=8):
    return [paddle.static.InputSpec([None, 3, side, side], "float32", "image")]


def off_the_boundaries(small, model, margin=1e-6):
    """Images of which no activation lies within ``margin`` steps of a rounding boundary.

    There the last bit of a sum, which every runtime computes in its own order,
    decides about a whole step.
    """
    quanters = [layer.activation_quanter for _, layer in quantized_layers(model)
                if layer.activation_quanter]
    quanters += [quanter for _, quanter in addition_quanters(model)]
    distances = []

    def measure(quanter, inputs):
        distances.append(np.abs(inputs[0].numpy() / quanter.step().numpy() % 1.0 - 0.5).min())
    hooks = [quanter.register_forward_pre_hook(measure) for quanter in quanters]
    for seed in range(60, 70):
        distances.clear()
        x = small.images(4, seed=seed)
        model(x)
        if min(distances, default=1.0) > margin:
            break
    for hook in hooks:
        hook.remove()
    return x


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_the_program_computes_what_training_evaluates(small, tmp_path, settings):
    """Within 1e-5 of the largest output, after training steps have moved scales and weights."""
    model, penalty = small.prepared({"QuantAware": settings})
    small.train(model, penalty, steps=2)
    x = off_the_boundaries(small, model)
    want = model(x).numpy()
    np.testing.assert_array_equal(freeze(model)(x).numpy(), want)
    exported = export_quantized(model, str(tmp_path / "out"), spec(), samples=[x.numpy()])
    got = Predictor(str(tmp_path / "out" / "model"))([x.numpy()])[0]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    assert exported.verification["max_abs_diff"] == pytest.approx(np.abs(got - want).max())
    assert exported.agrees and exported.verification["verdict"] == "agrees"
    np.testing.assert_array_equal(model(x).numpy(), want)  # the model itself goes on unchanged


def test_a_program_that_differs_is_judged_in_the_words_of_quant(small, tmp_path, monkeypatch):
    model, _ = small.prepared({"QuantAware": SIMULATION})

    def spoiled(graph, prefix):
        name = next(n for n, v in graph.params.items() if v.dtype == np.int8)
        graph.params[name] = -graph.params[name]
        save_program(graph, prefix)
    monkeypatch.setattr(export_module, "save_program", spoiled)
    exported = export_quantized(model, str(tmp_path / "out"), spec())
    assert not exported.agrees and exported.verification["verdict"] == "differs"
    assert "not the network that was simulated" in exported.verification["why"]
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored["verification"] == exported.verification


def test_scales_survive_exactly_and_weights_are_integers(small, tmp_path):
    model, penalty = small.prepared({"QuantAware": dict(SIMULATION, weight_bits=2,
                                                        activation_bits=4)})
    small.train(model, penalty)
    export_quantized(model, str(tmp_path / "out"), spec())
    graph = load_graph(str(tmp_path / "out"), allow_quantized=True)
    encodings = {n: Encoding.from_dict(e)
                 for n, e in json.loads((tmp_path / "out" / "encodings.json").read_text()).items()}
    for name, layer in quantized_layers(model):
        encoding = encodings[layer.weight.name]
        np.testing.assert_array_equal(encoding.scale, layer.weight_quanter.step().numpy())
        codes = graph.params[layer.weight.name]
        assert (codes.dtype == np.int8 and codes.min() >= encoding.spec.qmin
                and codes.max() <= encoding.spec.qmax)
        np.testing.assert_array_equal(dequantize(codes, encoding),
                                      layer.weight_quanter(layer.weight).numpy(), err_msg=name)
    activations = [e for n, e in encodings.items() if n not in graph.params]
    steps = sorted(float(layer.activation_quanter.step().item())
                   for _, layer in quantized_layers(model))
    assert sorted(float(e.scale) for e in activations) == steps
    assert set(encodings) <= set(graph.tensors)


def test_two_readers_of_one_tensor_may_differ(small, tmp_path):
    """Two encodings of the same activation: each reader gets its own,
    through a copy of the tensor.
    """
    class Fork(nn.Layer):
        def __init__(self):
            super().__init__()
            self.start, self.left, self.right = (nn.Conv2D(3, 3, 3, padding=1) for _ in range(3))

        def forward(self, x):
            x = self.start(x)
            return self.left(x) - self.right(x)
    paddle.seed(0)
    config = {"QuantAware": dict(SIMULATION, activation_bits=4, overrides=[
        {"pattern": "right", "activation_bits": 2}])}
    model, _ = quant_aware_prepare(Fork(), config, [small.images()])
    model.eval()
    x = small.images(2, seed=5)
    export_quantized(model, str(tmp_path / "out"), spec())
    got = Predictor(str(tmp_path / "out" / "model"))([x.numpy()])[0]
    np.testing.assert_allclose(got, model(x).numpy(), atol=1e-6)
    encodings = json.loads((tmp_path / "out" / "encodings.json").read_text())
    copies = [n for n in encodings if n.endswith(".copy")]
    assert (len(copies) == 1
            and encodings[copies[0]]["bits"] != encodings[copies[0][:-len(".copy")]]["bits"])


@pytest.mark.parametrize("per_channel", [True, False])
def test_transposed_convolutions(small, tmp_path, per_channel):
    paddle.seed(0)
    net = nn.Sequential(nn.Conv2DTranspose(3, 5, 3, stride=2), nn.ReLU(),
                        nn.Conv2DTranspose(5, 4, 2, bias_attr=False))
    model, _ = quant_aware_prepare(net, {"QuantAware": {"weight_bits": 3,
                                                        "weight_per_channel": per_channel}},
                                   [small.images()])
    model.eval()
    exported = export_quantized(model, str(tmp_path / "out"), spec())
    assert exported.verification["max_abs_diff"] <= 1e-5 * exported.verification["max_abs_output"]


def test_equal_readers_share_one_quantizer(tmp_path):
    class Twice(nn.Layer):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x) * self.layer(x)
    model, _ = quant_aware_prepare(Twice(), calibration=[paddle.randn([4, 4])])
    model.eval()
    exported = export_quantized(model, str(tmp_path / "out"),
                                [paddle.static.InputSpec([None, 4], "float32", "x")])
    assert exported.verification["max_abs_diff"] < 1e-6
    graph = load_graph(str(tmp_path / "out"), allow_quantized=True)
    assert [op.type for op in graph.ops].count("quantize_linear") == 1


def test_a_target_refuses_what_it_cannot_run(small, tmp_path):
    model, _ = small.prepared({"QuantAware": dict(SIMULATION, activation_quanter="lsq_plus")})
    with pytest.raises(ConfigError, match="no zero point"):
        export_quantized(model, str(tmp_path / "a"), spec(), target="paddle_lite")
    model, _ = small.prepared({"QuantAware": dict(SIMULATION, activation_bits=4)})
    with pytest.raises(ConfigError, match="whatever the bits"):
        export_quantized(model, str(tmp_path / "b"), spec(), target="paddle_lite")
    with pytest.raises(ConfigError, match="unknown target"):
        export_quantized(model, str(tmp_path / "c"), spec(), target="lite")
    assert not list(tmp_path.iterdir())
    model, _ = small.prepared({"QuantAware": {"weight_bits": 4}})
    assert (export_quantized(model, str(tmp_path / "d"), spec(),
                             target="paddle_lite").verification["max_abs_diff"] < 1e-5)


@pytest.mark.parametrize("calibrated", [False, True])
def test_layers_for_training_only_are_left_out_and_named(calibrated, tmp_path):
    class Auxiliary(nn.Layer):
        def __init__(self):
            super().__init__()
            self.main, self.extra = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return self.main(x) + self.extra(x) if self.training else self.main(x)
    model, _ = quant_aware_prepare(Auxiliary())
    if calibrated:  # in evaluation: nothing has run the extra layer
        model, _ = quant_aware_prepare(Auxiliary(), calibration=[paddle.randn([2, 4])])
        frozen = freeze(model)
        frozen.train()
        with pytest.raises(DataError, match="input of layer 'extra' was not seen"):
            frozen(paddle.randn([2, 4]))
    else:
        model(paddle.randn([2, 4]))
    exported = export_quantized(model, str(tmp_path / "out"),
                                [paddle.static.InputSpec([None, 4], "float32", "x")])
    assert exported.dropped == ["extra"]
    assert exported.verification["max_abs_diff"] < 1e-5
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["dropped"] == ["extra"]


@pytest.mark.slow
def test_a_real_network(tmp_path):
    """MobileNetV3-small from paddle.vision at W4A8: hard-sigmoid gates,
    squeeze-and-excitation, residual additions.
    """
    paddle.seed(0)
    net = paddle.vision.models.mobilenet_v3_small(scale=0.5, num_classes=10)
    x = paddle.to_tensor(np.random.default_rng(0).standard_normal((4, 3, 32,
                                                                   32)).astype(np.float32))
    net(x)
    model, penalty = quant_aware_prepare(net, {"BinRegularization": {"schedule": "S1"}}, [x])
    (model(x).square().mean() + penalty()).backward()
    model.eval()
    want = model(x).numpy()
    export_quantized(model, str(tmp_path / "out"), spec(32))
    got = Predictor(str(tmp_path / "out" / "model"))([x.numpy()])[0]
    # a few of 10^5 activations fall on the other side of a boundary
    assert np.abs(got - want).mean() < 1e-2 * np.abs(want).max()


class Choosing(nn.Layer):
    """Convolutions of which the last is used twice, with bias, and an NMS behind them: the last
    bit decides what comes out.
    """

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2D(3, 6, 3), nn.Conv2D(6, 4, 1)

    def forward(self, x):
        x = paddle.nn.functional.relu(self.first(x))
        boxes, scores = self.last(x), self.last(x * 0.5)
        boxes = boxes.flatten(2).transpose([0, 2, 1]).abs().cumsum(-1)
        if paddle.__version__ < "3":
            return paddle.vision.ops.matrix_nms(boxes, scores.flatten(2), 0.01, 0.01, 20, 10,
                                                return_rois_num=False)[0]
        # as PicoDet
        return paddle._C_ops.multiclass_nms3(boxes, scores.flatten(2), None, 0.01, 20, 10, 0.5,
                                             True, 1.0, -1)[0]


def test_a_detector_is_compared_in_front_of_its_choice(tmp_path):
    paddle.seed(0)
    x = paddle.randn([1, 3, 8, 8])
    model, _ = quant_aware_prepare(Choosing(), calibration=[x])
    model.eval()
    exported = export_quantized(model, str(tmp_path / "out"),
                                [paddle.static.InputSpec([1, 3, 8, 8], "float32", "x")])
    assert exported.verification["outputs"] == 2 and exported.verification["max_abs_diff"] < 1e-5


def test_tracing_a_model_in_training_is_refused_with_the_way_to_export_it(small, tmp_path):
    model, _ = small.prepared()
    model.eval()
    with pytest.raises(Exception, match="use export_quantized, or save_quantized_model"):
        paddle.jit.save(model, str(tmp_path / "net"),
                        [paddle.static.InputSpec([None, 3, small.SIDE, small.SIDE], "float32",
                                                 "x")])
