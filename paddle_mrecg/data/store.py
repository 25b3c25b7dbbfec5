# SPDX-License-Identifier: Apache-2.0
"""Arrays of one row per sample, in memory while a limit allows it and in a file beyond.

Rows lie in blocks of about 16 MiB. A block that no longer fits goes to a temporary file without a
name, which vanishes with the process however that ends. Its space is reserved when it is made, so
that a full disk is a sentence and not a signal; it is read and written, never mapped, so that it
counts neither as memory of the process nor against its limit.
"""
import errno
import os
import tempfile
import weakref
from typing import List, Optional, Sequence, Union

import numpy as np

from ..errors import OutputError

ROWS = 64  # blocks are multiples of this, so that a chunk of a forward pass lies in one
BLOCK = 16 << 20  # bytes of a block, about
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ActivationStore:
    """Allocates arrays ``[N, ...]``, in memory while they fit.

    Args:
        limit_mb(float): MiB that may stay in memory over all live arrays.
        directory(str, optional): where files beyond the limit go. Default:
            the system's temporary directory.
        half(bool, optional): hold activations as float16, so that they take half the room.
            Default: False.

    Attributes:
        in_memory(int), in_files(int): bytes held now.
        spilled(int): the most bytes that were in files at any time.
    """

    def __init__(self, limit_mb: float, directory: str = None, half: bool = False):
        self.limit, self.half = limit_mb * 2**20, half
        self.directory = directory or tempfile.gettempdir()
        self.in_memory = self.in_files = self.spilled = 0
        self._arrays: "weakref.WeakSet[StoredArray]" = weakref.WeakSet()

    def allocate(self, shape: Sequence[int], dtype=np.float32,
                 exact: bool = False) -> "StoredArray":
        """An array of undefined content.

        Args:
            shape(tuple): ``[N, ...]``.
            dtype(dtype, optional): of what is read from it. Default: float32.
            exact(bool, optional): never hold it as float16. Default: False.

        Writing to it raises OutputError when neither memory nor the disk has room.
        """
        half = self.half and not exact and np.dtype(dtype) == np.float32
        array = StoredArray(self, shape, dtype, np.float16 if half else dtype)
        self._arrays.add(array)
        return array

    def fits(self, size: int) -> bool:
        """Whether ``size`` more bytes may stay in memory."""
        return self.in_memory + size <= self.limit

    def bound(self, limit: float):
        """Hold at most ``limit`` bytes in memory from now on; what is more goes to files."""
        self.limit = limit
        for array in list(self._arrays):
            if self.in_memory > limit:
                array.spill()

    def count(self, memory: int = 0, files: int = 0):
        """Note bytes that were taken, or given back if negative."""
        self.in_memory += memory
        self.in_files += files
        self.spilled = max(self.spilled, self.in_files)

    def close(self):
        """Give everything back; arrays cannot be read any more."""
        for array in list(self._arrays):
            array.release()


class StoredArray:
    """Rows ``[N, ...]`` that are read and written by slices and index arrays of the first axis.

    Reads give arrays of ``dtype``; those of a slice may be views, so do not write to them.
    """

    def __init__(self, store: ActivationStore, shape: Sequence[int], dtype, held):
        self.shape, self.dtype = tuple(int(n) for n in shape), np.dtype(dtype)
        self._row = self.shape[1:]
        self._store, self._blocks = store, _Blocks(store, self._row, np.dtype(held))
        weakref.finalize(self, self._blocks.release)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def __getitem__(self, index: Union[slice, np.ndarray]) -> np.ndarray:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._blocks.rows(start, max(start, stop)).astype(self.dtype, copy=False)
            index = np.arange(start, stop, step)
        index = np.asarray(index)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        return self._blocks.picked(np.where(index < 0, index + len(self), index)).astype(
            self.dtype, copy=False)

    def __setitem__(self, part: slice, value: np.ndarray):
        start, stop, _ = part.indices(len(self))
        value = np.broadcast_to(value, (stop - start, *self._row))
        self._blocks.reserve(stop, len(self))
        if self._blocks.dtype == np.float16 and self.dtype != np.float16:
            with np.errstate(over="ignore"):
                narrow = value.astype(np.float16)
            if (np.isinf(narrow) & np.isfinite(value)).any():  # more than 65504: hold it as it is
                self._widen()
            else:
                value = narrow
        self._blocks.write(start, value)

    def _widen(self):
        old, new = self._blocks, _Blocks(self._store, self._row, self.dtype)
        self._blocks = new
        weakref.finalize(self, new.release)
        new.reserve(old.length, len(self))
        for start in range(0, old.length, ROWS):
            new.write(start, old.rows(start, min(start + ROWS, old.length)).astype(self.dtype))
        old.release()

    def cut(self, count: int):
        """Keep only the first ``count`` rows."""
        self.shape = (count, *self._row)

    def spill(self):
        """Move all of it to a file."""
        self._blocks.spill()

    def release(self):
        """Give everything back."""
        self._blocks.release()


