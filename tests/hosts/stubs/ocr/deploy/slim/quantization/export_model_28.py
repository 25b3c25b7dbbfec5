# SPDX-License-Identifier: Apache-2.0
"""As PaddleOCR 2.8's deploy/slim/quantization/export_model.py: no clip next to the
config, and no ``input_spec``.
"""
import paddle
from paddleslim.dygraph.quant import QAT

import tools.program as program
from tests.slim_nets import SHAPE, TinyNet

folder = program.load_config()["Global"]["save_model_dir"]
model, quanter = TinyNet(), QAT(config={"weight_bits": 8})
quanter.quantize(model)
model.set_state_dict(paddle.load(folder + "/latest.pdparams"))
model.eval()
model = paddle.jit.to_static(model, input_spec=[paddle.static.InputSpec([None, *SHAPE], "float32")])
quanter.save_quantized_model(model, folder + "/inference")
