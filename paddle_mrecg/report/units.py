# SPDX-License-Identifier: Apache-2.0
"""What happened to one unit, and the table of all units.

Losses are ||y - y_fp||^2 summed over channels, mean over samples and space
(post/unit_loss.py), measured on all calibration samples with nothing dropped.
"""
import csv
import dataclasses
import io
import math
from typing import Dict, List, Sequence

from ..files import csv_cell, write_text


@dataclasses.dataclass
class InnerLoss:
    """The output of a module inside a joined unit. Only ``MRECG.inner_weight`` trains on
    it, and the plotted curve would hide it.
    """

    module: int
    name: str
    loss_start: float
    loss_hard: float
    power: float

    @property
    def relative_start(self) -> float:
        return relative_loss(self.loss_start, self.power)

    @property
    def relative_hard(self) -> float:
        return relative_loss(self.loss_hard, self.power)


@dataclasses.dataclass
class UnitReport:
    """One reconstructed unit.

    ``loss_start`` is the unit before its training, with solved or nearest codes as the
    job has it, behind the reconstructed units before it (the quantized stream), so that
    start and hard differ by this unit's training alone. ``power`` is the float output's
    mean square in the losses' norm. ``curve`` holds (step, loss of its batch) at some steps.
    ``best_step`` is the step behind which the unit was
    best and kept; 0 is the start.
    """

    index: int
    name: str
    first_module: int
    modules: List[str]
    weights: int
    params: int
    iterations: int
    seconds: float
    loss_start: float
    loss_soft: float
    loss_hard: float
    power: float
    inner: List[InnerLoss] = dataclasses.field(default_factory=list)
    restored: bool = False
    note: str = ""
    curve: List[List[float]] = dataclasses.field(default_factory=list)
    best_step: int = 0

    def to_dict(self) -> Dict:
        """All fields and the relative losses."""
        inner = [dict(dataclasses.asdict(i), relative_start=i.relative_start,
                      relative_hard=i.relative_hard)
                 for i in self.inner]
        return dict(dataclasses.asdict(self), inner=inner, relative_start=self.relative_start,
                    relative_soft=self.relative_soft, relative_hard=self.relative_hard)

    @classmethod
    def from_dict(cls, entry: Dict) -> "UnitReport":
        """The reverse of ``to_dict``; null (JSON's word for a loss that
        was not finite) becomes NaN.
        """
        return cls(**dict(_fields(cls, entry),
                          inner=[InnerLoss(**_fields(InnerLoss, i)) for i in entry["inner"]]))

    @property
    def last_module(self) -> int:
        return self.first_module + len(self.modules) - 1

    @property
    def relative_start(self) -> float:
        return relative_loss(self.loss_start, self.power)

    @property
    def relative_soft(self) -> float:
        return relative_loss(self.loss_soft, self.power)

    @property
    def relative_hard(self) -> float:
        return relative_loss(self.loss_hard, self.power)


def _fields(cls, entry: Dict) -> Dict:
    """The entries that are fields of ``cls``; null becomes NaN."""
    known = {f.name for f in dataclasses.fields(cls)}
    return {k: math.nan if v is None else v for k, v in entry.items() if k in known}


def relative_loss(loss: float, power: float) -> float:
    """Loss as a share of the float output's power; 0 for an output that is always 0."""
    return loss / power if power > 0 else 0.0


UNITS_COLUMNS = ("index", "name", "first_module", "last_module", "weights", "params", "iterations",
                 "best_step", "seconds",
                 "loss_start", "loss_soft", "loss_hard", "power", "relative_start",
                 "relative_soft",
                 "relative_hard", "restored", "note")


def write_units_csv(path: str, units: Sequence[UnitReport]):
    """One row per unit, then one per inner block end of it (``index`` like ``3.1``).

    Args:
        path(str): file to write, replaced as a whole.
        units(list[UnitReport]): the units in order.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, UNITS_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for unit in units:
        writer.writerow({c: csv_cell(getattr(unit, c)) for c in UNITS_COLUMNS})
        for k, inner in enumerate(unit.inner):
            row = dict(index=f"{unit.index}.{k}", name=inner.name, first_module=inner.module,
                       last_module=inner.module,
                       loss_start=inner.loss_start, loss_hard=inner.loss_hard,
                       power=inner.power,
                       relative_start=inner.relative_start, relative_hard=inner.relative_hard,
                       note="inner end of a joined unit")
            writer.writerow({c: csv_cell(v) for c, v in row.items()})
    write_text(path, text.getvalue())
