# SPDX-License-Identifier: Apache-2.0
"""The directory of the result: filled out of sight, put in place at the end."""
import errno
import os
import shutil
from typing import Sequence

from ..errors import OutputError
from .progress import get_logger

try:
    import fcntl
except ImportError:  # Windows: two runs into one directory are not noticed there
    fcntl = None

# What an earlier run may have left in save_dir. Anything else there is the
# user's and is never touched.
RESULT_NAMES = ("model.pdmodel", "model.pdiparams", "encodings.json", "units.csv", "plan.json",
                "resolved_config.yaml",
                "oscillation.png", "visualdl", "report.json")
SEAL = "report.json"  # leaves first and arrives last: where it is, the result is whole
# a directory with MARKER (marks it as this package's, and locks it), CONTENT and CHECKPOINTS
STAGING = ".partial"
MARKER, CONTENT, CHECKPOINTS = ".paddle_mrecg", "result", "checkpoint"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class ResultDir:
    """Writes a result as a whole or not at all.

    Files are collected in ``<save_dir>.partial``, or in ``<save_dir>/.partial``
    when ``save_dir`` already exists, and moved by ``publish``. Leaving the
    ``with`` block without ``publish`` deletes them, except the checkpoints of
    finished units, from which a run with ``resume`` goes on.

    Args:
        save_dir(str): directory of the result.
        resume(bool, optional): keep the checkpoints of an interrupted run. Default: False.
        inputs(list[str], optional): directory or file prefix of the float model, never to be
            overwritten. Default: ().

    Raises:
        OutputError: at once when ``save_dir`` cannot be written, is a file, holds the float model
            or other files of a result's names, or is being written by another run.

    Examples:
        .. code-block:: python

            with ResultDir("output/quantized") as result:
                report.save(result.path("report.json"))
                result.publish()
    """

    def __init__(self, save_dir: str, resume: bool = False, inputs: Sequence[str] = ()):
        self.save_dir = os.path.realpath(save_dir)
        self.shown = save_dir
        folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in inputs]
        if self.save_dir in map(os.path.realpath, folders):
            raise OutputError(f"save_dir '{save_dir}' is the directory of the float model: choose "
                              "another Global.save_dir")
        if os.path.exists(self.save_dir) and not os.path.isdir(self.save_dir):
            raise OutputError(f"save_dir '{save_dir}' is a file: choose another Global.save_dir")
        self._refuse_foreign()
        self.staging = self._find_staging()
        self._stuck = False
        try:
            self._open(resume)
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
        content = os.path.join(self.staging, CONTENT)
        try:
            if os.path.isdir(self.save_dir):
                self._replace(content)
            else:
                os.rename(content, self.save_dir)
        except OSError as error:
            self._stuck = True
            raise OutputError(f"the result in '{content}' cannot be moved to '{self.shown}' "
                              f"({error.strerror}): move it there yourself") from error
        if not keep_checkpoints:
            _remove(self.checkpoints)

    def __enter__(self) -> "ResultDir":
        return self

    def __exit__(self, kind, error, trace):
        resumable = os.path.isdir(self.checkpoints)
        if not self._stuck:
            _remove(os.path.join(self.staging, CONTENT) if resumable else self.staging)
        self._lock.close()
        if resumable and error is not None:
            get_logger().info("finished units are kept: run again with Global.resume=true to go on")
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise OutputError(f"writing to '{self.shown}' failed ({error.strerror}): free space or "
                              "choose another Global.save_dir") from error

    def _refuse_foreign(self):
        """Never replace a model.pdmodel without a report.json: another program wrote it."""
        found = [n for n in RESULT_NAMES if os.path.lexists(os.path.join(self.save_dir, n))]
        if found and SEAL not in found:
            raise OutputError(f"save_dir '{self.shown}' already has a '{found[0]}' that is not "
                              "from a finished run: move it or choose another Global.save_dir")

    def _find_staging(self) -> str:
        inner, sibling = os.path.join(self.save_dir, STAGING), self.save_dir + STAGING
        for path in (inner, sibling):
            if os.path.exists(os.path.join(path, MARKER)):
                return path
        return inner if os.path.isdir(self.save_dir) else sibling

    def _open(self, resume: bool):
        if os.path.exists(self.staging) and not os.path.exists(os.path.join(self.staging, MARKER)):
            raise OutputError(f"'{self.staging}' was not written by paddle_mrecg: move it or "
                              "choose another Global.save_dir")
        os.makedirs(self.staging, exist_ok=True)
        self._lock = open(os.path.join(self.staging, MARKER), "a", encoding="utf-8")
        if fcntl:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                raise OutputError(f"another run is writing to '{self.shown}': wait for it or "
                                  "choose another Global.save_dir") from None
        for name in os.listdir(self.staging):
            if name != MARKER and not (resume and name == CHECKPOINTS):
                _remove(os.path.join(self.staging, name))
        os.makedirs(os.path.join(self.staging, CONTENT))

    def _replace(self, content: str):
        """Move ``content`` into an existing save_dir; only files of a result are replaced."""
        for name in (SEAL,) + RESULT_NAMES:
            _remove(os.path.join(self.save_dir, name))
        for name in sorted(os.listdir(content), key=lambda n: n == SEAL):
            target = os.path.join(self.save_dir, name)
            _remove(target)
            os.rename(os.path.join(content, name), target)


def _remove(path: str):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)
