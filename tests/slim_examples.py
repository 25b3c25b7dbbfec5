# SPDX-License-Identifier: Apache-2.0
"""One short example per PaddleSlim API and strategy: executed by the tests,
counted by ``slim_matrix``.

Each takes ``c`` with ``model_dir`` (an exported model), ``net`` (a Layer), ``static`` (a static
network with ``main``, ``test`` and a training ``step``), ``batches`` (of ``{"x": array}``),
``spec`` and ``out`` (where to write).
"""
import paddle
import paddle_mrecg
# classes are changed in place: they may be imported before register()
from paddleslim.dygraph.quant import PTQ, QAT
from tests.slim_nets import FAST, train

EXAMPLES = {}


def example(api, strategy):
    """Enter a function under (API, strategy)."""
    def enter(function):
        EXAMPLES[api, strategy] = function
        return function
    return enter


@example("quant.quant_post_static", "MRECG")
def post_static(c):
    paddle_mrecg.register()
    from paddleslim.quant import quant_post_static
    quant_post_static(None, c.model_dir, c.out, data_loader=c.batches, round_type="mrecg",
                      weight_bits=4, **FAST)


@example("quant.quant_recon_static", "MRECG")
def recon_static(c):
    paddle_mrecg.register()
    from paddleslim.quant import quant_recon_static
    quant_recon_static(None, c.model_dir, c.out, batch_generator=lambda: iter(c.batches),
                       recon_level="mrecg", **FAST)


@example("dygraph.quant.PTQ", "MRECG")
def ptq(c):
    paddle_mrecg.register()
    ptq = PTQ(round_type="mrecg", weight_bits=4, **FAST)
    model = ptq.quantize(c.net)
    [model(paddle.to_tensor(batch["x"])) for batch in c.batches]
    ptq.save_quantized_model(model, c.out + "/model", c.spec)


def qat(c, config):
    paddle_mrecg.register()
    qat = QAT(config=config)
    model = qat.quantize(c.net)
    train(model)
    qat.save_quantized_model(model, c.out + "/model", c.spec)


@example("dygraph.quant.QAT", "LSQ")
def qat_lsq(c):
    qat(c, {"weight_quantize_type": "channel_wise_lsq", "weight_bits": 4})


@example("dygraph.quant.QAT", "TQT")
def qat_tqt(c):
    qat(c, {"weight_quantize_type": "tqt", "activation_quantize_type": "tqt", "weight_bits": 4})


@example("dygraph.quant.QAT", "symmetric PACT")
def qat_pact(c):
    qat(c, {"activation_preprocess_type": "SymmetricPACT"})


@example("dygraph.quant.QAT", "bin regularization")
def qat_bins(c):
    qat(c, {"weight_quantize_type": "lsq", "weight_bits": 3, "bin_regularization": {"lambda": 0.5}})


def factory(c, activation, weight):
    config = paddle.quantization.QuantConfig(activation=activation, weight=weight)
    model = paddle.quantization.QAT(config).quantize(c.net)
    train(model)
    model.eval()
    paddle.quantization.QAT(config).convert(model)


@example("quant.quanters + QuantConfig", "LSQ")
def factory_lsq(c):
    paddle_mrecg.register()
    from paddleslim.quant.quanters import LSQ
    factory(c, activation=LSQ(), weight=LSQ(role="weight", bits=4, per_channel=True))


@example("quant.quanters + QuantConfig", "TQT")
def factory_tqt(c):
    paddle_mrecg.register()
    from paddleslim.quant.quanters import TQT
    factory(c, activation=TQT(), weight=TQT(role="weight", bits=4))


@example("quant.quanters + QuantConfig", "symmetric PACT")
def factory_pact(c):
    paddle_mrecg.register()
    from paddleslim.quant.quanters import LSQ, SymmetricPACT
    factory(c, activation=SymmetricPACT(), weight=LSQ(role="weight", bits=4))


def static(c, config, **arguments):
    paddle_mrecg.register()
    from paddleslim.quant import convert, quant_aware
    c.static.step(quant_aware(c.static.main, paddle.CPUPlace(), config, **arguments))
    convert(quant_aware(c.static.test, paddle.CPUPlace(), config, for_test=True), paddle.CPUPlace(),
            config)


@example("quant.quant_aware + convert", "symmetric PACT")
def static_pact(c):
    static(c, {"activation_preprocess_type": "SymmetricPACT"},
           calib_config={"data_loader": c.batches})


@example("quant.quant_aware + convert", "bin regularization")
def static_bins(c):
    static(c, {"weight_bits": 4, "bin_regularization": {"lambda": 0.5}})


def act(c, config):
    paddle_mrecg.register()
    from paddleslim.auto_compression import AutoCompression
    AutoCompression(c.model_dir, lambda: iter(c.batches), "model.pdmodel", "model.pdiparams", c.out,
                    config).compress()


@example("AutoCompression", "MRECG")
def act_mrecg(c):
    act(c, {"Global": {"visualdl": False}, "QuantPost": {"weight_bits": 4},
            "MRECG": {"preset": "fast", "num_iters": 10, "batch_size": 8}})


@example("AutoCompression", "bin regularization, symmetric PACT, distillation")
def act_training(c):
    act(c, {"QuantAware": {"weight_bits": 4}, "Distillation": {}, "BinRegularization": {},
            "SymmetricPACT": {},
            "TrainConfig": {"epochs": 1, "eval_iter": 9, "learning_rate": 0.01,
                            "optimizer_builder": {"optimizer": {"type": "SGD"}}}})


@example("quant_post_mrecg(PaddleSlim's dict)", "MRECG")
def dict_post(c):
    config = {"weight_bits": 4, "quantize_op_types": ["conv2d"], "Global": {"visualdl": False},
              "MRECG": {"preset": "none"}}
    paddle_mrecg.quant_post_mrecg(c.model_dir, c.batches, config, c.out)


@example("quant_aware_prepare(PaddleSlim's dict)", "all three of training")
def dict_aware(c):
    config = {"weight_quantize_type": "lsq", "activation_preprocess_type": "SymmetricPACT",
              "bin_regularization": {"schedule": "S1"}}
    model, penalty = paddle_mrecg.quant_aware_prepare(c.net, config)
    train(model, penalty)
