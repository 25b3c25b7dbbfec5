# SPDX-License-Identifier: Apache-2.0
"""How much the loss goes up and down along the network: the paper's oscillation, in numbers."""
import dataclasses
import math
from typing import Dict, List, Sequence, Tuple

from .units import UnitReport, relative_loss


def oscillation(losses: Sequence[float]) -> Dict[str, float]:
    """Measures of a loss-per-block curve.

    The paper shows oscillation only as a picture; these are its obvious sizes.

    Args:
        losses(list[float]): loss of every module; a unit's loss stands for each of its modules.

    Returns:
        dict: ``total_variation`` = sum |L_i - L_(i+1)|, ``sum_of_drops`` = sum
            max(0, L_i - L_(i+1)), ``max``.
    """
    steps = [float(b) - float(a) for a, b in zip(losses, losses[1:])]
    return dict(total_variation=math.fsum(abs(s) for s in steps),
                sum_of_drops=math.fsum(-s for s in steps if s < 0),
                max=max(losses, default=0.0))


@dataclasses.dataclass
class LossCurve:
    """Loss per module of one partition.

    Attributes:
        label(str): what the legend says.
        modules(list[int]): indices of the modules measured, ascending.
        losses(list[float]): per module, the loss of the unit that it belongs to.
        powers(list[float]): per module, the float power of that unit's output.
        spans(list[tuple]): (first, last) module of every unit, inclusive.
        inner(dict): module -> (loss, power) at the inner block ends of joined units.
    """

    label: str
    modules: List[int]
    losses: List[float]
    powers: List[float]
    spans: List[Tuple[int, int]]
    inner: Dict[int, Tuple[float, float]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_units(cls, label: str, units: Sequence[UnitReport],
                 loss: str = "loss_hard") -> "LossCurve":
        """The curve of finished units; ``loss`` is the field: loss_hard or loss_start."""
        curve = cls(label, [], [], [], [])
        for unit in units:
            curve.modules += range(unit.first_module, unit.last_module + 1)
            curve.losses += [getattr(unit, loss)] * len(unit.modules)
            curve.powers += [unit.power] * len(unit.modules)
            curve.spans.append((unit.first_module, unit.last_module))
            curve.inner.update({i.module: (getattr(i, loss), i.power) for i in unit.inner})
        return curve

    @property
    def relative_losses(self) -> List[float]:
        return [relative_loss(loss, power) for loss, power in zip(self.losses, self.powers)]

    def at_block_ends(self) -> "LossCurve":
        """The same network with the loss at every module's own end: what joining really
        does to the inner blocks.
        """
        ends = [self.inner.get(m, end)
                for m, end in zip(self.modules, zip(self.losses, self.powers))]
        return LossCurve(self.label, self.modules, [loss for loss, _ in ends],
                         [power for _, power in ends],
                         [(m, m) for m in self.modules])

    def measures(self) -> Dict[str, Dict[str, float]]:
        """``oscillation`` absolute and relative, as plotted and at the block ends."""
        ends = self.at_block_ends()
        return dict(absolute=oscillation(self.losses), relative=oscillation(self.relative_losses),
                    absolute_block_ends=oscillation(ends.losses),
                    relative_block_ends=oscillation(ends.relative_losses))
