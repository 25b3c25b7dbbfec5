# SPDX-License-Identifier: Apache-2.0
"""quant_aware_prepare: layers, bits and state, and what it refuses, as export does."""
import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.errors import ConfigError, DataError, ModelError
from paddle_mrecg.aware.job import export_quantized, freeze, quant_aware_prepare, quantized_layers
from paddle_mrecg.aware.quanters.abs_max import AbsMaxQuanter
from paddle_mrecg.aware.quanters.lsq import LSQQuanter
from paddle_mrecg.strategies.symmetric_pact import SymmetricPACTQuanter

LOW = {"target": "simulation", "weight_bits": 3, "activation_bits": 4}


def bits(model):
    return {name: (layer.weight_quanter.bits,
                   layer.activation_quanter.bits if layer.activation_quanter else None)
            for name, layer in quantized_layers(model)}


def test_names_and_keys_stay_and_float_checkpoints_load(small):
    net = small.float_net()
    names, keys = [p.name for p in net.parameters()], list(net.state_dict())
    model, _ = quant_aware_prepare(net, calibration=[small.images()])
    assert model is net and isinstance(model.head, nn.Linear)
    assert [p.name for p in model.parameters() if p.name in names] == names
    assert [k for k in model.state_dict() if "quanter" not in k] == keys
    other = small.float_net(seed=3)
    model.set_state_dict(other.state_dict())
    np.testing.assert_array_equal(model.head.weight.numpy(), other.head.weight.numpy())


def test_bits_of_layers(small):
    model, _ = small.prepared({"QuantAware": dict(LOW, overrides=[{"pattern": "point*",
                                                                   "weight_bits": 5}])})
    assert (bits(model) == {"stem.0": (8, 8), "depthwise.0": (3, 4), "pointwise": (5, 4),
                            "plain": (3, 4), "head": (8, 8)})
    model, _ = small.prepared({"QuantAware": dict(LOW, skip=["head", "stem*"], activation_bits=32)})
    assert bits(model) == {"depthwise.0": (8, 8), "pointwise": (3, None), "plain": (8, 8)}


def test_first_and_last_are_those_that_run_first_and_last():
    class Backwards(nn.Layer):
        def __init__(self):
            super().__init__()
            self.c, self.b, self.a = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.c(self.b(self.a(x)))
    model, _ = quant_aware_prepare(Backwards(), {"QuantAware": {"weight_bits": 2}},
                                   [paddle.ones([2, 4])])
    assert ({n: layer.weight_quanter.bits for n, layer in quantized_layers(model)}
            == {"a": 8, "b": 2, "c": 8})


def test_a_subclass_with_a_forward_of_its_own_stays_float():
    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2.0
    model, _ = quant_aware_prepare(nn.Sequential(Doubled(3, 3), nn.Linear(3, 3)))
    assert [name for name, _ in quantized_layers(model)] == ["1"]


def test_at_eight_bits_outputs_stay_close(small):
    want = small.float_net()
    want.eval()
    model, _ = small.prepared({"QuantAware": {"weight_bits": 8}})
    model.eval()
    x = small.images()
    assert np.abs(model(x).numpy() - want(x).numpy()).max() < 0.03 * np.abs(want(x).numpy()).max()


def test_calibration_leaves_weights_statistics_and_modes_alone(small):
    net = small.float_net()
    net.norm.eval()
    before = {k: v.numpy() for k, v in net.state_dict().items()}
    model, _ = quant_aware_prepare(net, calibration=[(small.images(), None)])  # (input, label)
    for key, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[key].numpy(), value)
    assert model.training and not model.norm.training and model.plain.activation_quanter.training
    net = small.float_net()
    net.eval()
    model, _ = quant_aware_prepare(net, calibration=[small.images()])
    assert not any(layer.training for layer in model.sublayers(include_self=True))
    assert all(q.initialized for _, layer in quantized_layers(model) for q in layer.quanters())


def test_without_calibration_the_first_batch_decides(small):
    model, _ = small.prepared({"QuantAware": LOW}, calibration=False)
    assert not model.plain.activation_quanter.initialized
    with pytest.raises(DataError, match="has not been seen"):
        freeze(model)
    model(small.images())
    assert model.plain.activation_quanter.initialized
    assert not model.plain.activation_quanter.signed and model.stem[0].activation_quanter.signed


@pytest.mark.parametrize("mode", ["loss", "injection"])
def test_weights_that_are_loaded_after_preparing_decide_their_steps(small, mode):
    """Hosts build and quantize the model first and load the float checkpoint then."""
    config = {"QuantAware": dict(LOW, penalty_mode=mode), "BinRegularization": {"schedule": "S1"}}
    trained, steps = small.float_net(seed=3), []
    for loaded_before in (True, False):
        net = small.float_net()
        if loaded_before:
            net.set_state_dict(trained.state_dict())
        model, penalty = quant_aware_prepare(net, config)
        if not loaded_before:
            model.set_state_dict(trained.state_dict())
        model(small.images()).sum().backward()
        penalty()
        steps.append(model.plain.weight_quanter.step().numpy())
    np.testing.assert_array_equal(*steps)


