# SPDX-License-Identifier: Apache-2.0
"""paddleslim.dygraph.quant.QAT: our names in its config, the same training loop,
scales that survive the save.
"""
import json

import numpy as np
import pytest

import paddle
import paddle_mrecg
from paddle_mrecg.errors import ConfigError, ModelError
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.aware.layers import as_float, quantized_layers
from paddleslim.dygraph.quant import QAT
from tests.slim_nets import DICT_SPEC, SHAPE, DictNet, TinyNet, images

SPEC = [paddle.static.InputSpec([None, *SHAPE], "float32", "x")]
CONFIGS = {
    "symmetric_pact": dict(activation_preprocess_type="SymmetricPACT"),
    "lsq": dict(weight_quantize_type="lsq", weight_bits=4),
    "channel_wise_lsq": dict(weight_quantize_type="channel_wise_lsq", weight_bits=4,
                             activation_quantize_type="lsq"),
    "tqt": dict(weight_quantize_type="tqt", weight_bits=4, activation_quantize_type="tqt"),
    "bin_regularization": dict(weight_quantize_type="lsq", weight_bits=3,
                               bin_regularization={"lambda": 1.0}),
    "solved start": dict(weight_quantize_type="channel_wise_lsq", weight_bits=3, rounding="solve"),
    "all": dict(weight_quantize_type="channel_wise_lsq", weight_bits=3,
                activation_preprocess_type="SymmetricPACT",
                bin_regularization={}, symmetric_pact={"lr": 10.0}),
}


def train(model, steps=4, learning_rate=0.02):
    """A host's loop: it knows nothing of penalties."""
    model.train()
    optimizer = paddle.optimizer.Momentum(learning_rate, parameters=model.parameters(),
                                          weight_decay=1e-4)
    x = paddle.to_tensor(images(8))
    for _ in range(steps):
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()


@pytest.mark.parametrize("name", CONFIGS)
def test_learned_scales_survive_the_save(name, tiny_net, tmp_path, registered):
    qat = QAT(config=CONFIGS[name])
    model = qat.quantize(tiny_net)
    train(model)
    model.eval()
    x = images(4, seed=1)
    want = model(paddle.to_tensor(x)).numpy()
    exported = qat.save_quantized_model(model, str(tmp_path / "net"), SPEC)
    np.testing.assert_allclose(Predictor(str(tmp_path / "net"))(x)[0], want, atol=1e-5)
    with open(f"{exported.save_dir}/encodings.json", encoding="utf-8") as file:
        stored = json.load(file)
    for _, layer in quantized_layers(model):
        np.testing.assert_array_equal(np.float32(stored[layer.weight.name]["scale"]).ravel(),
                                      layer.weight_quanter.step().numpy())


def test_bin_regularization_needs_no_change_of_the_loop(registered):
    """With the task's loss switched off, only the injected gradient moves
    weights: towards their levels.
    """
    paddle.seed(0)
    qat = QAT(config=dict(weight_quantize_type="lsq", weight_bits=3,
                          bin_regularization={"grad_to_scale": False}))
    model = qat.quantize(TinyNet())
    model(paddle.to_tensor(images(8)))
    before = {row["layer"]: row["loss"] for row in qat.penalty.statistics()}
    optimizer = paddle.optimizer.SGD(0.5, parameters=[layer.weight
                                                      for _, layer in quantized_layers(model)])
    for _ in range(5):
        (model(paddle.to_tensor(images(8))) * 0.0).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
    after = {row["layer"]: row["loss"] for row in qat.penalty.statistics()}
    assert all(after[name] < before[name] for name in before)


def test_steps_have_their_own_rate_and_no_decay(tiny_net, registered):
    model = QAT(config=dict(CONFIGS["all"], scale_lr=0.1)).quantize(tiny_net)
    layer = next(layer for _, layer in quantized_layers(model))
    step, = layer.weight_quanter.step_parameters()
    alpha, = layer.activation_quanter.clip_parameters()
    assert ((step.optimize_attr["learning_rate"], alpha.optimize_attr["learning_rate"])
            == (0.1, 10.0))
    assert step.regularizer._coeff == alpha.regularizer._coeff == 0.0


