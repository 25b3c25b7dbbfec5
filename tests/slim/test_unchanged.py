# SPDX-License-Identifier: Apache-2.0
"""Calls that use none of our names give the same bytes with registration as without it.

The tests of QAT, PTQ, quant_post_static, quant_aware and of training through AutoCompression stand
in the files of those APIs; these are the other APIs, and what those leave out.
"""
import numpy as np
import pytest

import paddle
import paddle_mrecg
from paddle_mrecg.compat import old_ir
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.slim.post_static import with_mrecg
from paddleslim.auto_compression import AutoCompression
from paddleslim.dygraph.quant import QAT
from paddleslim.quant import convert, quant_aware  # noqa: F401  replaced by registration
from paddleslim.quant.quanters import PACTQuanter
from tests.slim_nets import SHAPE, StaticNet, TinyNet, images, program, train

pytestmark = pytest.mark.host
FILES = dict(model_filename="model.pdmodel", params_filename="model.pdiparams")
SPEC = [paddle.static.InputSpec([None, *SHAPE], "float32", "x")]


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Run a function of a prefix without and with registration; each from the same seeds, with
    names and a scope of its own.
    """
    monkeypatch.chdir(tmp_path)

    def run(function):
        outcomes = []
        for name in ("without", "with"):
            if name == "with":
                paddle_mrecg.register()
            try:
                paddle.seed(0)
                np.random.seed(0)
                with paddle.utils.unique_name.guard(), \
                        paddle.static.scope_guard(paddle.static.Scope()):
                    outcomes.append(function(tmp_path / name))
            finally:
                paddle_mrecg.unregister()
                paddle.disable_static()
        return outcomes

    return run


@pytest.mark.parametrize("level", [None, "layer-wise", "region-wise", "MRECG", 3])
def test_quant_recon_static_is_given_exactly_what_came(level):
    """PaddleSlim's own cannot serve as the reference: its dropout makes every run differ."""
    def original(executor, model_dir, recon_level="layer-wise", **rest):
        return executor, model_dir, recon_level, rest

    executor, loader = object(), object()
    given = dict(data_loader=loader, recon_levle="mrecg", drop_prob=0.5,
                 **({} if level is None else {"recon_level": level}))
    returned = with_mrecg(original, "recon_level")(executor, "float", **given)
    assert returned[0] is executor and returned[3]["data_loader"] is loader
    assert returned == original(executor, "float", **given)


def test_convert(both):
    def train_and_convert(folder):
        paddle.enable_static()
        with old_ir():
            net = StaticNet(paddle.static.Executor(paddle.CPUPlace()))
            config, place = {"weight_bits": 4, "onnx_format": True}, paddle.CPUPlace()
            net.step(quant_aware(net.main, place, config))
            converted = convert(quant_aware(net.test, place, config, for_test=True), place, config)
            paddle.static.save_inference_model(str(folder), [converted.global_block().var("x")],
                                               [converted.global_block().var(net.output.name)],
                                               net.executor, program=converted)
        return program(folder)

    without, with_ours = both(train_and_convert)
    assert with_ours == without


@pytest.mark.parametrize("config",
                         [{}, {"activation_preprocess_type": "PACT"},
                          {"weight_bits": 4, "onnx_format": True}],
                         ids=["default", "PACT", "4 bits, ONNX form"])
def test_programs_that_qat_saves(config, both):
    def quantize(prefix):
        qat = QAT(config=dict(config))
        model = qat.quantize(TinyNet())
        train(model)
        qat.save_quantized_model(model, str(prefix), SPEC)
        # PaddleSlim saves ops in any order
        return sorted(program(prefix)[0]), Predictor(str(prefix))(images(4))[0]

    without, with_ours = both(quantize)
    assert with_ours[0] == without[0]
    np.testing.assert_array_equal(with_ours[1], without[1])


def quanters():
    from paddle.quantization.quanters import FakeQuanterWithAbsMaxObserver
    observer = FakeQuanterWithAbsMaxObserver(moving_rate=0.9)
    return {"abs max": (observer, observer), "PACT": (PACTQuanter(quanter=observer), observer)}


@pytest.mark.parametrize("name", ["abs max", "PACT"])
def test_quanters_with_quant_config(name, both):
    def quantize(_):
        activation, weight = quanters()[name]
        model = paddle.quantization.QAT(
            paddle.quantization.QuantConfig(activation=activation, weight=weight)
        ).quantize(TinyNet())
        train(model)
        return {key: value.numpy() for key, value in model.state_dict().items()}

    without, with_ours = both(quantize)
    assert without.keys() == with_ours.keys() and len(without) > 8
    for key, value in without.items():
        np.testing.assert_array_equal(with_ours[key], value)


@pytest.mark.skipif(paddle.__version__ >= "3",
                    reason="PaddleSlim's AutoCompression does not run on Paddle 3")
def test_post_training_through_autocompression(both, float_dir):
    def compress(folder):
        paddle.enable_static()
        x = paddle.static.data("x", [-1, *SHAPE])
        loader = paddle.io.DataLoader([(x,) for x in images()], feed_list=[x], batch_size=8,
                                      return_list=False)
        AutoCompression(float_dir, loader, **FILES, save_dir=str(folder),
                        config={"QuantPost": {"algo": "abs_max", "batch_nums": 2}}).compress()
        return program(folder / "model")

    without, with_ours = both(compress)
    assert with_ours == without
