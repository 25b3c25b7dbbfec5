# SPDX-License-Identifier: Apache-2.0
"""As PaddleOCR's deploy/slim/quantization/quant_kl.py: static mode, and samples
that bring a batch dimension.
"""
import paddle
import paddleslim

import tools.program as program
from tests.slim_nets import images

settings = program.load_config()["Global"]
paddle.enable_static()
executor = paddle.static.Executor(paddle.CPUPlace())
paddleslim.quant.quant_post_static(
    executor=executor, model_dir=settings["inference_model"], model_filename="model.pdmodel",
    params_filename="model.pdiparams",
    quantize_model_path=settings["save_model_dir"],
    sample_generator=lambda: (x[None] for x in images(32)), batch_size=1,
    batch_nums=1)
