# SPDX-License-Identifier: Apache-2.0
"""Put a new result in the place of an old one; a kill at any point can be made good later."""
import json
import os
import shutil
from typing import Sequence

CONTENT, OLD, JOURNAL = "result", "replaced", "publish.json"


class Swap:
    """Moves ``<staging>/result`` into ``save_dir``, next to files that are not of a result.

    ``begin`` writes down what is to come; from there on ``finish`` may be repeated until it ends:
    it moves the old result into ``<staging>/replaced``, the new one into ``save_dir``, and deletes
    the old one last.

    Args:
        staging(str): folder on the same file system as ``save_dir``.
        save_dir(str): the place of the result; may be missing.
        names(list[str]): files and folders that a result may consist of; the first one is the
            seal: it leaves first and arrives last, so where it is, the result is whole.
    """

    def __init__(self, staging: str, save_dir: str, names: Sequence[str]):
        self.staging, self.save_dir, self.names = staging, save_dir, list(names)
        self._journal = os.path.join(staging, JOURNAL)

    @property
    def is_pending(self) -> bool:
        """True when ``begin`` was reached, and ``end`` was not."""
        return os.path.isfile(self._journal)

    @property
    def keeps_checkpoints(self) -> bool:
        """What ``begin`` was told."""
        return self._read()["keep_checkpoints"]

    def begin(self, keep_checkpoints: bool):
        """The result is whole: whatever happens now, it will be moved."""
        names = sorted(os.listdir(os.path.join(self.staging, CONTENT)))
        with open(self._journal + ".tmp", "w", encoding="utf-8") as file:
            json.dump(dict(names=names, keep_checkpoints=keep_checkpoints), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._journal + ".tmp", self._journal)

    def finish(self):
        """Move what has not been moved yet.

        Raises:
            OSError: something cannot be moved; both results are still there.
        """
        content = os.path.join(self.staging, CONTENT)
        if os.path.isdir(content):
            if os.path.lexists(self.save_dir):
                self._exchange(content, self._read()["names"])
                os.rmdir(content)
            else:
                os.rename(content, self.save_dir)
        remove(os.path.join(self.staging, OLD))

    def end(self):
        """Nothing is left to repeat."""
        remove(self._journal)

    def _exchange(self, content: str, new: Sequence[str]):
        old, waiting = os.path.join(self.staging, OLD), os.listdir(content)
        os.makedirs(old, exist_ok=True)
        for name in dict.fromkeys(self.names + list(new)):
            # what is new and waits no longer has arrived before a kill
            if name in waiting or name not in new:
                _move(os.path.join(self.save_dir, name), os.path.join(old, name))
        for name in sorted(waiting, key=lambda n: n == self.names[0]):
            os.rename(os.path.join(content, name), os.path.join(self.save_dir, name))

    def _read(self):
        with open(self._journal, encoding="utf-8") as file:
            return json.load(file)


def _move(source: str, target: str):
    if os.path.lexists(source):
        remove(target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(source, target)


def remove(path: str):
    """Delete a file, a link or a folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)
