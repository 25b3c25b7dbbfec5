# SPDX-License-Identifier: Apache-2.0
"""Streams hold what is still read, within a memory limit."""
import gc

import numpy as np

from paddle_mrecg.post.streams import ActivationStore, Stream


def test_arrays_beyond_the_limit_go_to_disk_and_keep_their_values():
    store = ActivationStore(limit_mb=1)
    first, second = store.allocate((200, 1000)), store.allocate((200, 1000))
    assert not isinstance(first, np.memmap) and isinstance(second, np.memmap)
    second[:] = 3
    assert second.sum() == 600000 and store.in_memory <= store.limit
    store.close()


def test_released_memory_can_be_used_again():
    store = ActivationStore(limit_mb=1)
    array = store.allocate((200, 1000))
    del array
    gc.collect()
    assert store.in_memory == 0
    assert not isinstance(store.allocate((200, 1000)), np.memmap)
    store.close()


def test_advance_forgets_what_no_later_unit_reads():
    store = ActivationStore(limit_mb=16)
    stream = Stream(store, {"x": np.zeros((4, 2), np.float32)})
    stream.advance({"y": np.ones((4, 3), np.float32)}, still_needed=["y"])
    assert list(stream.values) == ["y"] and stream.num_samples == 4
    store.close()


def test_chunks_cover_every_sample_once():
    store = ActivationStore(limit_mb=16)
    x = np.arange(10, dtype=np.float32)[:, None]
    sizes = []

    def double(feed):
        sizes.append(len(feed["x"]))
        return {"y": 2 * feed["x"]}
    assert np.array_equal(Stream(store, {"x": x}).computed(["x"], ["y"], double, chunk=4)["y"],
                          2 * x)
    assert sizes == [4, 4, 2]
    store.close()
