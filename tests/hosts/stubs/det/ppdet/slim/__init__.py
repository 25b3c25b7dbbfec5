# SPDX-License-Identifier: Apache-2.0
"""``build_slim_model``: takes the activations' preprocessing out unless it trains."""
import sys
import types

import paddle
import yaml

from tests.slim_nets import DictNet

from . import quant


def config_of(mode):
    """The config of the command line, with the model that its ``--slim_config`` makes."""
    def read(option):
        with open(sys.argv[sys.argv.index(option) + 1], encoding="utf-8") as file:
            return yaml.safe_load(file)

    paddle.seed(0)
    return build_slim_model(types.SimpleNamespace(**read("-c")), read("--slim_config"), DictNet(),
                            mode)


def build_slim_model(cfg, slim, model, mode="train"):
    cfg.slim_type = slim["slim"]
    cfg.slim = getattr(quant, cfg.slim_type)(**slim[cfg.slim_type])
    if mode == "test" and "QAT" in cfg.slim_type:
        cfg.slim.quant_config["activation_preprocess_type"] = None
    cfg.model = cfg.slim(model)
    return cfg
