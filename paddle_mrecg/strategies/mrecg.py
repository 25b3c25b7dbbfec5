# SPDX-License-Identifier: Apache-2.0
"""Mixed reconstruction granularity (MRECG, arXiv 2303.11906): which
neighbouring modules are joined.

Reconstruction losses oscillate along a network because neighbouring modules
differ in capacity; reconstructing such neighbours as one unit removes the
peaks. Every policy below is a function from numbers, one per module, to
*groups*: inclusive ranges ``(first, last)`` that tile the modules. What the
numbers are (capacities, losses of a first pass) and where the policies agree
with the paper is said with each.

Where the defaults depart from the paper and its code (the rest: README of this folder):

==================  =====================  ======================  ==============================
what                paper, released code   here                    why
==================  =====================  ======================  ==============================
compared losses     squared error, summed  over the float          the sum grows with the number
                    over channels          output's power          of channels
joined modules      k largest squared      wherever the loss       gives both partitions that
                    differences            drops                   figure 6 plots
a drop              not stated             more than 5 %           units of figure 6 end at 0.88
                                                                   to 1.00 of their last loss
largest unit        2 or 3 blocks          3 modules               each gives up its own target
steps of a unit     20,000                 20,000 per module       the sum does not depend on
                                                                   the partition
first pass          a full one before the  a tenth of the steps,   only the order of the losses
                    final one              deducted from them      is needed
joined losses       measured again         loss of the last        every measurement is another
                                           module; ``optimal``:    pass; 0.96 is about the mean
                                           x 0.96 for each join    of figure 6
QDrop's share of    one half               ``fast``: one half up   ResNet-20 W2A4, output error:
quantized elements                         to 4 activation bits,   7.00 % without dropping, 6.57
                                           then all                with
==================  =====================  ======================  ==============================
"""
import itertools
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ..config import LOSS_POLICIES, MRECG
from ..errors import ConfigError
from ..graph.graph import Graph, Op, weight_name
from ..graph.partition import Module, Plan, join, short_number

# Joined units end at 0.88 to 1.00 times the loss that their last module reached alone (figure 6 of
# the paper, digitised). So a predicted drop of a few percent is not evidence of a peak, and joining
# gains about 4 % per join.
PEAK_TOLERANCE = 0.05
JOIN_GAIN = 0.96

Groups = List[Tuple[int, int]]


def make_plan(graph: Graph, modules: List[Module], config: MRECG, bits: Dict[str, int],
              losses: Sequence[float] = None,
              powers: Sequence[float] = None,
              remeasure: Callable[[Groups], Sequence[float]] = None) -> Plan:
    """Apply the granularity policy of ``config``.

    Args:
        graph(Graph): the graph that was cut.
        modules(list[Module]): its modules.
        config(MRECG): ``granularity`` and the settings of that policy.
        bits(dict[str, int]): weight name -> bits.
        losses(Sequence[float], optional): loss of each module when it is
            reconstructed alone; the policies of ``config.LOSS_POLICIES`` need it.
            Default: None.
        powers(Sequence[float], optional): power of each module's float output
            in the same norm, for ``config.relative_loss``. Default: None.
        remeasure(callable, optional): groups -> loss of each group, for
            ``loss_peaks``. Default: None, losses of joined units are predicted.

    Returns:
        Plan: the units, with the numbers they were chosen by and a reason each.

    Raises:
        ConfigError: ``config.units`` is not a partition of the modules.
    """
    policy, scores = config.granularity, None
    top_k = len(modules) // 4 if config.top_k is None else config.top_k
    params = [sum(graph.params[w].size for w in m.weights) for m in modules]
    if policy in LOSS_POLICIES:
        if losses is None or len(losses) != len(modules):
            raise ValueError(f"policy '{policy}' needs one loss per module")
        scores = [float(v) for v in losses]
        if config.relative_loss and powers is not None:
            scores = [v / p if p > 0 else 0.0 for v, p in zip(scores, powers)]
    if policy == "explicit":
        groups = explicit(config.units, len(modules))
    elif policy == "modcap":
        scores = capacities(graph, modules, bits, config.stride_factor)
        comparable = [not config.homogeneous_only or a.depth == b.depth
                      for a, b in zip(modules, modules[1:])]
        groups = top_differences(scores, top_k, config.max_unit_modules, comparable)
    elif policy == "loss":
        groups = top_differences(scores, top_k, config.max_unit_modules)
    elif policy == "loss_peaks":
        groups = loss_peaks(scores, config.max_unit_modules, remeasure, partner=config.peak_partner)
    elif policy == "optimal":
        groups = optimal(scores, config.max_unit_modules, config.join_cost)
    else:
        groups = singles(len(modules))
    reasons = [_reason(config, group, scores) for group in groups]
    return Plan(modules, join(graph, modules, groups), policy, scores, reasons, params)


