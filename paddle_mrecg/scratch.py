# SPDX-License-Identifier: Apache-2.0
"""Temporary folders that vanish with their process: a later one removes those of killed ones."""
import contextlib
import errno
import os
import shutil
import tempfile
import time
from typing import BinaryIO, Iterator, List, Optional, Set, Tuple

from .errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: nothing tells a dead owner from a live one there
    fcntl = None

SCRATCH_PREFIX = "paddle_mrecg-"
SCRATCH_LOCK = ".lock"  # locked as long as its process lives, whatever ends it
FULL = (errno.ENOSPC, errno.EDQUOT)
UNLOCKED_SECONDS = 10.0  # a folder without a lock so long: its process died as it made it
_searched: Set[Tuple[str, str]] = set()
_held: Set[BinaryIO] = set()


def _let_go():
    """In a forked process: the locks are its parent's, and must not outlive it."""
    for lock in _held:
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def scratch_folder(directory: Optional[str] = None, prefix: str = SCRATCH_PREFIX) -> Iterator[str]:
    """A new folder, deleted at the end of the block.

    The first one of a process in ``directory`` also deletes what processes that were killed have
    left there.

    Args:
        directory(str, optional): where. Default: None, the system's temporary directory.
        prefix(str, optional): start of its name, by which leftovers are found.

    Raises:
        OutputError: the system's temporary directory is full or cannot be written.
    """
    place = directory or tempfile.gettempdir()
    if (place, prefix) not in _searched:
        _searched.add((place, prefix))
        remove_leftovers(place, prefix)
    folder = None
    try:
        folder = tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=place)
        with open(os.path.join(folder, SCRATCH_LOCK + ".new"), "wb") as lock:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX)
            _held.add(lock)
            os.rename(lock.name, os.path.join(folder, SCRATCH_LOCK))  # never seen without its lock
            try:
                yield folder
            finally:
                _held.discard(lock)
    except (OSError, OutputError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if directory is None and (folder is None or _is_full(cause)):
            raise OutputError(f"the temporary folder '{place}' cannot be written "
                              f"({cause.strerror}): set TMPDIR to a folder with more "
                              "room") from error
        raise
    finally:
        if folder:
            _delete(folder)


def _delete(folder: str):
    """Its lock goes last: killed in between, or while a helper still writes there, this leaves
    a folder that a later process knows for a leftover.
    """
    lock = os.path.join(folder, SCRATCH_LOCK)
    for path in (os.path.join(folder, name) for name in _content(folder)):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        elif path != lock:
            with contextlib.suppress(OSError):
                os.remove(path)
    if set(_content(folder)) <= {SCRATCH_LOCK}:
        shutil.rmtree(folder, ignore_errors=True)


def _content(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_full(error) -> bool:
    return isinstance(error, OSError) and error.errno in FULL


def remove_leftovers(directory: str, prefix: str = SCRATCH_PREFIX) -> List[str]:
    """Delete folders of this user that ``scratch_folder`` made in processes that have ended.

    Args:
        directory(str): where to look.
        prefix(str, optional): of their names.

    Returns:
        list[str]: names of the folders that were deleted.
    """
    if not fcntl:
        return []
    removed = []
    try:
        found = [e.path for e in os.scandir(directory) if e.name.startswith(prefix)
                 and e.is_dir(follow_symlinks=False)
                 and e.stat(follow_symlinks=False).st_uid == os.geteuid()]
    except OSError:
        return []
    for path in sorted(found):
        if _is_dead(path, prefix):
            _delete(path)
            removed.append(os.path.basename(path))
    return removed


def _is_dead(folder: str, prefix: str) -> bool:
    """Whether the process that made a folder has ended."""
    try:
        with open(os.path.join(folder, SCRATCH_LOCK), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            others = set(os.listdir(folder)) - {SCRATCH_LOCK + ".new"}
            old = time.time() - os.stat(folder).st_mtime > UNLOCKED_SECONDS
            return old and not others and not _is_alive(os.path.basename(folder)[len(prefix):])
        return False
    except OSError:  # locked, or not ours to read
        return False


def _is_alive(name: str) -> bool:
    """Whether the process that a folder's name begins with runs; True where that cannot be told."""
    number = name.partition("-")[0]
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        pass
    return True