class _Blocks:
    """The blocks of one array; what is not in memory is in one file."""

    def __init__(self, store: ActivationStore, row: Sequence[int], dtype: np.dtype):
        self._store, self._row, self.dtype = store, tuple(row), dtype
        self._bytes = int(np.prod(row)) * dtype.itemsize
        self._rows = ROWS * max(1, -(-BLOCK // max(1, ROWS * self._bytes)))
        self._blocks: List[Union[np.ndarray, "_FilePart"]] = []
        self._file, self._end, self.length = None, 0, 0

    def reserve(self, length: int, total: int):
        """Blocks for at least ``length`` rows of an array that will have ``total``."""
        while self.length < length:
            rows = min(self._rows, max(total, length) - self.length)
            size = rows * self._bytes
            if self._store.fits(size):
                self._blocks.append(np.empty((rows, *self._row), self.dtype))
                self._store.count(memory=size)
            else:
                self._blocks.append(self._in_file(rows, size))
            self.length += rows

    def _in_file(self, rows: int, size: int) -> "_FilePart":
        with _Attributed(self._store.directory, size):
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, dir=self._store.directory)
            if size and hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(self._file.fileno(), self._end, size)
                except OSError as error:
                    if error.errno in _FULL:
                        raise
                    # a file system that cannot reserve says so when it is written to
        self._store.count(files=size)
        part = _FilePart(self._file.fileno(), self._end, (rows, *self._row), self.dtype)
        self._end += size
        return part

    def spill(self):
        """Move all blocks to the file."""
        for k, block in enumerate(self._blocks):
            if isinstance(block, np.ndarray):
                part = self._in_file(len(block), block.nbytes)
                with _Attributed(self._store.directory):
                    part[:len(block)] = block
                self._blocks[k] = part
                self._store.count(memory=-block.nbytes)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``."""
        parts = [block[first:last] for block, first, last, _ in self._cut(start, stop)]
        if not parts:
            return np.empty((0, *self._row), self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def picked(self, index: np.ndarray) -> np.ndarray:
        """Rows at ``index``."""
        number, inside = np.divmod(index, self._rows)
        if len(self._blocks) == 1 or len(index) and (number == number[0]).all():
            return self._blocks[int(number[0]) if len(index) else 0][inside]
        result = np.empty((len(index), *self._row), self.dtype)
        for k in np.unique(number):
            here = number == k
            result[here] = self._blocks[k][inside[here]]
        return result

    def write(self, start: int, value: np.ndarray):
        """Rows from ``start`` on become ``value``."""
        with _Attributed(self._store.directory):
            for block, first, last, offset in self._cut(start, start + len(value)):
                block[first:last] = value[offset:offset + last - first]

    def _cut(self, start: int, stop: int):
        """(block, first and last row in it, offset in what was asked for)."""
        stop = min(stop, self.length)
        for k in range(start // self._rows, -(-stop // self._rows)):
            base = k * self._rows
            first, last = max(start, base) - base, min(stop, base + self._rows) - base
            if first < last:
                yield self._blocks[k], first, last, base + first - start

    def release(self):
        """Give everything back; may be called again."""
        blocks, self._blocks = self._blocks, []
        self._store.count(-sum(b.nbytes for b in blocks if isinstance(b, np.ndarray)), -self._end)
        self.length = self._end = 0
        if self._file is not None:
            self._file.close()
            self._file = None


class _FilePart:
    """A block in a file."""

    def __init__(self, number: int, offset: int, shape, dtype: np.dtype):
        self._number, self._offset, self.shape, self.dtype = number, offset, shape, dtype
        self._bytes = int(np.prod(shape[1:])) * dtype.itemsize

    def __getitem__(self, index: Union[slice, np.ndarray]) -> np.ndarray:
        if isinstance(index, slice):
            result = np.empty((index.stop - index.start, *self.shape[1:]), self.dtype)
            self._read(result, index.start)
            return result
        result = np.empty((len(index), *self.shape[1:]), self.dtype)
        for row, k in zip(result.reshape(len(index), self._bytes // self.dtype.itemsize),
                          index.tolist()):
            self._read(row, k)
        return result

    def __setitem__(self, part: slice, value: np.ndarray):
        data = memoryview(np.ascontiguousarray(value, self.dtype).reshape(-1).view(np.uint8))
        place = self._offset + (part.start or 0) * self._bytes
        while len(data):
            written = os.pwrite(self._number, data, place)
            data, place = data[written:], place + written

    def _read(self, target: np.ndarray, row: int):
        data = memoryview(target.reshape(-1).view(np.uint8))
        place = self._offset + row * self._bytes
        while len(data):
            got = os.preadv(self._number, [data], place)
            if not got:
                raise OSError(errno.EIO, "a temporary file has been cut off")
            data, place = data[got:], place + got


class _Attributed:
    """Inside, a full disk is an OutputError that names the folder."""

    def __init__(self, directory: str, size: Optional[int] = None):
        self._directory, self._size = directory, size

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        if isinstance(error, OSError):
            what = f"{self._size >> 20} MiB of activations" if self._size else "activations"
            raise OutputError(
                f"{what} beyond Global.memory_limit_mb cannot be written to the temporary folder "
                f"'{self._directory}' ({error.strerror}): set TMPDIR to a folder with more room, "
                "raise Global.memory_limit_mb, or lower Data.num_samples or Data.views"
            ) from error