def singles(count: int) -> Groups:
    """Every module as a unit of its own: ``layer`` (AdaRound) and ``block`` (BRECQ, QDrop)."""
    return [(k, k) for k in range(count)]


def explicit(units: Sequence[Sequence[int]], count: int) -> Groups:
    """The user's ranges ``[first, last]``, which follow each other from module 0 on
    (``config.post_rules``).

    Args:
        units(list[list[int]]): both ends inclusive.
        count(int): number of modules.

    Raises:
        ConfigError: they do not end at the last module.
    """
    last = units[-1][1]
    if last != count - 1:
        raise ConfigError(f"MRECG.units: end at module {last}, and the last module is {count - 1}: "
                          "list all of them (`paddle-mrecg plan` with granularity block prints "
                          "their numbers)")
    return [(first, last) for first, last in units]


def capacities(graph: Graph, modules: Sequence[Module], bits: Dict[str, int],
               stride_factor: float) -> List[float]:
    """Data-free capacity of each module: the sum of params x bits x alpha over its layers (ModCap).

    ``alpha`` is ``stride_factor`` for convolutions of stride 2 and more, else 1.
    """
    return [sum(graph.params[weight_name(op, graph)].size * bits[weight_name(op, graph)]
                * _alpha(op, stride_factor)
                for op in graph.ops[m.start:m.stop]
                if weight_name(op, graph) in m.weights) for m in modules]


def _alpha(op: Op, stride_factor: float) -> float:
    return stride_factor if max(op.attrs.get("strides", [1])) > 1 else 1.0


def top_differences(scores: Sequence[float], top_k: int, max_modules: int,
                    comparable: Sequence[bool] = None) -> Groups:
    """Join the ``top_k`` neighbours with the largest squared difference (the paper's selection).

    Overlapping pairs unite; a pair that would make a unit too large is passed
    over for the next one.

    Args:
        scores(Sequence[float]): capacities or losses.
        top_k(int): pairs to join.
        max_modules(int): largest unit.
        comparable(Sequence[bool], optional): whether pair ``(i, i + 1)`` may
            be joined. Default: None, all may.
    """
    allowed = [i for i in range(len(scores) - 1) if comparable is None or comparable[i]]
    ranked = sorted(allowed, key=lambda i: (-(scores[i] - scores[i + 1])**2, i))
    return _unite(singles(len(scores)), ranked, max_modules, top_k)


def loss_peaks(losses: Sequence[float], max_modules: int,
               remeasure: Callable[[Groups], Sequence[float]] = None,
               rounds: Optional[int] = None, tolerance: float = PEAK_TOLERANCE,
               partner: str = "successor") -> Groups:
    """Join every module with its successor wherever the loss drops, look
    again, until nothing drops.

    On the losses of figure 6 (MobileNetV2) one round gives the partition that
    the paper plots as ModCap, and going on gives the one plotted as Loss
    MRECG, which is also the released one. Largest relative drops come first,
    so that the size limit costs the smallest.

    A unit that ends behind the peak no longer has the peak's own target; with
    few steps and few samples that costs more than joining gains. Joined with
    its predecessor instead (once), the peak keeps it, and the predecessor
    learns what the peak makes of its error.

    Args:
        losses(Sequence[float]): loss of each module alone.
        max_modules(int): largest unit.
        remeasure(callable, optional): groups -> loss of each group. Default:
            None, a group has the loss of its last module.
        rounds(int, optional): at most this many. Default: None, no limit.
        tolerance(float, optional): smaller relative drops are none. Default: 0.05.
        partner(str, optional): ``successor`` as in the paper, or
            ``predecessor``. Default: successor.
    """
    if partner == "predecessor":
        rounds = 1
    groups, current = singles(len(losses)), list(losses)
    for _ in itertools.count() if rounds is None else range(rounds):
        drops = [(a - b) / a if a > 0 else 0.0 for a, b in zip(current, current[1:])]
        ranked = sorted(range(len(drops)), key=lambda i: (-drops[i], i))
        peaks = [groups[i] for i in ranked if drops[i] > tolerance]
        pairs = ([j for _, j in peaks] if partner == "successor"
                 else [i - 1 for i, _ in peaks if i > 0])
        joined = _unite(groups, pairs, max_modules)
        if joined == groups:
            break
        groups = joined
        current = [losses[j] for _, j in groups] if remeasure is None else list(remeasure(groups))
    return groups


