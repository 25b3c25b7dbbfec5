# SPDX-License-Identifier: Apache-2.0
"""Fewer of large samples: what a job costs does not grow with their size."""
import doctest

import numpy as np
import pytest

from paddle_mrecg.data import amount
from paddle_mrecg.data.amount import FULL_SIZE, alike_note, enough_of, enough_samples


def test_the_example_holds():
    assert doctest.testmod(amount).failed == 0


@pytest.mark.parametrize("values, count", [(1, 64), (FULL_SIZE, 64), (2 * FULL_SIZE, 32),
                                           (4 * FULL_SIZE, 16), (100 * FULL_SIZE, 16), (0, 64)])
def test_the_cost_stays_and_a_least_number_too(values, count):
    assert enough_of(64, values, 16) == count


def test_all_inputs_count_and_no_more_than_there_are():
    samples = {"x": np.zeros((5, FULL_SIZE), np.float32), "y": np.zeros((5, FULL_SIZE), np.float32)}
    assert enough_samples(8, samples) == 4
    assert enough_samples(32, samples) == 5
    assert enough_samples(2, {"x": np.zeros((5, 3))}) == 2


def test_samples_that_are_all_the_same_are_named():
    x = np.ones((3, 2, 2), np.float32)
    assert "all 3 calibration samples are the same" in alike_note({"x": x, "y": x[:, :1]})[0]
    assert not alike_note({"x": x[:1]})
    y = x.copy()
    y[2, 1, 1] = 2.0
    assert not alike_note({"x": x, "y": y})
