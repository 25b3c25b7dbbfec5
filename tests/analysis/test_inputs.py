# SPDX-License-Identifier: Apache-2.0
"""Statistics of what layers read, taken in chunk by chunk."""
import numpy as np
import pytest

from paddle_mrecg.analysis.inputs import input_statistics


@pytest.mark.parametrize("chunks", [(10,), (4, 4, 2), (1, 9)])
@pytest.mark.parametrize("shape, channels", [((3, 5, 5), 0), ((7, 3), 1)])
def test_chunks_of_unequal_size_add_up(shape, channels, chunks):
    values = np.random.default_rng(0).standard_normal((10, *shape)) * np.arange(1, 11).reshape(
        -1, *[1] * len(shape))
    others = tuple(k for k in range(values.ndim) if k != channels + 1)
    known = {}
    for chunk in np.split(values, np.cumsum(chunks)[:-1]):
        input_statistics({"x": chunk}, known)
    np.testing.assert_allclose(known["x"].power, np.square(values).mean(others))
    np.testing.assert_allclose(known["x"].largest, np.abs(values).max(others))
