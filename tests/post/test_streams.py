# SPDX-License-Identifier: Apache-2.0
"""Streams hold what is still read."""
import numpy as np

from paddle_mrecg.post.streams import ActivationStore, Stream


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
    found = Stream(store, {"x": x}).computed(["x"], ["y"], double, chunk=4)["y"]
    assert np.array_equal(np.asarray(found), 2 * x)
    assert sizes == [4, 4, 2]
    store.close()
