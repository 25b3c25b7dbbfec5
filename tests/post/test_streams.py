# SPDX-License-Identifier: Apache-2.0
"""Streams hold what is still read."""
import numpy as np

from paddle_mrecg.post.streams import ActivationStore, PickedRows, Stream

from tests.tiny import tiny_job


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


def test_picked_rows_are_those_of_an_index_array(tmp_path):
    array = ActivationStore(0, str(tmp_path)).allocate((10, 3))
    array[:] = np.arange(30, dtype=np.float32).reshape(10, 3)
    rows = np.array([1, 4, 5, 9])
    picked = PickedRows(array, rows)
    assert len(picked) == 4 and picked.shape == (4, 3)
    assert np.array_equal(picked[1:3], array[:][rows][1:3]) and len(picked[2:9]) == 2


def test_what_judges_iterates_is_not_copied():
    job = tiny_job()
    problem = job.problem(job.units()[0])
    part = problem.part(np.arange(8))
    kept = [*part.quant_stream.values.values(), *part.targets.values()]
    assert kept and all(isinstance(v, PickedRows) and len(v) == 8 for v in kept)
