# SPDX-License-Identifier: Apache-2.0
"""paddleslim.dygraph.quant.PTQ: calibrate by calling, reconstruct when saving."""
import os

import numpy as np
import pytest

import paddle
import paddle_mrecg
from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.deploy.predictor import Predictor
from paddleslim.dygraph.quant import PTQ
from tests.slim_nets import DICT_SPEC, FAST, SHAPE, DictNet, TinyNet, images, program

SPEC = [paddle.static.InputSpec([None, *SHAPE], "float32", "x")]


def calibrated(ptq, net, batches=2, inplace=False):
    net.eval()
    model = ptq.quantize(net, inplace=inplace)
    for batch in np.split(images(), batches):
        model(paddle.to_tensor(batch))
    return model


def test_reconstructs_what_it_was_called_with(tiny_net, tmp_path, registered):
    ptq = PTQ(round_type="mrecg", weight_bits=4, **FAST)
    result = ptq.save_quantized_model(calibrated(ptq, tiny_net), str(tmp_path / "net"), SPEC)
    assert sorted(os.listdir(tmp_path)) == ["net.mrecg", "net.pdiparams", "net.pdmodel"]
    assert result.report.samples["calibration"] == 16
    x = images(4, seed=1)
    want, got = tiny_net(paddle.to_tensor(x)).numpy(), Predictor(str(tmp_path / "net"))(x)[0]
    # 4-bit weights in one of three layers
    assert np.abs(got - want).max() < 0.2 * np.abs(want).max()


def test_specs_come_from_the_calls(tiny_net, tmp_path, registered):
    ptq = PTQ(round_type="mrecg", preset="none", visualdl=False)
    ptq.save_quantized_model(calibrated(ptq, tiny_net), str(tmp_path / "net"))
    assert Predictor(str(tmp_path / "net"))(images(3))[0].shape == (3, 4)


def test_the_users_model_is_not_touched_unless_asked(tiny_net, registered):
    ptq = PTQ(round_type="mrecg")
    assert ptq.quantize(tiny_net) is not tiny_net and not tiny_net._forward_pre_hooks
    assert ptq.quantize(tiny_net, inplace=True) is tiny_net


def test_positional_quantizers_and_their_options(registered):
    ptq = PTQ("HistQuantizer", "AbsmaxQuantizer", round_type="mrecg", hist_percent=0.99,
              quant_bits=8)
    assert vars(ptq)["_paddle_mrecg"].sections["QuantPost"] == dict(
        weight_bits=8, activation_observer="percentile", percentile=0.99, activation_bits=8,
        weight_per_channel=False)


@pytest.mark.parametrize("given, message", [
    (dict(top_kk=3), "Did you mean 'top_k'"),
    (dict(activation_quantizer="PerChannelAbsmaxQuantizer"),
     "activation_quantizer: must be one of KLQuantizer"),
    (dict(num_iters=-1), "MRECG.num_iters: must be at least 0"),
])
def test_wrong_settings_are_refused_at_once(given, message, registered):
    with pytest.raises(ConfigError, match=message):
        PTQ(round_type="mrecg", **given)


def test_saving_without_calibration(tiny_net, tmp_path, registered):
    ptq = PTQ(round_type="mrecg")
    with pytest.raises(DataError, match="run calibration batches"):
        ptq.save_quantized_model(ptq.quantize(tiny_net), str(tmp_path / "net"), SPEC)


@pytest.mark.host
@pytest.mark.skipif(paddle.__version__ >= "3",
                    reason="PaddleSlim's own PTQ crashes the process when it saves on Paddle 3")
def test_other_calls_are_bit_identical(tmp_path):
    def run(prefix):
        with paddle.utils.unique_name.guard():
            paddle.seed(0)
            ptq = PTQ("AbsmaxQuantizer")
            model = calibrated(ptq, TinyNet(), inplace=True)
            ptq.save_quantized_model(model, str(prefix), SPEC)
        return program(prefix)

    without = run(tmp_path / "without")
    paddle_mrecg.register()
    try:
        assert run(tmp_path / "with") == without
    finally:
        paddle_mrecg.unregister()


def test_inputs_in_a_dict(tmp_path, registered):
    """As PaddleDetection calls its models; what is not an input of the program is left out."""
    paddle.seed(0)
    ptq = PTQ(round_type="mrecg", **FAST)
    model = DictNet()
    model.eval()
    quantized = ptq.quantize(model)
    for seed in (0, 1):
        quantized({"image": paddle.to_tensor(images(8, seed)),
                   "scale_factor": paddle.to_tensor(images(8)[:, 0, 0, :2]),
                   "im_id": paddle.to_tensor([1] * 8), "name": "x"})
    result = ptq.save_quantized_model(quantized, str(tmp_path / "net"), DICT_SPEC)
    batch = {"image": images(4), "scale_factor": images(4)[:, 0, 0, :2]}
    float_output = model({k: paddle.to_tensor(v) for k, v in batch.items()}).numpy()
    output = Predictor(str(tmp_path / "net"))(batch)[0]
    assert np.abs(output - float_output).max() < 0.1 * np.abs(float_output).max()
    assert result.report is not None