def test_the_penalty_may_come_before_the_first_batch(small):
    config = {"QuantAware": LOW, "BinRegularization": {"schedule": "S1"}}
    model, penalty = small.prepared(config, calibration=False)
    early = penalty().item()
    model(small.images())
    assert early == penalty().item() > 0
    assert ({row["bits"] for row in small.prepared(config, calibration=False)[1].statistics()}
            == {8, 3})


def test_a_moving_average_of_the_state_keeps_the_grids(small):
    """Trainers of detectors average every entry of the state dict, correct
    the bias and cast it back.
    """
    model, _ = small.prepared({"QuantAware": LOW})
    signed = {n: layer.activation_quanter.signed for n, layer in quantized_layers(model)}
    assert set(signed.values()) == {True, False}
    state, decay, average = model.state_dict(), 0.9998, {}
    for _ in range(7):
        average = {k: decay * average.get(k, 0.0) + (1 - decay) * v.astype("float32")
                   for k, v in state.items()}
    model.set_state_dict({k: (v / (1 - decay ** 7)).astype(state[k].dtype)
                          for k, v in average.items()})
    assert {n: layer.activation_quanter.signed for n, layer in quantized_layers(model)} == signed


def test_paddle_lite_has_signed_activations_only(small):
    model, _ = small.prepared({"QuantAware": {"activation_bits": 8}})
    assert all(layer.activation_quanter.signed for _, layer in quantized_layers(model))


def test_resuming_goes_on_with_the_same_numbers(small):
    """State of model and optimizer after two steps, into a new model calibrated on other data:
    the third step is the same.
    """
    config = {"QuantAware": dict(LOW, activation_quanter="symmetric_pact"),
              "BinRegularization": {"schedule": "S1"}}
    outcome = []
    for interrupted in (False, True):
        model, penalty = small.prepared(config)
        small.train(model, penalty, steps=2)
        if interrupted:
            state = {k: v.numpy() for k, v in model.state_dict().items()}
            model, penalty = small.prepared(config, calibration=False, seed=5)
            model(9.0 * small.images(seed=6))
            model.set_state_dict({k: paddle.to_tensor(v) for k, v in state.items()})
        outcome.append(small.train(model, penalty, steps=1, seed=30))
    assert outcome[0] == outcome[1]


def test_one_weight_in_two_layers_has_one_quanter():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model, _ = quant_aware_prepare(nn.Sequential(first, nn.ReLU(), second, nn.Linear(4, 2)),
                                   {"QuantAware": {"weight_bits": 8}})
    assert first.weight_quanter is second.weight_quanter
    x = paddle.randn([3, 4])
    model.eval()
    want = model(x).numpy()
    np.testing.assert_array_equal(freeze(model)(x).numpy(), want)


@pytest.mark.parametrize("quanter, kind",
                         [("symmetric_pact", SymmetricPACTQuanter), ("abs_max", AbsMaxQuanter),
                          (None, LSQQuanter)])
def test_quanters_are_those_of_the_settings(small, quanter, kind):
    model, _ = small.prepared({"QuantAware": {"activation_quanter": quanter}})
    assert {type(layer.activation_quanter) for _, layer in quantized_layers(model)} == {kind}


