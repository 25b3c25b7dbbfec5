# SPDX-License-Identifier: Apache-2.0
"""As PaddleOCR's deploy/slim/quantization/quant.py: the class is imported by name, a clip of its
own is passed with the config.
"""
import paddle
from paddleslim.dygraph.quant import QAT

import tools.program as program
from tests.slim_nets import TinyNet


class PACT(paddle.nn.Layer):
    """PaddleOCR's own clip."""


config = program.load_config()
paddle.seed(0)
model = TinyNet()
QAT(config={"weight_bits": 8}, act_preprocess=PACT).quantize(model)
optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())
program.train(config, program.build_dataloader(config, "Train"),
              program.build_dataloader(config, "Eval"), model, optimizer,
              {"start_epoch": config["Global"].get("start_epoch", 1)})
