# SPDX-License-Identifier: Apache-2.0
"""As PaddleDetection's tools/export_model.py."""
import sys
import types

import paddle
import yaml

from ppdet.engine.trainer import Trainer
from ppdet.slim import build_slim_model
from tests.slim_nets import DictNet


def read(option):
    with open(sys.argv[sys.argv.index(option) + 1], encoding="utf-8") as file:
        return yaml.safe_load(file)


paddle.seed(0)
cfg = build_slim_model(types.SimpleNamespace(**read("-c")), read("--slim_config"), DictNet(), mode="test")
if "export_model" == "export_model":
    cfg.model.set_state_dict(paddle.load(cfg.output_dir + "/model_final.pdparams"))
Trainer(cfg).export()
