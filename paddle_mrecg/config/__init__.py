# SPDX-License-Identifier: Apache-2.0
"""Settings: what there is (fields), how YAML becomes it (io, schema), what may
not stand together (rules).
"""
from .fields import (LOSS_POLICIES, MRECG, PRESETS, SECTIONS, Config, Data, Evaluation, Global,
                     Override,  # noqa: F401
                     QuantPost)