def _unite(groups: Groups, pairs: Sequence[int], max_modules: int,
           count: Optional[int] = None) -> Groups:
    """Join the groups on both sides of ``i | i + 1`` for each ``i``, in order,
    while they stay small enough.
    """
    first = {j: i for i, j in groups}  # last module -> first module
    for i in pairs:
        if count is not None and count <= 0:
            break
        j = next(last for last, start in first.items() if start == i + 1)
        if j - first[i] + 1 <= max_modules:
            first[j] = first.pop(i)
            count = None if count is None else count - 1
    return sorted((i, j) for j, i in first.items())


def optimal(losses: Sequence[float], max_modules: int, join_cost: float = 0.0) -> Groups:
    """The best of all partitions into units of at most ``max_modules``, by dynamic programming.

    A unit of modules ``i..j`` is predicted to end at
    ``losses[j] * 0.96 ** (j - i)``. Minimised is the sum of

    - every module's loss, taken as that of its unit: the area under the
      paper's loss curve;
    - every drop from one unit to the next: what is left of the oscillation;
    - ``join_cost`` times the mean loss, for every join.

    A module is so joined with its successor when that removes a peak, or when
    the successor's loss is hardly larger and training both together gains
    more than the first one's own target is worth. A steep rise is never
    joined, so curves that rise all the way give small units, flat and falling
    ones large units. Of equal partitions the one with fewer joins is taken.

    Args:
        losses(Sequence[float]): loss of each module alone.
        max_modules(int): largest unit.
        join_cost(float, optional): price of a join. Default: 0.
    """
    count = len(losses)
    price = join_cost * sum(losses) / max(1, count)
    best: Dict[Tuple[int, int], tuple] = {}  # last unit -> (cost, joins, units before)
    for j in range(count):
        for i in range(max(0, j - max_modules + 1), j + 1):
            loss = _predicted(losses, i, j)
            own = loss * (j - i + 1) + price * (j - i)
            before = [(0.0, 0, None)] if i == 0 else [
                (best[h, i - 1][0] + max(0.0, _predicted(losses, h, i - 1) - loss),
                 best[h, i - 1][1], (h, i - 1))
                for h in range(max(0, i - max_modules), i)]
            cost, joins, unit = min(before, key=lambda b: b[:2])
            best[i, j] = (cost + own, joins + j - i, unit)
    ends = [key for key in best if key[1] == count - 1]
    unit, groups = min(ends, key=lambda key: best[key][:2], default=None), []
    while unit is not None:
        groups.append(unit)
        unit = best[unit][2]
    return groups[::-1]


def _predicted(losses: Sequence[float], i: int, j: int) -> float:
    return losses[j] * JOIN_GAIN**(j - i)


def _reason(config: MRECG, group: Tuple[int, int], scores) -> str:
    i, j = group
    policy, relative = config.granularity, config.relative_loss
    if policy == "explicit":
        return "given in MRECG.units" if j > i else "alone"
    if j == i:
        return "one layer" if policy == "layer" else "alone"
    numbers = [_short(s, relative and policy in LOSS_POLICIES) for s in scores[i:j + 1]]
    if policy == "modcap":
        return "joined: capacities differ, " + " | ".join(numbers)
    what = "relative loss" if relative else "loss"
    falls = scores[j] < max(scores[i:j + 1])
    verb = ("drops" if falls
            else {"loss": "jumps", "loss_peaks": "peaks"}.get(policy, "hardly rises"))
    return f"joined: {what} {verb}, " + " -> ".join(numbers)


def _short(value: float, percent: bool) -> str:
    return f"{100 * value:.3g} %" if percent else short_number(value)
