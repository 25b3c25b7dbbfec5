# SPDX-License-Identifier: Apache-2.0
"""The network of these tests, for those in other processes too."""
import pytest

from tests import training_nets


@pytest.fixture
def small():
    """The helpers of ``tests/training_nets.py``."""
    return training_nets
