# SPDX-License-Identifier: Apache-2.0
"""``build_slim_model``: takes the activations' preprocessing out unless it trains."""
from . import quant


def build_slim_model(cfg, slim, model, mode="train"):
    cfg.slim_type = slim["slim"]
    cfg.slim = getattr(quant, cfg.slim_type)(**slim[cfg.slim_type])
    if mode == "test" and "QAT" in cfg.slim_type:
        cfg.slim.quant_config["activation_preprocess_type"] = None
    cfg.model = cfg.slim(model)
    return cfg
