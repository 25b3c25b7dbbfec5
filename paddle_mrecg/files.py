# SPDX-License-Identifier: Apache-2.0
"""Files that exist as a whole or not at all, and those that are not meant."""
import json
import math
import os
import struct
import subprocess
import sys
import zlib
from pathlib import PurePath
from typing import Any, Mapping

from .errors import OutputError


def write_bytes(path: str, data: bytes):
    """Write a file under a temporary name, then rename it into place.

    Args:
        path(str): file to write; an existing one is replaced.
        data(bytes): its whole content.

    Raises:
        OutputError: the file cannot be written; an existing one is unchanged.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written ({error.strerror}): free space or choose "
                          "another place") from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def refuse_output(path: str, option: str, is_folder: bool = False):
    """Raise OutputError for a place where nothing can be written, before the work for it begins.

    Args:
        path(str): file or folder that is to be written; it may be there.
        option(str): who names it, for the message, e.g. ``--output``.
        is_folder(bool, optional): files go into it. Default: False.
    """
    if os.path.exists(path) and os.path.isdir(path) != is_folder:
        raise OutputError(f"{option} '{path}' is a {'file' if is_folder else 'folder'}: name a "
                          f"{'folder' if is_folder else 'file'}")
    above = os.path.realpath(path if is_folder else os.path.dirname(os.path.abspath(path)))
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK):
        why = "is write-protected" if os.path.isdir(above) else "is a file"
        raise OutputError(f"{option} '{path}' cannot be written, for '{above}' {why}: name another "
                          "place")


def write_text(path: str, text: str):
    """``write_bytes`` in UTF-8 with Unix line ends."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str, value: Any):
    """Write strict JSON: numpy values become plain ones, NaN and infinity become null."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_json_table(path: str, table: Mapping[str, Any]):
    """``write_json`` with one line per key: half as large, and differences show by line."""
    lines = [f"{json.dumps(key, ensure_ascii=False)}: "
             + json.dumps(plain(value), allow_nan=False, ensure_ascii=False)
             for key, value in table.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def csv_cell(value):
    """A value as a cell of a table: floats with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else value


def plain(value: Any) -> Any:
    """Dicts, lists, strings and numbers only."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def deflate(data: bytes) -> bytes:
    """zlib-compressed ``data``.

    In a process of its own: Paddle 2.6 exports a zlib under the same symbols,
    and when Paddle was imported first, Python's zlib (and so Pillow's and
    matplotlib's PNG writer) crashes the process.
    """
    program = "import sys, zlib; sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read(), 6))"
    return subprocess.run([sys.executable, "-I", "-c", program], input=data, stdout=subprocess.PIPE,
                          check=True).stdout


def write_png(path: str, pixels):
    """Write an image without Pillow (see ``deflate``).

    Args:
        path(str): file to write.
        pixels(np.ndarray): uint8, [height, width, 3].
    """
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # filter type 0 in front of every row
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits per channel, RGB
    write_bytes(path, b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header)
                + _png_chunk(b"IDAT", deflate(rows))
                + _png_chunk(b"IEND", b""))


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def is_hidden(path) -> bool:
    """Whether a relative path leads through what only a system sees: names with a dot in front,
    ``._name`` that macOS packs next to every file among them, and the folder that it packs them in.

    Args:
        path(str|Path): relative to the folder that a user named.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePath(path).parts)
