# SPDX-License-Identifier: Apache-2.0
"""paddleslim.quant.quant_aware and convert: symmetric PACT and bin
regularization in static programs.
"""
import numpy as np
import pytest

import paddle
import paddle_mrecg
from paddle_mrecg.compat import old_ir
from paddle_mrecg.config.aware import SymmetricPACTSettings
from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.slim.modes import optimizer_ops
from paddle_mrecg.slim.static_pact import PACT_SUFFIX, activation_ranges
from paddleslim.quant import convert, quant_aware  # noqa: F401  replaced by registration
from tests.slim_nets import RATE, StaticNet, images

PLACE = paddle.CPUPlace()
BATCHES = [{"x": images(8, seed=k)} for k in range(3)]


@pytest.fixture
def make_net(static_mode):
    """A function that builds the same network in a scope of its own."""
    with old_ir(), paddle.static.scope_guard(paddle.static.Scope()):
        def build():
            with paddle.utils.unique_name.guard():
                return StaticNet(static_mode)
        yield build


@pytest.mark.parametrize("scales", ["channel_wise_abs_max", "abs_max"])
@pytest.mark.parametrize("onnx_format", [True, False])
def test_bin_regularization_adds_its_gradient_and_nothing_else(scales, onnx_format, make_net,
                                                               registered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = dict(weight_quantize_type=scales, weight_bits=3, onnx_format=onnx_format)

    def after_one_step(config):
        with paddle.static.scope_guard(paddle.static.Scope()):
            net = make_net()
            before = net.weights()
            program = quant_aware(net.main, PLACE, config, return_program=True)
            net.step(program)
            return (before, net.weights(),
                    {n: net.value(f"{n}@scale") for n, v in before.items() if v.ndim == 4})

    before, plain, _ = after_one_step(dict(config, bin_regularization={"lambda": 0.0}))
    again, regularized, scales = after_one_step(dict(config, bin_regularization={"lambda": 0.25}))
    for name, value in before.items():
        np.testing.assert_array_equal(again[name], value)
        added = (plain[name] - regularized[name]) / RATE
        expected = (0.25 * bin_gradient(value, scales[name] / 3) if value.ndim == 4
                    else np.zeros_like(value))
        # The difference of two float32 weights, divided by the learning rate.
        np.testing.assert_allclose(added, expected, atol=2e-6)


def bin_gradient(weight, step):
    """By a loop over bins: 2 (v - s q) / V."""
    step = np.broadcast_to(step.reshape([-1, 1, 1, 1]), weight.shape)
    codes = np.clip(np.round(weight / step), -4, 3)
    gradient = np.zeros_like(weight)
    for code in range(-4, 4):
        inside = codes == code
        gradient[inside] = 2 * (weight - step * code)[inside] / max(1, inside.sum())
    return gradient


def test_symmetric_pact_starts_from_calibration_and_learns(make_net, registered):
    net = make_net()
    ranges = activation_ranges(net.executor, net.main, BATCHES, ["conv2d"],
                               SymmetricPACTSettings(init="abs_max"))
    assert len(ranges) == 2
    expected = 0.0
    for k, batch in enumerate(BATCHES):
        expected = (expected * 0.9 + np.abs(batch["x"]).max() * 0.1 if k
                    else np.abs(batch["x"]).max())
    assert ranges["x"] == pytest.approx(expected, rel=1e-6)
    config = dict(weight_bits=4, activation_preprocess_type="SymmetricPACT",
                  symmetric_pact={"decay": 0.0})
    program = quant_aware(net.main, PLACE, config, calib_config={"data_loader": BATCHES},
                          return_program=True)
    shifts = [op.input("Param")[0] for op in optimizer_ops(program)
              if op.input("Param")[0].endswith(PACT_SUFFIX)]
    assert len(shifts) == 2 and all(not net.value(name).any() for name in shifts)
    rates = {op.input("LearningRate")[0] for op in optimizer_ops(program)}
    assert len(rates) == 1, "alphas follow the network's learning rate"
    for seed in range(4):
        net.step(program, seed)
    assert any(net.value(name).any() for name in shifts)


def test_every_alpha_decays_by_its_own_value(make_net, registered):
    net = make_net()
    config = dict(activation_preprocess_type="SymmetricPACT", symmetric_pact={"decay": 0.01})
    program = quant_aware(net.main, PLACE, config,
                          calib_config={"data_loader": [{"x": images(8) * 50}]},
                          return_program=True)
    ranges = activation_ranges(net.executor, net.test, [{"x": images(8) * 50}], ["conv2d"],
                               SymmetricPACTSettings(init="abs_max"))
    net.step(program)  # nothing reaches alphas of 50 times the data: only decay moves them
    for name, alpha in ranges.items():
        shift = net.value(next(p.name for p in program.all_parameters()
                               if p.name == f"{name}_tmp_input{PACT_SUFFIX}"))
        assert shift[0] == pytest.approx(-RATE * 0.01 * alpha, rel=1e-3)


def test_train_convert_and_save(make_net, registered, tmp_path):
    net = make_net()
    config = dict(weight_bits=4, activation_preprocess_type="SymmetricPACT", bin_regularization={})
    train = quant_aware(net.main, PLACE, config, calib_config={"data_loader": BATCHES})
    test = quant_aware(net.test, PLACE, config, for_test=True)
    losses = [float(net.step(train)) for _ in range(12)]
    # in the first steps PaddleSlim's moving averages are far too small
    assert losses[-1] < min(losses[2:4]), losses
    x = images(4)
    want, = net.executor.run(test, feed={"x": x}, fetch_list=[net.output.name])
    converted = convert(test, PLACE, config)  # from here on the scope holds integer codes
    paddle.static.save_inference_model(str(tmp_path / "net"), [converted.global_block().var("x")],
                                       [converted.global_block().var(net.output.name)],
                                       net.executor, program=converted)
    got, = Predictor(str(tmp_path / "net"))(x)
    np.testing.assert_allclose(got, want, atol=1e-5)
    levels = np.unique(np.round(net.value("conv2d_0.w_0")))
    assert len(levels) <= 16 and np.abs(levels).max() <= 8


@pytest.mark.parametrize("config, error, message", [
    (dict(activation_preprocess_type="SymetricPACT"), ConfigError, "Did you mean 'SymmetricPACT'"),
    (dict(activation_preprocess_type="SymmetricPACT"), DataError, "calib_config"),
    (dict(bin_regularization={"lambd": 1}), ConfigError, "Did you mean 'lambda'"),
    (dict(bin_regularization={"schedule": "S2"}), ConfigError, "schedule must be S1"),
    (dict(bin_regularization={"efolds": 2.0}), ConfigError, "give lambda"),
])
def test_mistakes_are_errors(config, error, message, make_net, registered):
    with pytest.raises(error, match=message):
        quant_aware(make_net().main, PLACE, config)


@pytest.mark.host
def test_other_calls_are_bit_identical(make_net):
    def run():
        with paddle.static.scope_guard(paddle.static.Scope()):
            net = make_net()
            program = quant_aware(net.main, PLACE, {"weight_bits": 4, "weigth_bits": 2},
                                  return_program=True)
            losses = [net.step(program, seed) for seed in range(2)]
            return losses, net.weights(), sorted(op.type for op in program.global_block().ops)

    losses, weights, ops = run()
    paddle_mrecg.register()
    try:
        with_ours = run()
    finally:
        paddle_mrecg.unregister()
    np.testing.assert_array_equal(with_ours[0], losses)
    assert with_ours[2] == ops and all((with_ours[1][n] == v).all() for n, v in weights.items())


@pytest.mark.host
@pytest.mark.skipif(paddle.__version__ < "3", reason="Paddle 2's ops read bit_length")
def test_paddleslim_alone_does_not_set_the_levels_that_paddle_3_reads(make_net):
    """The reason for with_low_bits: this says when it is no longer needed."""
    net = make_net()
    program = quant_aware(net.test, PLACE, {"weight_bits": 4}, for_test=True)
    weights = [op for op in program.global_block().ops
               if op.type == "quantize_linear" and op.input("X")[0].endswith("w_0")]
    # its default is 127
    assert weights and all(op.attr("bit_length") == 4 and not op.has_attr("qmax") for op in weights)


@pytest.mark.skipif(paddle.__version__ < "3", reason="Paddle 2 has one form of programs")
def test_programs_in_paddle_3s_form_are_refused_with_the_cure(static_mode, registered):
    with pytest.raises(ConfigError, match="FLAGS_enable_pir_api=0"):
        quant_aware(paddle.static.Program(), PLACE, {"bin_regularization": {}})