class Readings(nn.Layer):
    """Takes one dict, as detectors do."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(3, 4)

    def forward(self, batch):
        return self.a(batch["image"]) + self.b(batch["size"])


def test_a_forward_of_one_dict_takes_batches_that_are_dicts():
    batch = {"image": paddle.rand([2, 4]), "size": np.full((2, 3), 7, "float32"), "name": "one"}
    model, _ = quant_aware_prepare(Readings(), calibration=[batch, batch])
    assert float(model.b.activation_quanter.seen[1]) == 7.0


def test_a_forward_of_named_tensors_takes_the_entries_of_dicts():
    class OneTensor(Readings):
        def forward(self, image):
            return self.a(image)
    model, _ = quant_aware_prepare(OneTensor(), {"QuantAware": {"skip": ["b"]}},
                                   [{"image": np.full((2, 4), 5, "float32")}])
    assert float(model.a.activation_quanter.seen[1]) == 5.0


def on(calibration):
    return lambda s: quant_aware_prepare(s.float_net(), calibration=calibration)


@pytest.mark.parametrize("make, error, message", [
    *[(lambda s, m=m: quant_aware_prepare(m), ModelError, f"{what} is not a model to train: pass")
      for m, what in [(lambda x: x, "a function"), ("inference", "a str"), (None, "a NoneType"),
                      (nn.ReLU, "the class ReLU")]],
    (on("images"), DataError, "calibration is a str: give a list of batches"),
    (on(5), DataError, "calibration is a int: give a list"),
    (on(paddle.ones([4, 3, 8, 8])), DataError, r"calibration is a Tensor: .* \[batch\] for this"),
    (on(np.ones([4, 3, 8, 8])), DataError, r"calibration is a ndarray: .* \[batch\] for this"),
    (on({"x": 1}), DataError, r"calibration is a dict: .* \[batch\] for this"),
    (on(lambda: None), DataError, r"cannot be called with the model .* lambda model: model\(batch"),
    (lambda s: on([s.images(), paddle.ones([2, 1, 8, 8])])(s), DataError,
     r"not run on batch 1 of calibration, float32 of shape \[2, 1, 8, 8\] .*channels.*: give what "
     r"forward\(x\) takes"),
    (on([np.zeros([2, 3, 8, 8], "uint8")]), DataError, "batch 0 of calibration, uint8 of shape"),
    (on([()]), DataError, "an empty tuple"), (on(["a.jpg"]), DataError, r"a str .* lambda model"),
    (on([{"x": paddle.ones([2, 3, 8, 8]), "label": paddle.ones([2])}]), DataError,
     r"a dict of x, label .*'label'.* forward\(x\) takes"),
    (lambda s: quant_aware_prepare(nn.ReLU()), ModelError, "nothing to quantize"),
    (lambda s: quant_aware_prepare(s.prepared()[0]), ModelError, "quantized already"),
    (lambda s: quant_aware_prepare(s.float_net(), {"QuantAware": {"skip": ["haed"]}}), ConfigError,
     "matches no layer"),
    (lambda s: quant_aware_prepare(s.float_net(), {"QuantAware": {"skip": ["*"]}}), ModelError,
     "excludes every layer"),
    (lambda s: quant_aware_prepare(s.float_net(), {"QuantAware": {"fold_batch_norm": True}}),
     ConfigError, "calibration"),
    (lambda s: quant_aware_prepare(s.float_net(), calibration=[]), DataError, "no batch"),
    (lambda s: quant_aware_prepare(s.float_net(), calibration=[s.images() / 0.0]), DataError,
     "NaN or infinity"),
    (lambda s: quant_aware_prepare(s.float_net().to(dtype="float64"), calibration=[s.images()]),
     ModelError, r"the parameters are float64 \(stem.0, .*model.to\(dtype='float32'\)"),
    (lambda s: freeze(s.float_net()), ModelError, "nothing in this model is quantized"),
])
def test_what_cannot_be_prepared(small, make, error, message):
    with pytest.raises(error, match=message):
        make(small)


def spec(channels):
    return [paddle.static.InputSpec([None, channels, 8, 8], "float32", "x")]


@pytest.mark.parametrize("given, samples, error, words", [
    *[(wrong, None, ModelError, "is not a list of paddle.static.InputSpec: give one for each")
      for wrong in (None, [], ["x"], [[None, 3, 8, 8]], spec(3)[0])],
    (spec(3), [np.ones([2, 2, 8, 8], "float32")], DataError, r"samples like \[\(2, 2, 8, 8\)\]"),
    (spec(3), np.ones([2, 3, 8, 8]), DataError, "samples is a ndarray: give a list with one array"),
    (spec(4), None, (DataError, ModelError),  # Paddle 2.6 sees it when it traces
     "give input_spec, or samples, in the shape and type that it|check input_spec")])
def test_wrong_specs_and_samples_are_refused_with_the_cure(small, given, samples, error, words,
                                                           tmp_path):
    with pytest.raises(error, match=words):
        export_quantized(small.prepared()[0], str(tmp_path / "out"), given, samples)
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_layer_is_neither_frozen_nor_exported(tmp_path):
    for call in (freeze, lambda model: export_quantized(model, str(tmp_path / "out"), spec(3))):
        with pytest.raises(ModelError, match="a function is not a model to train"):
            call(lambda x: x)


@pytest.mark.parametrize("more", [{}, dict(fold_batch_norm=True), dict(quantize_additions=True)],
                         ids=str)
def test_a_model_is_float_again_where_a_later_batch_fails(small, more):
    settings = {"QuantAware": dict(target="simulation", **more)}
    model, x = small.float_net(), small.images(4, seed=5)
    model.eval()
    before = model(x).numpy()
    with pytest.raises(DataError):
        quant_aware_prepare(model, settings, [small.images(8), small.images(8) * float("nan")])
    assert not any(quantized_layers(model)) and "additions" not in dict(model.named_children())
    np.testing.assert_array_equal(model(x).numpy(), before)
    again, fresh = (quant_aware_prepare(m, settings, [small.images(8)])[0]
                    for m in (model, small.float_net()))
    again.eval()
    fresh.eval()
    np.testing.assert_array_equal(again(x).numpy(), fresh(x).numpy())
