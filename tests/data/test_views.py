# SPDX-License-Identifier: Apache-2.0
"""Moved and mirrored copies of calibration samples."""
import numpy as np
import pytest

from paddle_mrecg.data.store import ActivationStore
from paddle_mrecg.data.views import REACH, add_views
from paddle_mrecg.errors import DataError, OutputError

SIDE = 16


def ramp(count=3):
    """Images whose pixels tell where they were: channel 0 the row, channel 1 the
    column, channel 2 the sample.
    """
    image = np.zeros((count, 3, SIDE, SIDE), np.float32)
    image[:, 0] = np.arange(SIDE)[:, None]
    image[:, 1] = np.arange(SIDE)
    image[:, 2] = np.arange(count)[:, None, None]
    return image


def test_the_given_samples_come_first_and_unchanged():
    x = ramp()
    views = np.asarray(add_views({"x": x}, 4, True, seed=0)["x"])
    assert views.shape == (12, 3, SIDE, SIDE) and np.array_equal(views[:3], x)
    # each copy is of its own sample
    assert np.array_equal(views[:, 2, 0, 0], np.tile(np.arange(3), 4))


def test_one_view_changes_nothing():
    samples = {"x": ramp()}
    assert add_views(samples, 1, False, 0) is samples


@pytest.mark.parametrize("mirror", (False, True))
def test_copies_are_moved_by_up_to_an_eighth(mirror):
    views = np.asarray(add_views({"x": ramp(40)}, 2, mirror, seed=1)["x"])[40:]
    reach = SIDE // REACH
    rows = views[:, 0, SIDE // 2, 0] - SIDE // 2
    columns = views[:, 1, 0, SIDE // 2] - (SIDE // 2 if not mirror else 0)
    assert set(rows) == set(range(-reach, reach + 1))
    if not mirror:
        assert set(columns) == set(range(-reach, reach + 1))
    steps = views[:, 1, 0, 8] - views[:, 1, 0, 7]
    assert set(steps) == ({1.0, -1.0} if mirror else {1.0})


def test_the_border_is_reflected():
    x = ramp(40)
    views = np.asarray(add_views({"x": x}, 2, False, seed=1)["x"])[40:]
    # content moved down by two rows
    down = next(v for v in views if v[0, SIDE // 2, 0] == SIDE // 2 - 2)
    assert down[0, :4, 0].tolist() == [2, 1, 0, 1]
    up = next(v for v in views if v[0, SIDE // 2, 0] == SIDE // 2 + 2)
    assert up[0, -4:, 0].tolist() == [SIDE - 2, SIDE - 1, SIDE - 2, SIDE - 3]


def test_all_inputs_of_a_sample_move_together_and_others_are_repeated():
    views = add_views({"a": ramp(), "b": ramp(), "scale": np.arange(6.0).reshape(3, 2)}, 3, True,
                      seed=2)
    assert (np.array_equal(views["a"], views["b"])
            and np.array_equal(views["scale"][3:6], views["scale"][:3]))


def test_the_seed_decides():
    first, again, other = (add_views({"x": ramp()}, 3, True, seed)["x"] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_without_images_it_says_so():
    with pytest.raises(DataError, match="Data.views"):
        add_views({"ids": np.zeros((3, 5), np.int64)}, 2, False, 0)


def test_more_views_than_there_is_room_for_are_refused_before_one_is_made(tmp_path):
    store = ActivationStore(1.0, str(tmp_path))
    with pytest.raises(OutputError, match="Data.views = 1000000000 makes .*lower Data.views"):
        add_views({"x": ramp()}, 10**9, False, seed=0, store=store)
    assert store.in_memory == store.in_files == 0
