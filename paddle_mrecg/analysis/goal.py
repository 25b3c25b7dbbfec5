# SPDX-License-Identifier: Apache-2.0
"""What a search looks for, and what it found."""
import dataclasses
import math
from typing import Collection, List, Mapping, Optional

from ..config.shared_rules import FLOAT_BITS
from ..errors import ConfigError
from . import BITS
from .tries import Try

DROP, MEAN, SIZE = "--max-drop (Goal.max_drop)", "--bits-average (Goal.bits)", "--size (Goal.size)"


@dataclasses.dataclass
class Goal:
    """What is looked for; one at least. ``max_drop`` goes with either of the others.

    Attributes:
        max_drop(float, optional): points of the metric (0.01 of a share), or percent of the
            output's variance without an evaluator.
        bits(float, optional): mean bits of the weights.
        size(float, optional): the same as bytes of all weights, codes packed tightly.
    """

    max_drop: Optional[float] = None
    bits: Optional[float] = None
    size: Optional[float] = None

    def check(self):
        """Raise ConfigError, with all that is wrong whatever the model."""
        drop, bits, size = self.max_drop, self.bits, self.size
        problems = []
        if drop is not None and not 0 <= drop < math.inf:
            problems.append(f"{DROP} is {drop:g}: give 0 or more")
        if bits is not None and not BITS[0] <= bits <= FLOAT_BITS:
            problems.append(f"{MEAN} is {bits:g}: give at least {BITS[0]}, at most {BITS[-1]}")
        if size is not None and not 0 < size < math.inf:
            problems.append(f"{SIZE} is {size:g}: give more than 0 bytes")
        if bits is not None and size is not None:
            problems.append(f"{MEAN} and {SIZE} are two goals for the same: leave out one")
        if drop is bits is size is None:
            problems.append(f"nothing is looked for: give {DROP}, {MEAN} or {SIZE}")
        if problems:
            raise ConfigError(problems)

    def check_range(self, elements: Mapping[str, int], quantized: Collection[str],
                    own: Mapping[str, int]):
        """Raise ConfigError for a size or an average that these weights cannot have.

        Args:
            elements(dict): weight -> number of its values, of all that may be quantized.
            quantized(collection): those that do not stay float.
            own(dict): weight -> bits, of those whose bits the config names.
        """
        if (self.bits or self.size) and set(own).issuperset(quantized):
            raise ConfigError("QuantPost.overrides names the bits of every layer, so that none are "
                              "left to choose: leave some layers out of it")
        total = sum(elements.values())
        free = sum(elements[n] for n in quantized if n not in own)
        fixed = sum(elements[n] * own.get(n, FLOAT_BITS) for n in elements
                    if n in own or n not in quantized)
        low, high = (bits * free + fixed for bits in (BITS[0], BITS[-1]))
        kept = ", those of QuantPost.overrides for its layers" if own else ""
        if any(n not in quantized for n in elements):
            kept += f", and {FLOAT_BITS} for what stays float"
        weights = f"with {BITS[0]} to {BITS[-1]} bits for each weight{kept}, this model comes to"
        if self.size is not None and not low <= 8 * self.size <= high:
            raise ConfigError(f"{SIZE} is {self.size:.10g} bytes: {weights} {math.ceil(low / 8)} "
                              f"to {high // 8} bytes; give a size from these")
        if self.size is None and self.bits is not None and not low <= self.bits * total <= high:
            raise ConfigError(f"{MEAN} is {self.bits:g}: {weights} "
                              f"{math.ceil(100 * low / total) / 100:g} to "
                              f"{math.floor(100 * high / total) / 100:g} on average; give a number "
                              "from these")

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
