# SPDX-License-Identifier: Apache-2.0
"""Settings: what there is (fields), how YAML becomes it (io, schema), what may
not stand together (rules).
"""
from .post import (LOSS_POLICIES, MRECG, PRESETS, SECTIONS, Config, Data, Evaluation, Global,
                   Override, QuantPost)
