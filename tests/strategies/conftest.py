# SPDX-License-Identifier: Apache-2.0
"""The plain quanter and layer of ``tests/plain_quanter.py`` as fixtures."""
import pytest

from tests.plain_quanter import PlainLinear, PlainQuanter


@pytest.fixture
def make_quanter():
    """(step, bits, axis, gradient_scale) -> quanter."""
    return PlainQuanter


@pytest.fixture
def make_layer():
    """(weight, quanter) -> layer."""
    return PlainLinear
