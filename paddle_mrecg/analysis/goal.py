# SPDX-License-Identifier: Apache-2.0
"""What a search looks for, and what it found."""
import dataclasses
from typing import List, Optional

from .tries import Try


@dataclasses.dataclass
class Goal:
    """What is looked for; one at least.

    Attributes:
        max_drop(float, optional): points of the metric (0.01 of a share), or percent of the
            output's variance without an evaluator.
        bits(float, optional): mean bits of the weights.
        size(float, optional): the same as bytes of all weights, codes packed tightly.
    """

    max_drop: Optional[float] = None
    bits: Optional[float] = None
    size: Optional[float] = None

    def reached(self, found: Optional[Try]) -> bool:
        """Whether a try is good enough."""
        if found is None:
            return False
        return ((self.max_drop is None or found.loss <= self.max_drop)
                and (self.bits is None or found.bits <= self.bits + 1e-6))


@dataclasses.dataclass
class AutoResult:
    """What ``auto`` found.

    Attributes:
        best(Try): the setting that was taken.
        reached(bool): whether it keeps to the goal.
        tries(list[Try]): all, in order.
        save_dir(str): the model and its report; ``resolved_config.yaml`` there is the recipe.
        recipe(str): the recipe as a file of its own.
        metric(str): whose points losses are counted in; empty for percent of the output's
            variance.
    """

    best: Try
    reached: bool
    tries: List[Try]
    save_dir: str
    recipe: str
    metric: str

    @property
    def unit(self) -> str:
        """What losses are counted in."""
        return f"points of {self.metric}" if self.metric else "percent of the output's variance"

    def table(self) -> str:
        """What each try bought, one line each."""
        lines = [f"{'try':>3}  {'loss':>9}  {'change':>9}  {'bits':>5}  what ({self.unit})"]
        for k, found in enumerate(self.tries, 1):
            change = f"{found.loss - self.tries[k - 2].loss:+9.3f}" if k > 1 else " " * 9
            mark = "  <- taken" if found is self.best else ""
            lines.append(f"{k:3d}  {found.loss:9.3f}  {change}  {found.bits:5.2f}  "
                         f"{found.name}{mark}")
        return "\n".join(lines)
