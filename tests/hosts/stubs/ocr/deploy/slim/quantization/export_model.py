# SPDX-License-Identifier: Apache-2.0
"""As PaddleOCR 2.10's deploy/slim/quantization/export_model.py: its call is that of 2.9, so the
quanter stands where a config is expected.
"""
import paddle
from paddleslim.dygraph.quant import QAT

import tools.program as program
from ppocr.utils.export_model import export_single_model
from tests.slim_nets import TinyNet

folder = program.load_config()["Global"]["save_model_dir"]
model, quanter = TinyNet(), QAT(config={"weight_bits": 8})
quanter.quantize(model)
model.set_state_dict(paddle.load(folder + "/latest.pdparams"))
model.eval()
export_single_model(model, {}, folder + "/inference", None, None, quanter)
