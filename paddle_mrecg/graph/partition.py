# SPDX-License-Identifier: Apache-2.0
"""Cut a graph into modules, the smallest pieces worth reconstructing, and join modules into units.

Modules follow the rule of MQBench's ``extract_block``, which BRECQ, QDrop and
MRECG share, stated on cuts instead of node names: a region between two cuts
that branches and joins again is a module; layers outside such regions are
stacked to at most three; what follows a module without weights of its own
(activation, pooling) belongs to it. On MobileNetV2, ResNet-18 and ResNet-50
this gives the published 18, 10 and 18 modules.

Feature pyramids have no cut with a single activation. There a module is
looked for between cuts of two activations, then three, and so on; modules and
units have as many inputs and outputs as it takes.
"""
import dataclasses
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from .cuts import Cutter
from .graph import Graph, Op, weight_name
from .order import arrange
from .probe import Probe

@dataclasses.dataclass
class Module:
    """The ops ``graph.ops[start:stop]``.

    Attributes:
        index(int): position among the modules.
        weights(list[str]): quantized weights.
        inputs(list[str]): activations read; graph inputs included, constants never.
        outputs(list[str]): activations that something behind the module reads.
        depth(int): number of quantized ops.
        name(str): for people, from the weights.
    """

    index: int
    start: int
    stop: int
    weights: List[str]
    inputs: List[str]
    outputs: List[str]
    depth: int
    name: str


@dataclasses.dataclass
class Unit:
    """Consecutive modules that are reconstructed as one."""

    index: int
    modules: List[Module]
    start: int
    stop: int
    inputs: List[str]
    outputs: List[str]

    @classmethod
    def single(cls, module: Module) -> "Unit":
        """A unit of one module."""
        return cls(module.index, [module], module.start, module.stop, list(module.inputs),
                   list(module.outputs))

    def ops(self, graph: Graph) -> List[Op]:
        return graph.ops[self.start:self.stop]

    @property
    def weights(self) -> List[str]:
        return list(dict.fromkeys(w for m in self.modules for w in m.weights))

    @property
    def name(self) -> str:
        return " + ".join(m.name for m in self.modules)


def modules_of(graph: Graph, probe: Probe, is_quantized: Callable[[Op], bool],
               granularity: str = "block") -> List[Module]:
    """Cut a graph into modules; reorders ``graph.ops`` in place, see ``order.arrange``.

    Every quantized op that was reached is in exactly one module, and modules
    tile the ops from 0 to the last module's ``stop``. Ops behind that (softmax,
    decoding, unsupported ops) belong to no module.

    Args:
        graph(Graph): the folded graph.
        probe(Probe): what is known of its tensors.
        is_quantized(callable): whether an op's weight is quantized.
        granularity(str, optional): ``block``, or ``layer`` for one module per
            quantized op (AdaRound). Default: block.

    Returns:
        list[Module]: in execution order.
    """
    end = arrange(graph, probe, is_quantized)
    cutter = Cutter(graph, probe, is_quantized, end)
    starts = cutter.layer_starts() if granularity == "layer" else cutter.block_starts()
    bounds = list(zip(starts, starts[1:] + [end]))
    modules = [_module(graph, probe, is_quantized, k, bound) for k, bound in enumerate(bounds)]
    # A result that cannot be cached per sample cannot be a target: such a last module
    # stays at nearest rounding.
    while modules and not modules[-1].outputs:
        modules.pop()
    return modules


def _module(graph: Graph, probe: Probe, is_quantized, index: int, bound: Tuple[int, int]) -> Module:
    start, stop = bound
    inside = [op for op in graph.ops[start:stop] if not probe.is_constant(op)]
    written = {n for op in inside for n in op.output_names}
    read = dict.fromkeys(n for op in inside for n in op.input_names)
    inputs = [n for n in read if n not in written and probe.kind.get(n, "constant") != "constant"]
    read_later = _read_from(op for op in graph.ops[stop:] if not probe.is_constant(op))
    outputs = [n for op in inside for n in op.output_names
               if (n in read_later or n in graph.outputs) and probe.kind.get(n) == "sample"]
    chosen = [op for op in inside if is_quantized(op)]
    weights = list(dict.fromkeys(weight_name(op, graph) for op in chosen))
    return Module(index, start, stop, weights, inputs, outputs, len(chosen),
                  _readable(weights or outputs or written))


