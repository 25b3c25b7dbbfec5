# SPDX-License-Identifier: Apache-2.0
"""As PaddleClas's tools/export_model.py."""
import sys

import yaml

from ppcls.engine.engine import Engine

with open(sys.argv[sys.argv.index("-c") + 1], encoding="utf-8") as file:
    Engine(yaml.safe_load(file), mode="export").export()
