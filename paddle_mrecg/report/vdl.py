# SPDX-License-Identifier: Apache-2.0
"""VisualDL: the host's viewer. Optional, and never a reason to stop."""
import errno
import os
from typing import Optional

import numpy as np

from ..machine import free_bytes
from .progress import get_logger
from .units import UnitReport

HISTOGRAM_VALUES = 200_000  # more values do not change a picture of 40 columns
HISTOGRAM_BUCKETS = 40
ROOM = 1 << 20  # bytes that a record surely fits into


class VisualDLWriter:
    """Scalars and histograms of a run; does nothing when VisualDL is
    switched off, absent or broken.

    Args:
        logdir(str): directory of the record file; view it with ``visualdl --logdir DIR``.
        enabled(bool, optional): False writes nothing. Default: True.

    Examples:
        .. code-block:: python

            with VisualDLWriter("output/quantized/visualdl") as board:
                board.step(unit=3, step=120, loss=0.02, round_term=11.5, beta=17.0, settled=0.4)
    """

    def __init__(self, logdir: str, enabled: bool = True):
        self._writer, self._logdir = None, logdir
        if enabled:
            self._writer = self._guard(lambda: _log_writer(logdir))

    def step(self, unit: int, step: int, loss: float, round_term: Optional[float] = None,
             beta: Optional[float] = None, settled: Optional[float] = None):
        """Training curves of one unit.

        Args:
            unit(int): index of the unit.
            step(int): optimizer step.
            loss(float): reconstruction loss of the batch.
            round_term(float, optional): weighted rounding term; None during warm-up. Default: None.
            beta(float, optional): its exponent. Default: None.
            settled(float, optional): share of h below 0.01 or above 0.99, in [0, 1]. Default: None.
        """
        for tag, value in (("loss", loss), ("round_term", round_term), ("beta", beta),
                           ("settled", settled)):
            if value is not None:
                self.scalar(f"training_of_unit_{unit:03d}/{tag}", value, step)

    def unit(self, unit: UnitReport):
        """End losses over the units: the oscillation curve, x = unit."""
        for tag in ("loss_start", "loss_soft", "loss_hard", "relative_hard", "seconds"):
            self.scalar(f"unit_by_unit/{tag}", getattr(unit, tag), unit.index)

    def scalar(self, tag: str, value: float, step: int):
        """One point of a curve."""
        if self._writer:
            self._guard(lambda: self._writer.add_scalar(tag=tag, value=float(value),
                                                        step=int(step)))

    def histogram(self, tag: str, values: np.ndarray, step: int):
        """A histogram of h, of a weight or of codes; large arrays are thinned evenly."""
        if not self._writer:
            return
        flat = np.asarray(values).reshape(-1)
        flat = flat[::max(1, flat.size // HISTOGRAM_VALUES)]
        self._guard(lambda: self._writer.add_histogram(tag=tag, values=flat, step=int(step),
                                                       buckets=HISTOGRAM_BUCKETS))

    def close(self):
        """Flush; call before the directory is moved."""
        if self._writer:
            self._guard(self._writer.close)
        self._writer = None

    def __enter__(self) -> "VisualDLWriter":
        return self

    def __exit__(self, *_):
        self.close()

    def _guard(self, call):
        try:
            # VisualDL's own thread would print, without a path, that it cannot write
            if free_bytes(self._logdir) < ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._logdir)
            return call()
        # Anything: a protobuf that does not fit VisualDL raises TypeError on import, others later.
        except Exception as error:  # pylint: disable=broad-except
            self._writer = None
            get_logger().warning("no VisualDL records from here on: %s: %s", type(error).__name__,
                                 error)
            return None


def _log_writer(logdir: str):
    from visualdl import LogWriter  # imported late: it is optional
    return LogWriter(logdir=logdir)
