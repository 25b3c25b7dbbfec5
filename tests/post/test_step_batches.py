# SPDX-License-Identifier: Apache-2.0
"""The batches of training steps: the same rows from the host, from a thread and from the device."""
import threading

import numpy as np
import pytest

from paddle_mrecg.data.store import ActivationStore
from paddle_mrecg.post import step_batches
from paddle_mrecg.post.step_batches import StepBatches

COUNT = 300


def stored(limit_mb, shape, seed):
    values = np.random.default_rng(seed).standard_normal((COUNT, *shape)).astype(np.float32)
    array = ActivationStore(limit_mb).allocate(values.shape)
    array[:] = values
    return array


def drawn(steps=5, **kwargs):
    """What five steps read, and the rows that were drawn for them."""
    rng, rows = np.random.default_rng(7), []

    def draw():
        rows.append(rng.integers(COUNT, size=16))
        return rows[-1]

    limit = 0.0 if kwargs.get("waits") else 64
    arrays = {"x": stored(limit, (3, 5), 0), ("y", 1): stored(limit, (2,), 1)}
    batches = StepBatches(arrays, draw, **kwargs)
    result = [{k: v.numpy() for k, v in batches.next().items()} for _ in range(steps)]
    batches.close()
    return arrays, rows, result


def test_rows_are_those_that_were_drawn():
    arrays, rows, result = drawn()
    assert len(rows) == 5
    for index, batch in zip(rows, result):
        assert set(batch) == set(arrays)
        for key, array in arrays.items():
            assert np.array_equal(batch[key], np.asarray(array)[index])


@pytest.mark.parametrize("room, waits, held", [(None, True, False), (0, False, False),
                                               (1 << 30, False, True)],
                         ids=["files", "device that is full", "device"])
def test_wherever_they_lie_the_batches_are_the_same(room, waits, held, monkeypatch):
    expected = drawn()[2]
    monkeypatch.setattr(step_batches, "device_room", lambda: room)
    uploads = []
    monkeypatch.setattr(step_batches, "_uploaded",
                        lambda a, plain=step_batches._uploaded: uploads.append(a) or plain(a))
    threads = threading.active_count()
    for batch, wanted in zip(drawn(waits=waits)[2], expected):
        assert all(np.array_equal(batch[key], wanted[key]) for key in wanted)
    assert len(uploads) == (2 if held else 0) and threading.active_count() == threads


def test_batches_are_gathered_a_step_ahead(monkeypatch):
    monkeypatch.setattr(step_batches, "device_room", lambda: 0)
    assert len(drawn(3)[1]) == 4, "three read, one in preparation"


def test_an_error_in_the_thread_reaches_the_step(monkeypatch):
    monkeypatch.setattr(step_batches, "device_room", lambda: 0)
    batches = StepBatches({"x": np.zeros((4, 1), np.float32)}, lambda: np.array([9]))
    with pytest.raises(IndexError):
        batches.next()
    batches.close()
