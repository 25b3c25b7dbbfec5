# SPDX-License-Identifier: Apache-2.0
"""Temporary folders of dead processes are removed, those of live ones and of others stay."""
import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from paddle_mrecg import scratch
from paddle_mrecg.errors import OutputError
from paddle_mrecg.scratch import SCRATCH_LOCK, SCRATCH_PREFIX, remove_leftovers, scratch_folder

OWNER = """
import sys, time
from paddle_mrecg.scratch import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    open(folder + "/weights", "w").close()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path, repository):
    """A process that holds a folder in ``tmp_path``."""
    pytest.importorskip("fcntl")
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], text=True,
                               stdout=subprocess.PIPE, cwd=repository)
    process.folder = process.stdout.readline().strip()
    yield process
    process.kill()
    process.communicate()


def test_a_folder_is_gone_after_its_block(tmp_path):
    with pytest.raises(KeyError), scratch_folder(str(tmp_path)) as folder:
        assert os.path.basename(folder).startswith(SCRATCH_PREFIX)
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_only_the_folders_of_dead_processes_are_removed(tmp_path, owner):
    others = ["notes", SCRATCH_PREFIX + "notes", SCRATCH_PREFIX + "file"]
    for name in others[:2]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    (tmp_path / others[2]).write_text("mine")
    (tmp_path / (SCRATCH_PREFIX + "link")).symlink_to(tmp_path / "notes")
    assert remove_leftovers(str(tmp_path)) == [] and os.path.exists(owner.folder + "/weights")
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert remove_leftovers(str(tmp_path)) == [os.path.basename(owner.folder)]
    assert sorted(os.listdir(tmp_path)) == sorted([*others, SCRATCH_PREFIX + "link"])
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "mine"


def test_a_lock_does_not_live_on_in_a_forked_process(tmp_path, owner, repository):
    owner.kill()
    forking = OWNER.replace("    time.sleep(600)", "    import os\n    if os.fork():\n"
                            "        os._exit(0)\n    print('forked', flush=True)\n"
                            "    time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", forking, str(tmp_path)], text=True,
                          stdout=subprocess.PIPE, cwd=repository, start_new_session=True) as first:
        folder = os.path.basename(first.stdout.readline().strip())
        try:
            first.wait()
            assert first.stdout.readline() == "forked\n"
            assert folder in remove_leftovers(str(tmp_path))
        finally:
            os.killpg(first.pid, signal.SIGKILL)


def ended_while_deleting(place, operation):
    """Whether a process that deletes its folder was killed before the n-th removal."""
    child = os.fork()
    if not child:
        def count(event, _, done=[0]):
            if event in ("os.remove", "os.rmdir"):
                if done[0] == operation:
                    os.kill(os.getpid(), signal.SIGKILL)
                done[0] += 1
        try:
            with scratch_folder(place) as folder:
                for name in "abcdefgh":
                    with open(os.path.join(folder, name), "w", encoding="utf-8"):
                        pass
                os.mkdir(os.path.join(folder, "folder"))
                sys.addaudithook(count)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="killed processes are forked")
def test_a_process_that_is_killed_as_it_deletes_its_folder_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "UNLOCKED_SECONDS", -1.0)
    killed = []
    for k in range(13):
        place = tmp_path / str(k)
        place.mkdir()
        killed.append(ended_while_deleting(str(place), k))
        assert len(os.listdir(place)) == killed[-1]
        remove_leftovers(str(place))
        assert os.listdir(place) == [], k
    assert killed == [True] * 11 + [False] * 2  # eight files, a folder, the lock, the folder of all


def test_a_folder_that_is_still_written_to_keeps_its_lock(tmp_path, owner, monkeypatch):
    """A helper may outlive the process that it works for."""
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", lambda path: None)
        remove_leftovers(str(tmp_path))
    assert sorted(os.listdir(owner.folder)) == [SCRATCH_LOCK, "weights"]
    remove_leftovers(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_the_first_folder_of_a_process_removes_leftovers(tmp_path, owner):
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    with scratch_folder(str(tmp_path)) as folder:
        assert os.listdir(tmp_path) == [os.path.basename(folder)]


def test_a_folder_without_a_lock_stays_while_its_process_may_be_making_it(tmp_path, owner):
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    dead, past = f"{SCRATCH_PREFIX}{owner.pid}-", time.time() - 2 * scratch.UNLOCKED_SECONDS
    names = [dead + "old", dead + "young", f"{SCRATCH_PREFIX}{os.getpid()}-old",
             SCRATCH_PREFIX + "0x7-old", SCRATCH_PREFIX + "9" * 30, dead + "full"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / (SCRATCH_LOCK + ".new")).touch()
        if name.endswith("full"):
            (tmp_path / name / "thesis.txt").touch()
        if not name.endswith("young"):
            os.utime(tmp_path / name, (past, past))
    assert remove_leftovers(str(tmp_path)) == sorted([dead + "old",
                                                      os.path.basename(owner.folder)])


def test_a_folder_of_another_user_stays(tmp_path, owner, monkeypatch):
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    assert remove_leftovers(str(tmp_path)) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"),
                                   OutputError("a file cannot be written")])
def test_a_full_temporary_directory_is_named(error, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(OutputError, match=f"'{tmp_path}'.*No space left.*TMPDIR"):
        with scratch_folder():
            raise error from OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_temporary_directory_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    with pytest.raises(OutputError, match="'.*gone' cannot be written.*TMPDIR"):
        with scratch_folder():
            pass


def test_other_errors_keep_their_cure(tmp_path):
    with pytest.raises(OutputError, match="Global.save_dir"), scratch_folder():
        raise OutputError("choose another Global.save_dir") from OSError(errno.EACCES, "denied")
