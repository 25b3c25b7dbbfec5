# SPDX-License-Identifier: Apache-2.0
"""A full disk is a sentence about the place that is full, and leaves nothing behind."""
import errno
import os

import pytest

from paddle_mrecg.errors import OutputError, mark_users
from paddle_mrecg.report.result_dir import ResultDir


def test_full_disk_is_the_users_error_and_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="free space"), ResultDir(str(tmp_path / "out")) as result:
        open(result.path("model.pdmodel"), "w").close()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_the_place_that_is_full_is_named(tmp_path):
    other = str(tmp_path / "other" / "file")
    with pytest.raises(OutputError, match="'.*other' failed"), ResultDir(str(tmp_path / "out")):
        raise OSError(errno.ENOSPC, "No space left on device", other)
    with pytest.raises(OutputError, match="Global.save_dir"), ResultDir(str(tmp_path / "out")) as r:
        raise OSError(errno.ENOSPC, "No space left on device", r.path("visualdl", "x"))
    theirs = OSError(errno.ENOSPC, "No space left on device")
    mark_users(theirs)
    with pytest.raises(OSError) as caught, ResultDir(str(tmp_path / "out")):
        raise theirs
    assert caught.value is theirs and os.listdir(tmp_path) == []
