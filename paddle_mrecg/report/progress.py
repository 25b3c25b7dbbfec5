# SPDX-License-Identifier: Apache-2.0
"""Progress in the host's look: one bar per stage on a terminal, plain lines elsewhere.

tqdm, not rich: PaddleSlim depends on it and draws its own bars with it.
"""
import logging
import shutil
import sys
import time
from typing import Optional

from tqdm import tqdm

from ..errors import plural
from .units import UnitReport

BAR_FORMAT = "{desc}:|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
OPEN_BAR_FORMAT = "{desc}: {n_fmt} [{elapsed}]{postfix}"  # length unknown: no time left to show
BAR_COLUMNS = 100  # or the terminal's width where that is less


class _AboveBarHandler(logging.Handler):
    """Writes lines to the present ``sys.stderr`` without tearing the bar
    that is being drawn there.
    """

    def emit(self, record):
        tqdm.write(self.format(record), file=sys.stderr)


def get_logger(name: str = "paddle_mrecg", level: int = logging.INFO) -> logging.Logger:
    """A logger in PaddleSlim's format, with its own handler, on stderr.

    Args:
        name(str, optional): logger name. Default: ``paddle_mrecg``.
        level(int, optional): level given to a logger that has none yet. Default: INFO.

    Returns:
        logging.Logger: the same object for the same name.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(h, _AboveBarHandler) for h in logger.handlers):
        handler = _AboveBarHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s-%(levelname)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(level)
    return logger


class Progress:
    """One stage: a bar with the time left, or a line at its start and one at its end.

    Args:
        stage(str): what is being done, e.g. ``Reconstruction``.
        total(int, optional): number of steps; None when unknown. Default: None.
        unit(str, optional): what one step is. Default: ``batch``.

    Attributes:
        seconds(float): duration, set when the stage ends.

    Examples:
        .. code-block:: python

            with Progress("Reconstruction", total=8 * 300, unit="iter") as bar:
                bar.text("layer2.0+layer2.1")
                bar.update(10)
    """

    def __init__(self, stage: str, total: Optional[int] = None, unit: str = "batch"):
        self.stage, self.total, self.unit = stage, total, unit
        self.done, self.seconds = 0, 0.0
        self._log = get_logger()

    def __enter__(self) -> "Progress":
        self._start = time.monotonic()
        terminal = sys.stderr.isatty()
        if not terminal:
            count = "" if self.total is None else f", {self.total} {plural(self.unit, self.total)}"
            self._log.info("%s stage%s", self.stage, count)
        # tqdm's own look-up hides the bar where a terminal reports no size
        size = shutil.get_terminal_size()
        self._bar = tqdm(total=self.total, desc=f"{self.stage} stage, Run {self.unit}",
                         file=sys.stderr,
                         disable=not terminal, ncols=min(BAR_COLUMNS, size.columns - 1),
                         nrows=size.lines, leave=False,
                         bar_format=OPEN_BAR_FORMAT if self.total is None else BAR_FORMAT)
        return self

    def update(self, steps: int = 1):
        """``steps`` more are done."""
        self.done += steps
        self._bar.update(steps)

    def text(self, text: str):
        """What is being worked on, shown behind the bar; nowhere without a terminal."""
        self._bar.set_postfix_str(text, refresh=False)

    def __exit__(self, kind, error, trace):
        self._bar.close()
        self.seconds = time.monotonic() - self._start
        if kind is None:
            self._log.info("%s stage done: %d %s in %s", self.stage, self.done,
                           plural(self.unit, self.done),
                           duration(self.seconds))
        else:
            total = "" if self.total is None else f" of {self.total}"
            self._log.info("%s stage stopped after %d%s %s", self.stage, self.done, total,
                           plural(self.unit, self.total or self.done))


def unit_line(unit: UnitReport, total: int) -> str:
    """One unit in one line.

    Args:
        unit(UnitReport): a finished unit.
        total(int): number of units.

    Returns:
        str: e.g. ``3/8 layer2.0+layer2.1 loss 0.0412 -> 0.0157 (soft
            0.0149, relative 1.2 %) 41 s``.
    """
    width = len(str(total))
    line = (f"{unit.index + 1:{width}d}/{total} {unit.name}  loss {unit.loss_start:.4g} -> "
            f"{unit.loss_hard:.4g} (soft {unit.loss_soft:.4g}, relative "
            f"{100 * unit.relative_hard:.2g} %)  {duration(unit.seconds)}")
    notes = ((["restored from the interrupted run"] if unit.restored else [])
             + ([unit.note] if unit.note else []))
    return line + (f"  [{'; '.join(notes)}]" if notes else "")


def duration(seconds: float) -> str:
    """``0.4 s``, ``41 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(round(seconds)), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rough_duration(seconds: float) -> str:
    """For predictions: ``half a minute``, ``a minute``, ``25 minutes``, ``3 hours``, ``5 days``."""
    for size, name, first in ((60.0, "minute", "a"), (3600.0, "hour", "an"), (86400.0, "day", "a")):
        count = int(round(seconds / size))
        if count < {"minute": 90, "hour": 48}.get(name, float("inf")):
            break
    if seconds < 45.0:
        return "half a minute"
    return f"{first} {name}" if count == 1 else f"{count} {name}s"
