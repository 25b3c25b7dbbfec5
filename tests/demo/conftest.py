# SPDX-License-Identifier: Apache-2.0
"""The demos are scripts, not an installed package: they are imported from the repository's root."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)
