# SPDX-License-Identifier: Apache-2.0
"""The network of these tests, for those in other processes too."""
import pytest

from tests import training_nets
from tests.plain_quanter import PlainLinear, PlainQuanter


@pytest.fixture
def small():
    """The helpers of ``tests/training_nets.py``."""
    return training_nets


@pytest.fixture
def make_quanter():
    """(step, bits, axis, gradient_scale) -> quanter."""
    return PlainQuanter


@pytest.fixture
def make_layer():
    """(weight, quanter) -> layer."""
    return PlainLinear