def _read_from(ops: Iterable[Op]) -> Set[str]:
    """What ``ops`` read; asking for a shape needs no values."""
    return {n for op in ops if op.type != "shape" for n in op.input_names}


def _readable(names: Iterable[str]) -> str:
    stems = [name.replace(".w_0", "") for name in names]
    return stems[0] if len(stems) == 1 else f"{stems[0]} .. {stems[-1]}"


def join(graph: Graph, modules: List[Module], groups: Sequence[Tuple[int, int]]) -> List[Unit]:
    """Units from inclusive ranges of modules.

    Args:
        graph(Graph): the graph that ``modules_of`` cut.
        modules(list[Module]): its modules.
        groups(list[tuple[int, int]]): first and last module of each unit;
            they tile ``0 .. len(modules) - 1``.

    Raises:
        ValueError: the groups do not tile the modules.
    """
    if [k for i, j in groups for k in range(i, j + 1)] != list(range(len(modules))):
        raise ValueError(f"groups {list(groups)} do not tile {len(modules)} modules")
    behind = _read_from(graph.ops[modules[-1].stop:] if modules else ()) | set(graph.outputs)
    readers: Dict[str, List[int]] = {}
    for module in modules:
        for n in module.inputs:
            readers.setdefault(n, []).append(module.index)
    units = []
    for k, (i, j) in enumerate(groups):
        members = modules[i:j + 1]
        written = {n for m in members for n in m.outputs}
        inputs = [n for n in dict.fromkeys(n for m in members for n in m.inputs)
                  if n not in written]
        outputs = [n for m in members for n in m.outputs
                   if n in behind or any(r > j for r in readers.get(n, ()))]
        units.append(Unit(k, members, members[0].start, members[-1].stop, inputs, outputs))
    return units


def short_number(value: float) -> str:
    """Four digits, or a whole number with commas."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


@dataclasses.dataclass
class Plan:
    """Which modules are joined, and why.

    Attributes:
        modules(list[Module]): all modules.
        units(list[Unit]): what is reconstructed together.
        policy(str): name of the granularity policy.
        scores(list[float], optional): one per module: capacity or loss. Default: None.
        reasons(list[str]): one per unit.
        params(list[int]): quantized weight elements of each module.
    """

    modules: List[Module]
    units: List[Unit]
    policy: str
    scores: Optional[List[float]]
    reasons: List[str]
    params: List[int]

    @property
    def groups(self) -> List[Tuple[int, int]]:
        """First and last module of each unit."""
        return [(u.modules[0].index, u.modules[-1].index) for u in self.units]

    def to_dict(self) -> Dict:
        """Everything, for ``plan.json``."""
        modules = [dict(dataclasses.asdict(m), params=p) for m, p in zip(self.modules, self.params)]
        for k, score in enumerate(self.scores or ()):
            modules[k]["score"] = float(score)
        units = [dict(index=u.index, modules=list(group), inputs=u.inputs, outputs=u.outputs,
                      weights=u.weights,
                      reason=reason)
                 for u, group, reason in zip(self.units, self.groups, self.reasons)]
        return dict(policy=self.policy, modules=modules, units=units)

    def table(self) -> str:
        """One line per unit, fixed width."""
        head = ("unit", "modules", "ops", "weights", "params", "in/out", "score", "layers", "why")
        rows = [self._row(u, group, reason)
                for u, group, reason in zip(self.units, self.groups, self.reasons)]
        widths = [max(len(row[c]) for row in [head] + rows) for c in range(len(head))]
        left = {1, 7, 8}
        return "\n".join("  ".join(cell.ljust(w) if c in left else cell.rjust(w)
                                   for c, (cell, w) in enumerate(zip(row, widths))).rstrip()
                         for row in [head] + rows)

    def _row(self, unit: Unit, group: Tuple[int, int], reason: str):
        i, j = group
        score = " ".join(short_number(s) for s in self.scores[i:j + 1]) if self.scores else ""
        layers = _readable(unit.weights)
        return (str(unit.index), str(i) if i == j else f"{i}-{j}", str(unit.stop - unit.start),
                str(len(unit.weights)),
                f"{sum(self.params[i:j + 1]):,}", f"{len(unit.inputs)}/{len(unit.outputs)}", score,
                layers, reason)