def test_the_model_is_changed_in_place_only_if_asked(tiny_net, registered):
    qat = QAT(config=CONFIGS["lsq"])
    assert (any(quantized_layers(qat.quantize(tiny_net, inplace=False)))
            and not any(quantized_layers(tiny_net)))
    assert qat.quantize(tiny_net) is tiny_net and any(quantized_layers(tiny_net))


def test_a_schedule_by_epochs_says_what_it_needs(tiny_net, registered):
    qat = QAT(config=dict(weight_quantize_type="lsq",
                          bin_regularization={"schedule": "S2", "start": 1}))
    model = qat.quantize(tiny_net)
    with pytest.raises(ConfigError, match="on_epoch"):
        train(model, steps=1)
    for epoch in range(2):
        qat.penalty.on_epoch(epoch, 2)
        train(model, steps=1)


@pytest.mark.parametrize("config, message", [
    (dict(weight_quantize_type="lsq", weigth_bits=4),
     "weigth_bits: unknown key. Did you mean 'weight_bits'?"),
    (dict(bin_regularization={"lamda": 1}),
     "BinRegularization.lamda: unknown key. Did you mean 'lambda'?"),
    (dict(weight_quantize_type="lsq", onnx_format=False),
     "onnx_format: False has no counterpart here"),
    (dict(weight_quantize_type="range_abs_max", bin_regularization={}),
     "weight_quantize_type: must be one of lsq"),
    (dict(activation_preprocess_type="SymmetricPACT", activation_quantize_type="lsq"),
     "is given too and differs"),
    (dict(weight_quantize_type="lsq", activation_bits=4), "set QuantAware.target: simulation"),
])
def test_mistakes_are_errors(config, message, registered):
    with pytest.raises(ConfigError) as caught:
        QAT(config=config)
    assert message in str(caught.value)


def test_layers_of_the_user_cannot_stand_next_to_them(registered):
    with pytest.raises(ConfigError, match="act_preprocess cannot be combined with"):
        QAT(CONFIGS["lsq"], None, paddle.nn.ReLU)


def test_saving_needs_specs(tiny_net, tmp_path, registered):
    qat = QAT(config=CONFIGS["lsq"])
    with pytest.raises(ModelError, match="input_spec"):
        qat.save_quantized_model(qat.quantize(tiny_net), str(tmp_path / "net"))


@pytest.mark.host
@pytest.mark.parametrize("config",
                         [None, {"activation_preprocess_type": "PACT", "weight_bits": 4},
                          {"foo": 1}],
                         ids=["default", "pact", "unknown key"])
def test_other_configs_are_bit_identical(config):
    """Two steps of PaddleSlim's own training; parameters are compared by value."""
    def run():
        with paddle.utils.unique_name.guard():
            paddle.seed(0)
            qat = QAT(config) if config is None else QAT(config=dict(config))
            model = qat.quantize(TinyNet())
            train(model, steps=2)
            return {k: v.numpy() for k, v in model.state_dict().items()}, qat

    without, qat = run()
    assert not hasattr(qat, "penalty")
    paddle_mrecg.register()
    try:
        with_ours, qat = run()
        assert not hasattr(qat, "penalty")  # as without registration
    finally:
        paddle_mrecg.unregister()
    assert without.keys() == with_ours.keys()
    for name, value in without.items():
        np.testing.assert_array_equal(with_ours[name], value)


def test_inputs_in_a_dict(tmp_path, registered):
    paddle.seed(0)
    qat = QAT(config=CONFIGS["all"])
    model = qat.quantize(DictNet())
    batch = {"image": paddle.to_tensor(images(4)),
             "scale_factor": paddle.to_tensor(images(4)[:, 0, 0, :2])}
    model(batch)
    model.eval()
    exported = qat.save_quantized_model(model, str(tmp_path / "net"), DICT_SPEC)
    assert exported.verification["max_abs_diff"] < 1e-4
    np.testing.assert_allclose(Predictor(str(tmp_path / "net"))({k: v.numpy()
                                                                 for k, v in batch.items()})[0],
                               model(batch).numpy(), atol=1e-5)


