# SPDX-License-Identifier: Apache-2.0
"""Tests that need the real Paddle Lite."""
import pytest

from paddle_mrecg.deploy.lite.env import find_lite
from paddle_mrecg.errors import MrecgError


def lite_tools():
    """Its tools; skips the test, saying why, where they are not installed."""
    try:
        return find_lite()
    except MrecgError as error:
        pytest.skip(f"Paddle Lite's converter is not installed: {error}")
