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
from typing import Callable, Dict, List, Sequence, Tuple

from .graph import Graph, Op, weight_name
from .order import Liveness, arrange, is_constant
from .probe import Probe

STACKED_LAYERS = 3  # MQBench stacks this many layers that no shortcut spans
REGION_LAYERS = 10  # a region with more is cut where two or more activations are alive; an Inception-v3 block has 10


@dataclasses.dataclass
class Module:
    """The ops ``graph.ops[start:stop]``.

    Attributes:
        index(int): position among the modules.
        weights(list[str]): quantised weights.
        inputs(list[str]): activations read; graph inputs included, constants never.
        outputs(list[str]): activations that something behind the module reads.
        depth(int): number of quantised ops.
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
        return cls(module.index, [module], module.start, module.stop, list(module.inputs), list(module.outputs))

    def ops(self, graph: Graph) -> List[Op]:
        return graph.ops[self.start:self.stop]

    @property
    def weights(self) -> List[str]:
        return list(dict.fromkeys(w for m in self.modules for w in m.weights))

    @property
    def name(self) -> str:
        return " + ".join(m.name for m in self.modules)


def modules_of(graph: Graph, probe: Probe, is_quantized: Callable[[Op], bool], granularity: str = "block") -> List[Module]:
    """Cut a graph into modules; reorders ``graph.ops`` in place, see ``order.arrange``.

    Every quantised op that was reached is in exactly one module, and modules
    tile the ops from 0 to the last module's ``stop``. Ops behind that (softmax,
    decoding, unsupported ops) belong to no module.

    Args:
        graph(Graph): the folded graph.
        probe(Probe): what is known of its tensors.
        is_quantized(callable): whether an op's weight is quantised.
        granularity(str, optional): ``block``, or ``layer`` for one module per
            quantised op (AdaRound). Default: block.

    Returns:
        list[Module]: in execution order.
    """
    end = arrange(graph, probe, is_quantized)
    cutter = _Cutter(graph, probe, is_quantized, end)
    starts = cutter.layer_starts() if granularity == "layer" else cutter.block_starts()
    bounds = list(zip(starts, starts[1:] + [end]))
    modules = [_module(graph, probe, is_quantized, k, bound) for k, bound in enumerate(bounds)]
    # A result that cannot be cached per sample cannot be a target: such a last module stays at nearest rounding.
    while modules and not modules[-1].outputs:
        modules.pop()
    return modules


class _Cutter:
    """Finds where modules start."""

    def __init__(self, graph: Graph, probe: Probe, is_quantized, end: int):
        self.ops, self.probe = graph.ops[:end], probe
        self.liveness = Liveness(graph, probe, end)
        self.quantized = [p for p in range(end) if is_quantized(graph.ops[p])]
        self._counts = [0] * (end + 1)
        for p, op in enumerate(self.ops):
            self._counts[p + 1] = self._counts[p] + bool(is_quantized(op))
        self.end = end

    def count(self, start: int, stop: int) -> int:
        """Quantised ops in an interval."""
        return self._counts[stop] - self._counts[start]

    def layer_starts(self) -> List[int]:
        """One module per quantised op, wherever a cut lies between two of them."""
        starts = [0]
        for before, after in zip(self.quantized, self.quantized[1:]):
            place = self._best_cut(before + 1, after)
            if place is not None:
                starts.append(place)
        return starts if self.quantized else []

    def block_starts(self) -> List[int]:
        """Regions by themselves, layers stacked, everything without weights with what precedes it."""
        starts: List[int] = []
        last_end, layers, written = 0, 0, set()
        for start, stop in self._pieces(0, self.end, 1):
            count = self.count(start, stop)
            is_layer = count == 1 and self._is_single(start, stop)
            if count and not (starts and self._is_gate(start, stop)):
                follows = any(n in written for op in self.ops[start:stop] for n in op.input_names)
                if is_layer and 0 < layers < STACKED_LAYERS and follows:
                    layers += 1
                else:
                    starts.append(self._best_cut(last_end, start) if starts else 0)
                    layers, written = (1 if is_layer else 0), set()
            if count:
                last_end = stop
            written.update(n for op in self.ops[start:stop] for n in op.output_names)
        return starts

    def _pieces(self, start: int, stop: int, width: int) -> List[Tuple[int, int]]:
        """Intervals between cuts of at most ``width`` activations, finer where they hold too many layers."""
        liveness = self.liveness
        inner = [p for p in range(start + 1, stop) if liveness.allowed[p]]
        cuts = [start] + [p for p in inner if liveness.width[p] <= width] + [stop]
        pieces = []
        for a, b in zip(cuts, cuts[1:]):
            finer = self.count(a, b) > REGION_LAYERS and any(a < p < b for p in inner)
            pieces += self._pieces(a, b, width + 1) if finer else [(a, b)]
        return pieces

    def _is_single(self, start: int, stop: int) -> bool:
        return sum(not is_constant(op, self.probe) for op in self.ops[start:stop]) == 1

    def _best_cut(self, low: int, high: int):
        """The narrowest allowed cut in ``[low, high]``, the last of several; None when there is none."""
        places = [p for p in range(low, high + 1) if self.liveness.allowed[p]]
        return min(places, key=lambda p: (self.liveness.width[p], -p), default=None)

    def _is_gate(self, start: int, stop: int) -> bool:
        """Squeeze-and-excitation: its layers see one value per channel of the map that they scale.

        It acts on the layer before it like an activation, and so belongs to it.
        """
        shapes = self.probe.shapes
        read = {n for op in self.ops[start:stop] for n in op.input_names if self.probe.kind.get(n) == "sample"}
        read -= {n for op in self.ops[start:stop] for n in op.output_names}
        inner = [n for p in self.quantized if start <= p < stop for n in self.ops[p].output_names if n in shapes]
        return len(read) == 1 and all(_size(shapes[n]) <= _channels(shapes[x]) < _size(shapes[x]) for x in read for n in inner)


def _size(shape: Sequence[int]) -> int:
    """Elements per sample."""
    size = 1
    for d in shape[1:]:
        size *= d
    return size


def _channels(shape: Sequence[int]) -> int:
    return shape[1] if len(shape) > 1 else 1


def _module(graph: Graph, probe: Probe, is_quantized, index: int, bound: Tuple[int, int]) -> Module:
    start, stop = bound
    inside = [op for op in graph.ops[start:stop] if not is_constant(op, probe)]
    written = {n for op in inside for n in op.output_names}
    read = dict.fromkeys(n for op in inside for n in op.input_names)
    inputs = [n for n in read if n not in written and probe.kind.get(n, "constant") != "constant"]
    # The shape of a tensor can be asked for, without its values, in the tail.
    read_later = {n for op in graph.ops[stop:] if op.type != "shape" and not is_constant(op, probe) for n in op.input_names}
    outputs = [n for op in inside for n in op.output_names
               if (n in read_later or n in graph.outputs) and probe.kind.get(n) == "sample"]
    chosen = [op for op in inside if is_quantized(op)]
    weights = list(dict.fromkeys(weight_name(op, graph) for op in chosen))
    return Module(index, start, stop, weights, inputs, outputs, len(chosen), _readable(weights))


def _readable(weights: List[str]) -> str:
    stems = [w.replace(".w_0", "") for w in weights]
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
    behind = {n for op in graph.ops[modules[-1].stop:] if op.type != "shape" for n in op.input_names} if modules else set()
    behind.update(graph.outputs)
    readers: Dict[str, List[int]] = {}
    for module in modules:
        for n in module.inputs:
            readers.setdefault(n, []).append(module.index)
    units = []
    for k, (i, j) in enumerate(groups):
        members = modules[i:j + 1]
        written = {n for m in members for n in m.outputs}
        inputs = [n for n in dict.fromkeys(n for m in members for n in m.inputs) if n not in written]
        outputs = [n for m in members for n in m.outputs if n in behind or any(r > j for r in readers.get(n, ()))]
        units.append(Unit(k, members, members[0].start, members[-1].stop, inputs, outputs))
    return units
