# SPDX-License-Identifier: Apache-2.0
"""A result appears as a whole or not at all, and never costs the user a file."""
import errno
import os
import sys

import pytest

from paddle_mrecg.errors import OutputError
from paddle_mrecg.report.result_dir import MARKER, RESULT_NAMES, STAGING, ResultDir


def fill(result, text="new"):
    for name in ("model.pdmodel", "report.json", "visualdl/records.log"):
        with open(result.path(*name.split("/")), "w") as file:
            file.write(text)


def tree(folder):
    return sorted(os.path.relpath(os.path.join(d, f), folder) for d, _, files in os.walk(folder)
                  for f in files)


WHOLE = ["model.pdmodel", "report.json", os.path.join("visualdl", "records.log")]


def test_published_result_is_whole_and_leaves_nothing_next_to_it(tmp_path):
    target = tmp_path / "out"
    with ResultDir(str(target)) as result:
        fill(result)
        assert not target.exists()
        result.publish()
    assert tree(target) == WHOLE and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_in_the_middle_leaves_nothing(tmp_path, existing, error):
    target = tmp_path / "out"
    if existing:
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(error), ResultDir(str(target)) as result:
        fill(result)
        raise error
    assert tree(tmp_path) == before and target.exists() == existing


def test_older_result_is_replaced_and_foreign_files_stay(tmp_path):
    target = tmp_path / "out"
    with ResultDir(str(target)) as result:
        fill(result, "old")
        open(result.path("oscillation.png"), "w").close()
        result.publish()
    (target / "notes.txt").write_text("mine")
    with ResultDir(str(target)) as result:
        fill(result)
        result.publish()
    # the old picture is gone: it is not of this run
    assert tree(target) == sorted(WHOLE + ["notes.txt"])
    assert ((target / "report.json").read_text() == "new"
            and (target / "notes.txt").read_text() == "mine")


def test_report_arrives_last(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    moved = []
    rename = os.rename
    monkeypatch.setattr(os, "rename",
                        lambda a, b: (moved.append(os.path.basename(b)), rename(a, b)))
    with ResultDir(str(target)) as result:
        fill(result)
        result.publish()
    assert moved[-1] == "report.json" and len(moved) == 3


def test_checkpoints_survive_an_interruption_until_a_result_is_published(tmp_path):
    target = str(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), ResultDir(target) as result:
        os.makedirs(result.checkpoints)
        open(os.path.join(result.checkpoints, "unit_0.npz"), "w").close()
        fill(result)
        raise KeyboardInterrupt
    with ResultDir(target, resume=True) as result:
        assert os.listdir(result.checkpoints) == ["unit_0.npz"]
        assert not os.path.exists(result.path("report.json"))
        fill(result)
        result.publish(keep_checkpoints=True)  # what Ctrl-C does: usable, and still resumable
    assert tree(target) == WHOLE
    with ResultDir(target, resume=True) as result:
        assert os.listdir(result.checkpoints) == ["unit_0.npz"]
        fill(result)
        result.publish()
    assert os.listdir(tmp_path) == ["out"] and tree(target) == WHOLE


def test_finished_units_are_deleted_only_when_asked_for(tmp_path):
    target = str(tmp_path / "out")
    with ResultDir(target) as result:
        os.makedirs(result.checkpoints)
        open(os.path.join(result.checkpoints, "unit_0.npz"), "w").close()
    with pytest.raises(OutputError, match="1 finished units.*Global.resume.*Global.overwrite"):
        ResultDir(target)
    with ResultDir(target, resume=True) as result:
        assert os.listdir(result.checkpoints) == ["unit_0.npz"]
    with ResultDir(target, overwrite=True) as result:
        assert not os.path.exists(result.checkpoints)


def test_what_was_exported_from_the_old_result_goes_with_it(tmp_path):
    list(run_once(str(target := tmp_path / "out"), "old"))
    for name in ("lite/model.arm.nb", "lite/ops.json", "onnx/model.onnx", "lite/mine.txt"):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("old")
    list(run_once(str(target), "new"))
    assert [str(p.relative_to(target)) for p in sorted(target.rglob("*"))
            if p.parent.name in ("lite", "onnx")] == ["lite/mine.txt"]
    assert (target / "report.json").read_text() == "new"


NAMES = [n for n in RESULT_NAMES if n != "visualdl"] + ["visualdl/records.log"]


def run_once(target, text, resume=False):
    """A whole job in small: units, files, publish."""
    with ResultDir(target, resume=resume) as result:
        os.makedirs(result.checkpoints, exist_ok=True)
        with open(os.path.join(result.checkpoints, "unit_0.npz"), "w") as file:
            file.write(text)
        for name in NAMES:
            with open(result.path(*name.split("/")), "w") as file:
                file.write(text)
        yield result
        result.publish()


class Killed(BaseException):
    """The process is dead: no handler of it touches a file any more."""


class Death:
    """From file operation number ``turn`` on, all fail before they do anything, clean-up included:
    on disk there is what a kill leaves.
    """

    turn = None

    def __call__(self, event, _):
        if self.turn is not None and event in OPERATIONS:
            self.turn -= 1
            if self.turn < 0:
                raise Killed

    def kills(self, turn, run):
        """True if ``run`` had that many operations behind its first step."""
        try:
            next(run)
            self.turn = turn
            list(run)
        except Killed:
            return True
        finally:
            self.turn = None
        return False


OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir",
              "os.scandir", "shutil.rmtree")


