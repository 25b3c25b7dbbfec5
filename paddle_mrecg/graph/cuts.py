# SPDX-License-Identifier: Apache-2.0
"""Where a graph can be cut, and which of these places start a module.

A *cut* before op ``p`` is described by the activations that were written
before it and are read at or after it: its width is their number.
"""
from typing import Dict, List, Sequence, Tuple

from .graph import Graph
from .probe import Probe

STACKED_LAYERS = 3  # MQBench stacks this many layers that no shortcut spans
# a region with more is cut where two or more activations are alive; an Inception-v3 block has 10
REGION_LAYERS = 10


class Liveness:
    """Widths of all cuts of the body.

    Attributes:
        width(list[int]): ``width[p]`` activations are alive before op ``p``.
            What only the tail reads does not count: nothing has to carry it
            on. A graph input counts once it has been read and will be again.
        allowed(list[bool]): whether all of them can be cached per sample.
    """

    def __init__(self, graph: Graph, probe: Probe, body: int):
        born = {n: p + 1 for p, op in enumerate(graph.ops[:body]) for n in op.output_names}
        reads: Dict[str, List[int]] = {}
        for p, op in enumerate(graph.ops[:body]):
            for n in () if probe.is_constant(op) else op.input_names:
                if probe.kind.get(n, "constant") == "constant":
                    continue
                if n in graph.inputs:
                    born.setdefault(n, p + 1)
                reads.setdefault(n, []).append(p)
        self._spans = [(born[n], positions) for n, positions in reads.items()]
        self._ends = [p for n, p in born.items()
                      if n not in reads and probe.kind.get(n) == "sample"]
        self.width, refused = [0] * (body + 1), [0] * (body + 1)
        for n, positions in reads.items():
            for p in range(born[n], positions[-1] + 1):
                self.width[p] += 1
                refused[p] += probe.kind[n] != "sample"
        self.allowed = [r == 0 for r in refused]

    def bypassing(self, first: int, stop: int) -> int:
        """Activations alive before ``first`` and at ``stop`` that no op between them reads."""
        return sum(born <= first and positions[-1] >= stop
                   and not any(first < p < stop for p in positions)
                   for born, positions in self._spans)

    def leaks(self, start: int, stop: int) -> bool:
        """Whether ops ``start .. stop - 1`` end in more than one place, one of them in
        the tail (detection heads).
        """
        ends = sum(start < p <= stop for p in self._ends)
        return (ends > 1 or ends == 1
                and any(start < born <= stop <= positions[-1] for born, positions in self._spans))


class Cutter:
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
        """Quantized ops in an interval."""
        return self._counts[stop] - self._counts[start]

    def layer_starts(self) -> List[int]:
        """One module per quantized op, wherever a cut lies between two of them."""
        starts = [0]
        for before, after in zip(self.quantized, self.quantized[1:]):
            place = self._best_cut(before + 1, after)
            if place is not None:
                starts.append(place)
        return starts if self.quantized else []

    def block_starts(self) -> List[int]:
        """Regions by themselves, layers stacked, everything without
        weights with what precedes it.
        """
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
        """Intervals between cuts of at most ``width`` activations.

        Finer where others bypass an interval: they do not make it a region of
        its own. Finer, too, where branches do not join again, or where a
        region holds too many layers.
        """
        liveness = self.liveness
        inner = [p for p in range(start + 1, stop) if liveness.allowed[p]]
        cuts = [start] + [p for p in inner if liveness.width[p] <= width] + [stop]
        pieces = []
        for a, b in zip(cuts, cuts[1:]):
            levels = sorted({liveness.width[p] for p in inner if a < p < b})
            if levels and (self.count(a, b) > REGION_LAYERS or liveness.leaks(a, b)):
                pieces += self._pieces(a, b, levels[0])
            elif levels and levels[0] <= liveness.bypassing(self._first(a), b) + 1:
                pieces += self._pieces(a, b, levels[0])
            else:
                pieces.append((a, b))
        return pieces

    def _first(self, start: int) -> int:
        """The first op from ``start`` on that is not a constant."""
        return next((p for p in range(start, self.end) if not self.probe.is_constant(self.ops[p])),
                    start)

    def _is_single(self, start: int, stop: int) -> bool:
        return sum(not self.probe.is_constant(op) for op in self.ops[start:stop]) == 1

    def _best_cut(self, low: int, high: int):
        """The narrowest allowed cut in ``[low, high]``, the last of
        several; None when there is none.
        """
        places = [p for p in range(low, high + 1) if self.liveness.allowed[p]]
        return min(places, key=lambda p: (self.liveness.width[p], -p), default=None)

    def _is_gate(self, start: int, stop: int) -> bool:
        """Squeeze-and-excitation: its layers see one value per channel of the map that they scale.

        It acts on the layer before it like an activation, and so belongs to it.
        """
        shapes, ops = self.probe.shapes, self.ops[start:stop]
        written = {n for op in ops for n in op.output_names}
        read = ({n for op in ops for n in op.input_names if self.probe.kind.get(n) == "sample"}
                - written)
        scaled = any(op.type == "elementwise_mul" and read & set(op.input_names) for op in ops)
        inner = [n for p in self.quantized if start <= p < stop for n in self.ops[p].output_names
                 if n in shapes]
        return (scaled and len(read) == 1 and all(_area(shapes[n]) == 1 for n in inner)
                and all(_area(shapes[n]) > 1 for n in read))


def _area(shape: Sequence[int]) -> int:
    """Positions per channel of a batch, channel, ... shape."""
    area = 1
    for d in shape[2:]:
        area *= d
    return area
