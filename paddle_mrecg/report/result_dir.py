# SPDX-License-Identifier: Apache-2.0
"""The directory of the result: filled out of sight, put in place at the end."""
import errno
import json
import os
from typing import Sequence

from ..config.schema import UNWRITABLE
from ..errors import OutputError, is_users
from .progress import get_logger
from .publish import CONTENT, Swap, remove

try:
    import fcntl
except ImportError:  # Windows: two runs into one directory are not noticed there
    fcntl = None

# What an earlier run may have left in save_dir. Anything else there is the
# user's and is never touched. The first leaves first and arrives last: where it
# is, the result is whole.
RESULT_NAMES = ("report.json", "model.pdmodel", "model.pdiparams", "encodings.json", "units.csv",
                "plan.json", "resolved_config.yaml", "oscillation.png", "report.html",
                "visualdl")
SEAL = RESULT_NAMES[0]
# what ``paddle-mrecg export`` makes of a result, in its own folders there: not of the next one
EXPORTED = ("lite/model.arm.nb", "lite/model.x86.nb", "lite/ops.json", "onnx/model.onnx")
PROGRAM = "model"  # stem of the written program
# a directory with MARKER (says that it is ours, and locks it), CONTENT and CHECKPOINTS
STAGING = ".partial"
MARKER, CHECKPOINTS = ".paddle_mrecg", "checkpoint"
MARK = "unfinished result of paddle_mrecg\n"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def refuse_place(save_dir: str, inputs: Sequence[str] = ()):
    """Raise OutputError for a place that a path alone rules out; nothing is written.

    Args:
        save_dir(str): directory of the result.
        inputs(list[str], optional): directory or file prefix of the float model. Default: ().
    """
    if UNWRITABLE.search(os.fspath(save_dir)):
        raise OutputError(f"save_dir {save_dir!r} cannot be a path: choose another "
                          "Global.save_dir")
    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in inputs]
    if os.path.realpath(save_dir) in map(os.path.realpath, folders):
        raise OutputError(f"save_dir '{save_dir}' is the directory of the float model: choose "
                          "another Global.save_dir")
    if os.path.exists(save_dir) and not os.path.isdir(save_dir):
        raise OutputError(f"save_dir '{save_dir}' is a file: choose another Global.save_dir")


