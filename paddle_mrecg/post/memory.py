# SPDX-License-Identifier: Apache-2.0
"""What a job will hold, said before it starts, with the setting that makes it fit.

Memory has three parts. The process: Paddle, the model, what was read so far. The work of the
largest step: a forward pass of calibration, the linear system of a layer, or the training of a
unit. The cache: samples and both streams, which take what ``Global.memory_limit_mb`` leaves and
lie in files beyond that.
"""
import ctypes
import dataclasses
import math
import sys
from typing import List, Optional

from ..data.store import ActivationStore
from ..errors import OutputError
from ..machine import available_bytes, free_bytes, in_memory_folder, resident_bytes, same_disk
from ..report.progress import get_logger

MIB = 1 << 20
LEAST_CACHE = 16 * MIB


def store_within(limit_mb: float, half: bool = False) -> ActivationStore:
    """A store that holds in memory what the process leaves of ``limit_mb`` MiB, see
    ``ActivationStore``.
    """
    return ActivationStore(max(limit_mb - resident_bytes() / MIB, LEAST_CACHE / MIB), half=half)


@dataclasses.dataclass
class Stage:
    """One kind of step at its largest, in bytes.

    ``work`` is what it needs besides the cache, ``cache`` what it would like to keep there.
    """

    name: str
    work: float
    cache: float

    @property
    def total(self) -> float:
        return self.work + self.cache


@dataclasses.dataclass
class Forecast:
    """What a job will hold, in bytes.

    Attributes:
        process(float): resident before the first step, copies of the weights included.
        stages(list[Stage]): the kinds of steps.
        limit(float): ``Global.memory_limit_mb``.
        batch(tuple): MRECG.batch_size, and the part of the largest training step that grows with
            each of its samples.
        result(float): what the folder of the result holds at most, states of units included.
    """

    process: float
    stages: List[Stage]
    limit: float
    batch: tuple = (0, 0.0)
    result: float = 0.0

    @property
    def largest(self) -> Stage:
        """The stage that sets the peak."""
        return max(self.stages, key=self._held)

    @property
    def cache(self) -> float:
        """What the cache may hold in memory."""
        return max(LEAST_CACHE, self.limit - self.process - max(s.work for s in self.stages))

    def _held(self, stage: Stage) -> float:
        return stage.work + min(stage.cache, self.cache)

    @property
    def peak(self) -> float:
        """Resident bytes at most."""
        return self.process + max(map(self._held, self.stages))

    @property
    def files(self) -> float:
        """Bytes of temporary files at most."""
        return max(max(s.cache for s in self.stages) - self.cache, 0.0)

    def sentences(self, folder: str) -> List[str]:
        """What the job will hold, and, where that is too much, which setting makes it fit.

        Args:
            folder(str): where temporary files go.
        """
        stage = self.largest
        text = (f"memory: about {_mib(self.peak)} at the peak ({stage.name}): process and model "
                f"{_mib(self.process)}, the step itself {_mib(stage.work)}, samples and "
                f"activations {_mib(min(stage.cache, self.cache))}")
        if self.files:
            text += f", and {_mib(self.files)} in files in {folder}"
        free = available_bytes()
        room = math.inf if free is None else free + resident_bytes()
        lines = [text + (f"; the machine has {_mib(room)} for it" if free is not None else "")]
        taken = self.peak + (self.files if in_memory_folder(folder) else 0)
        if taken > room:
            lines.append(f"memory will not suffice: {self._cure(room, folder)}")
        elif self.peak > self.limit * 1.02 + 1:
            lines.append(f"Global.memory_limit_mb of {_mib(self.limit)} cannot be kept: "
                         f"{self._cure(self.limit, folder)}")
        return lines

    def _cure(self, room: float, folder: str) -> str:
        """The setting that brings the peak below ``room``."""
        if self.files and in_memory_folder(folder):
            return f"{folder} lies in memory as well, set TMPDIR to a folder on a disk"
        least = self.process + LEAST_CACHE
        works = {s.name: s.work for s in self.stages}
        others = max(work for name, work in works.items() if name != UNIT_TRAINING)
        training, (size, growth) = works.get(UNIT_TRAINING, 0.0), self.batch
        if least + max(others, training) <= room:
            return f"set Global.memory_limit_mb={int(room * 0.95) >> 20}"
        fitting = int((room * 0.98 - least - training) / growth + size) if growth else 0
        if least + others <= room and 1 <= fitting < size:
            lower = self.limit > room
            return (f"set MRECG.batch_size={fitting}"
                    + (f" and Global.memory_limit_mb={int(room) >> 20}" if lower else ""))
        return (f"the model needs {_mib(least + others)} and more whatever the settings, so "
                + ("use a machine that has them" if self.limit > room else
                   f"set Global.memory_limit_mb={int(least + max(others, training)) // MIB + 1}"))


UNIT_TRAINING = "training a unit"


@dataclasses.dataclass
class Start:
    """Where a job stands: resident bytes without samples, and how many samples it will have."""

    process: float
    count: int


def tell(expected: Forecast, store: ActivationStore, place: Optional[str] = None):
    """Log what the job will hold, and give the store what the rest leaves to it.

    Args:
        expected(Forecast): of the job.
        store(ActivationStore): of its samples.
        place(str, optional): folder of the result. Default: None, nothing is written.

    Raises:
        OutputError: the temporary folder has no room for what does not stay in memory, or
            ``place`` none for the result.
    """
    text, *warnings = expected.sentences(store.directory)
    get_logger().info(text)
    for warning in warnings:
        get_logger().warning(warning)
    _refuse_full(expected, store.directory, place)
    store.bound(expected.cache)


def _refuse_full(expected: Forecast, temporary: str, place: Optional[str]):
    free = free_bytes(temporary)
    if expected.files > free:
        raise OutputError(f"{_mib(expected.files)} of samples and activations will not stay in "
                          f"memory, and the temporary folder '{temporary}' has "
                          f"{_mib(free)} left: set TMPDIR to a folder with more room, raise "
                          "Global.memory_limit_mb, set Global.cache_dtype=float16, or lower "
                          "Data.num_samples or Data.views")
    if place is None:
        return
    shared = expected.files if expected.files and same_disk(temporary, place) else 0.0
    free = free_bytes(place)
    if expected.result + shared > free:
        more = f" next to {_mib(shared)} of activations in '{temporary}'" if shared else ""
        raise OutputError(f"the result needs up to {_mib(expected.result)}{more}, and "
                          f"'{place}' has {_mib(free)} left: free space or choose another "
                          "Global.save_dir")


def return_freed_memory():
    """Hand back what this process has freed, where the C library can (glibc): between the steps of
    a job, for it lies in gaps that the next step's arrays may not fit into. Settings of the
    allocator stay as they are.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


def _mib(size: float) -> str:
    return f"{size / MIB:,.0f} MiB"
