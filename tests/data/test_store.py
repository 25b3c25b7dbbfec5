# SPDX-License-Identifier: Apache-2.0
"""Arrays of samples stay within a limit, keep their values wherever they lie, and leave nothing."""
import errno
import gc
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from paddle_mrecg.data import store as module
from paddle_mrecg.data.store import ActivationStore
from paddle_mrecg.errors import OutputError


def written(store, values, chunk=50, **kwargs):
    array = store.allocate(values.shape, values.dtype, **kwargs)
    for start in range(0, len(values), chunk):
        array[start:start + chunk] = values[start:start + chunk]
    return array


@pytest.fixture(params=[np.inf, 0, 0.4], ids=["memory", "files", "both"])
def store(request, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1 << 17)
    store = ActivationStore(request.param, str(tmp_path))
    yield store
    store.close()


@pytest.mark.parametrize("row", [(), (7,), (3, 20, 11)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_every_kind_of_read_gives_what_was_written(store, row, dtype):
    values = np.random.default_rng(0).integers(0, 1000, (301, *row)).astype(dtype)
    array = written(store, values)
    index = np.random.default_rng(1).integers(0, 301, 64)
    assert array.shape == values.shape and array.dtype == dtype and array.size == values.size
    assert np.array_equal(np.asarray(array), values)
    for part in (slice(None, 3), slice(60, 200), slice(5, 290, 7), slice(4, 4), slice(299, 400),
                 index, index[:0], index < 300, np.array([-1, 0])):
        found = array[part]
        assert found.dtype == dtype and np.array_equal(
            found, values[part] if not isinstance(part, np.ndarray) or part.dtype != bool
            else values[np.flatnonzero(part)])


def test_arrays_beyond_the_limit_go_to_a_file_without_a_name(tmp_path):
    store = ActivationStore(1, str(tmp_path))
    first, second = (written(store, np.full((200, 1000), k, np.float32)) for k in (1, 3))
    assert 0 < store.in_memory <= store.limit and store.spilled == 800000
    assert np.asarray(second).sum() == 600000 and np.asarray(first).sum() == 200000
    assert os.listdir(tmp_path) == []
    del second
    gc.collect()
    assert store.in_files == 0
    store.close()
    assert store.in_memory == 0


def test_released_memory_can_be_used_again():
    store = ActivationStore(1)
    array = written(store, np.zeros((200, 1000), np.float32))
    assert store.in_memory == 800000
    del array
    gc.collect()
    assert store.in_memory == 0
    written(store, np.zeros((200, 1000), np.float32))
    assert store.spilled == 0


def test_cut_arrays_end_earlier(store):
    array = written(store, np.arange(100, dtype=np.float32)[:, None])
    array.cut(30)
    assert array.shape == (30, 1) and np.asarray(array).ravel().tolist() == list(range(30))


def test_half_takes_half_the_room_and_keeps_three_digits(tmp_path):
    values = np.random.default_rng(0).standard_normal((100, 1000)).astype(np.float32)
    store = ActivationStore(1, str(tmp_path), half=True)
    array, exact = written(store, values), written(store, values, exact=True)
    assert array.dtype == np.float32 and store.in_memory == 200000 + 400000
    assert np.array_equal(np.asarray(exact), values)
    assert 0 < np.abs(np.asarray(array) - values).max() < 2e-3


@pytest.mark.parametrize("limit", [0, 16])
def test_values_that_float16_cannot_hold_are_kept_as_they_are(limit):
    store = ActivationStore(limit, half=True)
    values = np.ones((200, 10), np.float32)
    values[150], values[151, 0] = 1e6, np.inf
    array = written(store, values)
    assert np.array_equal(np.asarray(array), values)
    assert store.in_memory + store.in_files == 8000


def test_a_full_disk_is_a_sentence_when_room_is_reserved(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "posix_fallocate", full)
    store = ActivationStore(0, str(tmp_path))
    with pytest.raises(OutputError, match=f"'{tmp_path}'.*No space left.*TMPDIR"):
        written(store, np.zeros((200, 1000), np.float32))
    assert os.listdir(tmp_path) == []


def test_a_file_system_that_cannot_reserve_fails_when_written_to(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "posix_fallocate", unable)
    store = ActivationStore(0, str(tmp_path))
    values = np.arange(2000, dtype=np.float32).reshape(20, 100)
    assert np.array_equal(np.asarray(written(store, values)), values)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match="No space left.*TMPDIR"):
        written(store, values)


def test_a_folder_that_is_missing_is_named(tmp_path):
    store = ActivationStore(0, str(tmp_path / "missing"))
    with pytest.raises(OutputError, match="missing.*TMPDIR"):
        written(store, np.zeros((2, 2), np.float32))


TMPFS = """
import os, subprocess, sys
import numpy as np
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", sys.argv[1]], check=True)
from paddle_mrecg.data.store import ActivationStore
from paddle_mrecg.errors import OutputError
store = ActivationStore(0, sys.argv[1])
array = store.allocate((2000, 1000))
try:
    array[0:2000] = np.zeros((2000, 1000), np.float32)
except OutputError as error:
    assert not os.listdir(sys.argv[1])
    print("said:", error)
"""


def test_a_disk_that_is_really_full_is_a_sentence_too(tmp_path):
    if not shutil.which("unshare"):
        pytest.skip("no file system can be mounted here")
    run = subprocess.run(["unshare", "-rm", sys.executable, "-c", TMPFS, str(tmp_path)],
                         capture_output=True, text=True)
    if "mount" in run.stderr or "unshare" in run.stderr:
        pytest.skip("no file system can be mounted here")
    assert "said:" in run.stdout and "No space left" in run.stdout, run.stderr
