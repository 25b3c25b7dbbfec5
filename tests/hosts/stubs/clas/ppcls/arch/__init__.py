# SPDX-License-Identifier: Apache-2.0
"""``build_model`` quantizes where ``Slim.quant`` asks for it, and prints a
summary, which runs the model.
"""
import paddle

from tests.slim_nets import SHAPE, TinyNet


def quantize_model(config, model, mode="train"):
    model.quanter = None
    if config.get("Slim", {}).get("quant"):
        from paddleslim.dygraph.quant import QAT
        assert config["Slim"]["quant"]["name"] == "pact"
        model.quanter = QAT(config={"activation_preprocess_type": "PACT" if mode == "train"
                                    else None})
        model.quanter.quantize(model)
        model.eval()
        with paddle.no_grad():
            model(paddle.full([1, *SHAPE], 1000.0))
        model.train()


def build_model(config, mode="train"):
    paddle.seed(0)
    model = TinyNet()
    quantize_model(config, model, mode)
    return model