@pytest.fixture(scope="module")
def death():
    death = Death()
    sys.addaudithook(death)
    return death


def contents(folder):
    return {name: (folder / name).read_text() for name in tree(folder)
            if not name.startswith(STAGING)}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("existing", ["nothing", "result and others"])
def test_a_kill_at_any_file_operation_of_publish_is_made_good(existing, resume, tmp_path,
                                                                   death):
    """Before the point of no return the old result stands, and the next run is told so; behind it
    the next run first makes the new one whole. The next run may be killed as well.
    """
    turn, wholes = 0, 0
    while True:
        place = tmp_path / str(turn)
        target = place / "out"
        place.mkdir()
        if existing != "nothing":
            target.mkdir()
            list(run_once(str(target), "old"))
            (target / "thesis.txt").write_text("mine")
        others = {"thesis.txt": "mine"} if existing == "result and others" else {}
        if not death.kills(turn, run_once(str(target), "new")):
            break
        death.kills(turn % 7, iter_of(lambda: ResultDir(str(target), resume=True)))
        kept = os.path.isdir(target) and contents(target)
        try:
            with ResultDir(str(target), resume=resume) as result:
                units = os.path.isdir(result.checkpoints)
                found = contents(target) if target.is_dir() else {}
        except OutputError as error:  # finished units, and no result yet: as after any interruption
            assert not resume and "Global.resume" in str(error)
            found = kept or {}
            units = True
        new = found.get("report.json") == "new"
        wholes += new
        assert units or new, "neither the result nor the units from which to make it again"
        text = "new" if new else "old"
        expected = ({} if not new and existing == "nothing"
                    else dict.fromkeys(map(os.path.normpath, NAMES), text))
        assert found == dict(expected, **others)
        list(run_once(str(target), "newest", resume=True))
        assert contents(target) == dict(
            dict.fromkeys(map(os.path.normpath, NAMES), "newest"), **others)
        assert os.listdir(place) == ["out"] and not (target / STAGING).exists()
        turn += 1
    assert turn > 8 and wholes > 4, "too few operations were seen"


def iter_of(start):
    """For ``kills``: the operations of ``start`` are counted from its beginning."""
    yield
    start()


@pytest.mark.parametrize("marker", [None, "", "another tool"])
def test_folders_that_look_like_ours_are_refused_and_stay(marker, tmp_path):
    staging = tmp_path / "out.partial"
    (staging / "checkpoint").mkdir(parents=True)
    (staging / "publish.json").write_text("{}")
    if marker is not None:
        (staging / MARKER).write_text(marker)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="not written by paddle_mrecg"):
        ResultDir(str(tmp_path / "out"))
    assert tree(tmp_path) == before and (staging / "checkpoint").is_dir()


def test_a_report_of_another_tool_does_not_make_a_result(tmp_path):
    (tmp_path / "report.json").write_text('{"tool": "another"}')
    (tmp_path / "visualdl").mkdir()
    with pytest.raises(OutputError, match="not from a finished run"):
        ResultDir(str(tmp_path))
    assert tree(tmp_path) == ["report.json"]


def test_unusable_places_are_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "model").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.pdmodel").write_text("float model of a user")
    for place, words in (("file", "is a file"), ("file/below", "cannot be written"),
                         ("a\0b", "cannot be a path"), ("\ud800", "cannot be a path"),
                         ("model", "float model"),
                         ("other", "not from a finished run")):
        with pytest.raises(OutputError, match=words):
            ResultDir(str(tmp_path / place), inputs=[str(tmp_path / "model")])
    with pytest.raises(OutputError, match="float model"):
        ResultDir(str(tmp_path / "model"), inputs=[str(tmp_path / "model" / "inference")])
    assert tree(tmp_path) == ["file", os.path.join("other", "model.pdmodel")]


def test_foreign_staging_directory_is_refused(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not written by paddle_mrecg"):
        ResultDir(str(tmp_path / "out"))
    assert tree(tmp_path) == [os.path.join("out.partial", "thesis.txt")]


def test_two_runs_into_one_directory_are_refused(tmp_path):
    pytest.importorskip("fcntl")
    target = str(tmp_path / "out")
    with ResultDir(target) as result:
        fill(result)
        with pytest.raises(OutputError, match="another run"):
            ResultDir(target)
        result.publish()
    assert tree(target) == WHOLE


def test_result_that_cannot_be_moved_is_kept_and_named(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EACCES, "Permission denied")
    with pytest.raises(OutputError,
                       match="move it there yourself"), ResultDir(str(tmp_path / "out")) as result:
        fill(result)
        monkeypatch.setattr(os, "rename", fail)
        result.publish()
    assert [os.path.basename(p) for p in tree(tmp_path / "out.partial" / "result")] == [
        "model.pdmodel", "report.json", "records.log"]