class ResultDir:
    """Writes a result as a whole or not at all.

    Files are collected in ``<save_dir>.partial``, or in ``<save_dir>/.partial``
    when ``save_dir`` already exists, and moved by ``publish``. Leaving the
    ``with`` block without ``publish`` deletes them, except the checkpoints of
    finished units, from which a run with ``resume`` goes on. A run that was killed
    while it published is finished by the next one.

    Args:
        save_dir(str): directory of the result.
        resume(bool, optional): keep the checkpoints of an interrupted run. Default: False.
        overwrite(bool, optional): delete such checkpoints; without ``resume`` and ``overwrite``
            they are an error. Default: False.
        inputs(list[str], optional): directory or file prefix of the float model, never to be
            overwritten. Default: ().

    Raises:
        OutputError: at once when ``save_dir`` cannot be written, is a file, holds the float model
            or other files of a result's names, is being written by another run, or has
            checkpoints that would be lost.

    Examples:
        .. code-block:: python

            with ResultDir("output/quantized") as result:
                report.save(result.path("report.json"))
                result.publish()
    """

    def __init__(self, save_dir: str, resume: bool = False, inputs: Sequence[str] = (),
                 overwrite: bool = False):
        refuse_place(save_dir, inputs)
        self.save_dir = os.path.realpath(save_dir)
        self.shown = save_dir
        self.staging = self._find_staging()
        self._swap = Swap(self.staging, self.save_dir, RESULT_NAMES + EXPORTED)
        if not self._swap.is_pending:
            self._refuse_foreign()
        self._stuck = False
        try:
            self._lock = self._locked()
            try:
                self._open(resume, overwrite)
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise OutputError(f"save_dir '{save_dir}' cannot be written ({error.strerror}): choose "
                              "another Global.save_dir") from error

    @property
    def checkpoints(self) -> str:
        """Directory for finished units; survives an interrupted run, not a published one."""
        return os.path.join(self.staging, CHECKPOINTS)

    def path(self, *parts: str) -> str:
        """Where to write ``parts`` for now; parent directories are made."""
        path = os.path.join(self.staging, CONTENT, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def publish(self, keep_checkpoints: bool = False):
        """Move everything into ``save_dir``, replacing an earlier run's result.

        Args:
            keep_checkpoints(bool, optional): True for the usable part of an interrupted run, which
                may be resumed. Default: False.
        """
        try:
            self._swap.begin(keep_checkpoints)
            self._finish_publishing(keep_checkpoints)
        except OSError as error:
            self._stuck = True
            raise OutputError(f"the result in '{os.path.join(self.staging, CONTENT)}' cannot be "
                              f"moved to '{self.shown}' ({error.strerror}): see to that and run "
                              "again, or move it there yourself") from error

    def _finish_publishing(self, keep_checkpoints: bool):
        self._swap.finish()
        if not keep_checkpoints:
            remove(self.checkpoints)
        self._swap.end()

    def __enter__(self) -> "ResultDir":
        return self

    def __exit__(self, kind, error, trace):
        resumable = os.path.isdir(self.checkpoints)
        if not self._stuck:
            self._clear(keep=[CHECKPOINTS] if resumable else [])
        self._lock.close()
        if resumable and error is not None:
            get_logger().info("finished units are kept: run again with Global.resume=true to go on")
        if isinstance(error, OSError) and error.errno in NO_SPACE and not is_users(error):
            raise OutputError(self._no_space(error)) from error

    def _no_space(self, error: OSError) -> str:
        """Which place is full; an error without a name comes from a file of the result."""
        name = os.path.realpath(error.filename) if isinstance(error.filename, str) else None
        ours = name is None or name.startswith((self.save_dir + os.sep, self.staging + os.sep))
        return (f"writing to '{self.shown if ours else os.path.dirname(name)}' failed "
                f"({error.strerror}): free space"
                + (" or choose another Global.save_dir" if ours else " there"))

    def _refuse_foreign(self):
        """A model.pdmodel without a report.json of ours was not written by us: never replace it."""
        found = [n for n in RESULT_NAMES if os.path.lexists(os.path.join(self.save_dir, n))]
        if found and (SEAL not in found or self._is_others(os.path.join(self.save_dir, SEAL))):
            raise OutputError(f"save_dir '{self.shown}' already has a '{found[0]}' that is not "
                              "from a finished run: move it or choose another Global.save_dir")

    @staticmethod
    def _is_others(report: str) -> bool:
        """Many tools write a report.json; a damaged one of ours is still ours."""
        try:
            with open(report, encoding="utf-8") as file:
                content = json.load(file)
        except (OSError, ValueError, RecursionError):
            return not os.path.isfile(report)
        return not (isinstance(content, dict) and "format_version" in content)

    def _find_staging(self) -> str:
        inner, sibling = os.path.join(self.save_dir, STAGING), self.save_dir + STAGING
        for path in (inner, sibling):
            if os.path.exists(os.path.join(path, MARKER)):
                return path
        return inner if os.path.isdir(self.save_dir) else sibling

    def _locked(self):
        """The marker of the staging directory, made if need be, open and locked."""
        marker = os.path.join(self.staging, MARKER)
        while True:
            if os.path.lexists(self.staging) and not self._is_ours():
                raise OutputError(f"'{self.staging}' was not written by paddle_mrecg: move it or "
                                  "choose another Global.save_dir")
            os.makedirs(self.staging, exist_ok=True)
            lock = open(marker, "a", encoding="utf-8")
            try:
                if fcntl:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise OutputError(f"another run is writing to '{self.shown}': wait for it or "
                                  "choose another Global.save_dir") from None
            if os.path.exists(marker) and os.path.samestat(os.fstat(lock.fileno()),
                                                           os.stat(marker)):
                if not lock.tell():
                    lock.write(MARK)
                    lock.flush()
                return lock
            lock.close()  # a run that ended just now has removed it

    def _is_ours(self) -> bool:
        """Ours say so; a run that was killed at its very start leaves nothing but an empty file."""
        if os.path.islink(self.staging) or not os.path.isdir(self.staging):
            return False
        try:
            with open(os.path.join(self.staging, MARKER), encoding="utf-8") as file:
                text = file.read(len(MARK) + 1)
        except FileNotFoundError:
            text = ""
        except (OSError, UnicodeDecodeError):
            return False
        return text == MARK or not text and set(os.listdir(self.staging)) <= {MARKER}

    def _open(self, resume: bool, overwrite: bool):
        if self._swap.is_pending:
            self._finish_publishing(resume or self._swap.keeps_checkpoints)
            get_logger().info("the result of the last run is now whole in %s", self.shown)
        units = ([n for n in os.listdir(self.checkpoints) if n.endswith(".npz")]
                 if os.path.isdir(self.checkpoints) else [])
        if units and not resume and not overwrite:
            raise OutputError(f"'{self.shown}' has {len(units)} finished units of an interrupted "
                              "run: go on with them by Global.resume=true, or delete them by "
                              "Global.overwrite=true")
        sibling = self.save_dir + STAGING
        if self.staging != sibling and os.path.isdir(sibling) and not os.listdir(sibling):
            os.rmdir(sibling)  # of a run that was killed as it left
        self._empty(keep=[CHECKPOINTS] if resume else [])
        os.makedirs(os.path.join(self.staging, CONTENT))

    def _empty(self, keep: Sequence[str]):
        for name in os.listdir(self.staging):
            if name not in (MARKER, *keep):
                remove(os.path.join(self.staging, name))

    def _clear(self, keep: Sequence[str]):
        """Without its marker it would not be ours any more, so that goes last."""
        self._empty(keep)
        if not keep:
            remove(os.path.join(self.staging, MARKER))
            os.rmdir(self.staging)
