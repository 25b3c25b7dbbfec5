# SPDX-License-Identifier: Apache-2.0
"""Memory and disk of this machine: what is taken, and what is still free."""
import os
import shutil


def resident_bytes() -> int:
    """Memory of this process now; 0 where the system does not tell."""
    return _kilobytes("/proc/self/status", "VmRSS") or 0


def _kilobytes(path: str, key: str):
    try:
        with open(path, encoding="ascii", errors="ignore") as lines:
            return next((int(line.split()[1]) << 10 for line in lines
                         if line.startswith(key + ":")), None)
    except OSError:
        return None


def available_bytes():
    """Memory that this process may still take: of the machine, and of the containers (control
    groups) that it runs in; None where the system does not tell.
    """
    found = [_kilobytes("/proc/meminfo", "MemAvailable")]
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as lines:
            places = [line.rstrip("\n").split(":", 2) for line in lines]
    except OSError:
        places = []
    for _, controllers, path in places:
        if controllers == "":
            base, limit, usage = "/sys/fs/cgroup", "memory.max", "memory.current"
        elif controllers == "memory":
            base, limit, usage = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                  "memory.usage_in_bytes")
        else:
            continue
        while True:  # the limit of any group above counts as well
            numbers = [_number_in_file(os.path.join(base, path.strip("/"), name))
                       for name in (limit, usage)]
            if None not in numbers:
                found.append(max(0, numbers[0] - numbers[1]))
            if path.strip("/") == "":
                break
            path = os.path.dirname(path.rstrip("/"))
    return min((n for n in found if n is not None), default=None)


def _number_in_file(path: str):
    """The number in a file; None where the file is missing or does not hold a number: no limit."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def free_bytes(path: str) -> float:
    """Room on the disk of a folder, which need not exist yet; infinite where it does not tell."""
    try:
        return float(shutil.disk_usage(_nearest_folder(path)).free)
    except OSError:
        return float("inf")


def same_disk(first: str, second: str) -> bool:
    """Whether two folders, which need not exist yet, share their room."""
    try:
        return os.stat(_nearest_folder(first)).st_dev == os.stat(_nearest_folder(second)).st_dev
    except OSError:
        return False


def _nearest_folder(path: str) -> str:
    """The folder, or the first one above it that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def in_memory_folder(path: str) -> bool:
    """Whether the files of a folder take memory (tmpfs)."""
    try:
        with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as lines:
            mounts = [line.split(" ")[1:3] for line in lines]
    except OSError:
        return False
    path = os.path.realpath(path)
    inside = [(len(place), kind) for place, kind in mounts
              if path == place or path.startswith(place.rstrip("/") + "/")]
    return bool(inside) and max(inside)[1] in ("tmpfs", "ramfs")
