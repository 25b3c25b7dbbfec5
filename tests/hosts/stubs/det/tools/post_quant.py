# SPDX-License-Identifier: Apache-2.0
"""As PaddleDetection's tools/post_quant.py."""
from ppdet.engine.trainer import Trainer
from ppdet.slim import config_of

Trainer(config_of("test")).post_quant()