def test_inputs_that_the_host_leaves_out_are_filled_in(tmp_path, registered):
    """PaddleYOLO gives specs of what its program reads; ``forward`` looks up the rest too."""
    class Sized(DictNet):
        def forward(self, inputs):
            inputs["im_shape"] * 2
            return DictNet.forward(self, inputs)
    qat = QAT(config=CONFIGS["all"])
    model = qat.quantize(Sized())
    batch = {"image": paddle.to_tensor(images(4)), "im_shape": paddle.ones([4, 2]),
             "scale_factor": paddle.to_tensor(images(4)[:, 0, 0, :2])}
    model(batch)
    model.eval()
    sizes = paddle.static.InputSpec([None, 2], "float32", "im_shape")
    with as_float(model):
        paddle.jit.to_static(model, input_spec=[dict(DICT_SPEC[0], im_shape=sizes)])
    assert qat.save_quantized_model(model, str(tmp_path / "net"), DICT_SPEC).agrees
    assert Predictor(str(tmp_path / "net")).input_names == sorted(DICT_SPEC[0])


def test_a_model_that_went_through_to_static_declares_its_inputs(tiny_net, tmp_path, registered):
    """As PaddleClas and PaddleOCR export: a layer around the model, ``to_static`` with specs,
    no input_spec when saving.
    """
    qat = QAT(config=CONFIGS["all"])
    model = qat.quantize(tiny_net)
    train(model, steps=1)
    around = paddle.nn.Sequential(model, paddle.nn.Softmax())
    around.eval()
    around = paddle.jit.to_static(around, input_spec=SPEC)
    qat.save_quantized_model(around, str(tmp_path / "net"))
    model.eval()
    x = images(4, seed=1)
    want = paddle.nn.functional.softmax(model(paddle.to_tensor(x))).numpy()
    np.testing.assert_allclose(Predictor(str(tmp_path / "net"))(x)[0], want, atol=1e-5)


def test_penalty_is_an_attribute_of_ours_alone(tiny_net, registered):
    """PaddleSlim's own objects have none, and a subclass may have one of its own."""
    class Own(QAT):
        def __init__(self):
            super().__init__()
            self.penalty = 3

    assert not hasattr(QAT(), "penalty") and Own().penalty == 3
    qat = QAT(config=CONFIGS["lsq"])
    assert qat.penalty is None
    qat.quantize(tiny_net)
    assert qat.penalty is not None


def test_efolds_are_planned_through_the_penalty(registered):
    """The loop is the user's: it tells its optimizer and steps once."""
    qat = QAT(config={"weight_quantize_type": "channel_wise_lsq", "weight_bits": 3,
                      "bin_regularization": {"efolds": 2.0}})
    model = qat.quantize(TinyNet())
    with pytest.raises(ConfigError, match="call penalty.plan"):
        model(paddle.to_tensor(images(8)))
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())
    qat.penalty.plan(optimizer, 4)
    for _ in range(4):
        model(paddle.to_tensor(images(8))).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()
    rows = qat.penalty.statistics()
    assert [row["predicted_efolds"] for row in rows] == pytest.approx([2.0] * len(rows))


class Taught(paddle.nn.Layer):
    """A distillation: the teacher does not train."""

    def __init__(self):
        super().__init__()
        self.teacher, self.student = TinyNet(), TinyNet()
        for parameter in self.teacher.parameters():
            parameter.stop_gradient = True

    def forward(self, x):
        return self.teacher(x), self.student(x)


def test_the_teacher_of_a_distillation_is_saved_in_float(tmp_path, registered):
    """PaddleOCR saves both networks, the teacher first."""
    qat = QAT(config=CONFIGS["lsq"])
    model = qat.quantize(Taught())
    model(paddle.to_tensor(images(4)))[1].square().mean().backward()
    model.eval()
    x = images(4, seed=1)
    for name, part in (("teacher", model.teacher), ("student", model.student)):
        want = part(paddle.to_tensor(x)).numpy()
        exported = qat.save_quantized_model(paddle.jit.to_static(part, input_spec=SPEC),
                                            str(tmp_path / name / "net"))
        np.testing.assert_allclose(Predictor(str(tmp_path / name / "net"))(x)[0], want, atol=1e-5)
        assert (exported is None) == (name == "teacher")
    with pytest.raises(ModelError, match="nothing in this model is quantized"):
        qat.save_quantized_model(TinyNet(), str(tmp_path / "net"), SPEC)
