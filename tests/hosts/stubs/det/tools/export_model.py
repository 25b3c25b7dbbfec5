# SPDX-License-Identifier: Apache-2.0
"""As PaddleDetection's tools/export_model.py."""
import paddle

from ppdet.engine.trainer import Trainer
from ppdet.slim import config_of

cfg = config_of("test")
cfg.model.set_state_dict(paddle.load(cfg.output_dir + "/model_final.pdparams"))
Trainer(cfg).export()
