# SPDX-License-Identifier: Apache-2.0
"""Loops and branches: carried from the file that is read to the file that is written, as they are.

A graph is a list of ops that write every tensor once. Loops and branches are not: their blocks
write the variables around them in place, and so do ops on arrays of tensors. All such ops, and
everything that depends on them, become one op of the graph, ``CARRIED``, which reads tensors and
writes tensors as any other; what it does is in its ``region``. Nothing inside is quantized. The
writer puts the ops of the region in its place.
"""
import dataclasses
import hashlib
from typing import Callable, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

from .graph import Graph, Op, TensorInfo

CARRIED = "control_flow"
# Of framework.proto: kinds of variables, and the type of an attribute that holds a block.
TENSOR, STEP_SCOPES, TENSOR_ARRAY, BLOCK_ATTR = 7, 11, 13, 8


@dataclasses.dataclass(eq=False)
class Region:
    """Ops in the order in which they run, a tensor may be written several times; never changed.

    A loop or a branch has a region of its own in the attribute ``sub_block``.

    Attributes:
        ops(list[Op]): the ops.
        tensors(dict[str, TensorInfo]): the variables that belong to this region.
        kinds(dict[str, int]): which of them are not tensors, and what they are.
        reads(list[str]): inside of ``CARRIED``, the name here of each of the op's inputs.
        writes(list[str]): the same of its outputs.
    """

    ops: List[Op]
    tensors: Dict[str, TensorInfo]
    kinds: Dict[str, int]
    reads: List[str] = dataclasses.field(default_factory=list)
    writes: List[str] = dataclasses.field(default_factory=list)

    @property
    def names(self) -> List[str]:
        """Of all variables that belong to this region."""
        return list({**self.tensors, **self.kinds})

    def __repr__(self):
        said = repr([(op, op.attrs) for op in self.ops])
        return f"Region({len(self.ops)} ops, {hashlib.sha256(said.encode()).hexdigest()[:16]})"


def blocks_of(op: Op) -> List[Region]:
    """The regions that ``op`` runs."""
    return [value for value in op.attrs.values() if isinstance(value, Region)]


def has_arrays(op: Op) -> bool:
    """Whether ``op`` runs ops on arrays of tensors."""
    return any(TENSOR_ARRAY in region.kinds.values() for region in blocks_of(op))


def all_ops(ops: Iterable[Op]) -> Iterator[Op]:
    """``ops`` and all ops inside them."""
    for op in ops:
        yield op
        for region in blocks_of(op):
            yield from all_ops(region.ops)


def read_by(ops: Iterable[Op]) -> Set[str]:
    """Every name that one of ``ops`` or something inside it reads."""
    return {name for op in all_ops(ops) for name in op.input_names}


def written_by(ops: Iterable[Op]) -> Set[str]:
    """Every name that one of ``ops`` or something inside it writes."""
    return {name for op in all_ops(ops) for name in op.output_names}


def inside(graph: Graph) -> Iterator[Tuple[Op, Dict[str, str]]]:
    """Ops that are carried, and the names in the graph of what they read there."""
    for op in graph.ops:
        if op.type == CARRIED:
            region = op.attrs["region"]
            names = dict(zip(region.reads, op.input_names))
            yield from ((each, names) for each in all_ops(region.ops))


def op_types(ops: Iterable[Op]) -> Set[str]:
    """Types of ``ops`` and of all ops inside them, without ``CARRIED`` itself."""
    return {op.type for op in all_ops(ops)} - {CARRIED}


def apart(ops: Sequence[Op], kinds: Dict[str, int]) -> Tuple[List[Op], List[Op]]:
    """Ops that stay ops of the graph, and those that are carried, each in order.

    Carried is what has a block, what touches a variable that is not a tensor, what reads a
    carried result, what writes a tensor that was carried or read there before, and the copies
    that a loop's variables start from.
    """
    plain, carried, read, written = [], [], set(), set()
    for op in ops:
        reads, writes = read_by([op]), written_by([op])
        if (blocks_of(op) or any(n in kinds for n in reads | writes) or reads & written
                or writes & (read | written)):
            carried.append(op)
            read |= reads
            written |= writes
        else:
            plain.append(op)
    if not carried:
        return plain, carried
    alone = written - read_by(plain)
    started = [op for op in plain if op.type == "assign" and alone.issuperset(op.output_names)]
    return [op for op in plain if op not in started], started + carried


def carry(carried: List[Op], graph: Graph, outside: Dict[str, str], kinds: Dict[str, int]) -> None:
    """Append one op that does what ``carried`` does, and give the graph's outputs their last names.

    Args:
        carried(list[Op]): ops with names of the file; may be empty.
        graph(Graph): its ops, parameters and inputs are complete, and its outputs have the names
            of the file.
        outside(dict[str, str]): names of the file that are tensors of the graph -> their names
            there.
        kinds(dict[str, int]): variables that are not tensors.
    """
    written = written_by(carried)
    # A tensor of the graph is written once: what is written in place here is a copy of it.
    copies = {n: graph.unique_name(f"{n}.carried") for n in sorted(written & set(outside))}
    graph.tensors.update({new: dataclasses.replace(graph.tensors[n], name=new)
                          for n, new in copies.items()})
    writes = [copies.get(n, n) for n in dict.fromkeys(graph.outputs) if n in written]
    graph.outputs = [copies.get(n, n) if n in written else outside.get(n, n) for n in graph.outputs]
    if not writes:
        return
    reads = sorted((set(copies) | read_by(carried)) & set(outside))
    ops = ([Op("assign", {"X": [n]}, {"Out": [new]}) for n, new in copies.items()]
           + [renamed(op, copies) for op in carried])
    own = {n for op in ops for n in op.input_names + op.output_names}.difference(reads, writes)
    region = Region(ops, {n: graph.tensors[n] for n in sorted(own & set(graph.tensors))},
                    {n: kind for n, kind in kinds.items() if n in own}, reads, writes)
    graph.ops.append(Op(CARRIED, {"X": [outside[n] for n in reads]}, {"Out": list(writes)},
                        {"region": region}))


def renamed(op: Op, names: Dict[str, str]) -> Op:
    """A copy of ``op``, and of what is inside it, with other names."""
    if not names:
        return op
    attrs = {key: _renamed_region(value, names) if isinstance(value, Region) else value
             for key, value in op.attrs.items()}
    inputs, outputs = ({slot: [names.get(n, n) for n in given] for slot, given in slots.items()}
                       for slots in (op.inputs, op.outputs))
    return Op(op.type, inputs, outputs, attrs)


def _renamed_region(region: Region, names: Dict[str, str]) -> Region:
    return Region([renamed(op, names) for op in region.ops],
                  {names.get(n, n): dataclasses.replace(t, name=names.get(n, n))
                   for n, t in region.tensors.items()},
                  {names.get(n, n): kind for n, kind in region.kinds.items()})


def rewritten(op: Op, change: Callable[[Op], Op]) -> Op:
    """``change(op)``, with everything inside of it changed alike; ``op`` stays as it is."""
    op = change(op)
    if not blocks_of(op):
        return op
    attrs = {key: dataclasses.replace(value, ops=[rewritten(o, change) for o in value.ops])
             if isinstance(value, Region) else value for key, value in op.attrs.items()}
    return Op(op.type, op.inputs, op.outputs, attrs, op.alone)


def in_place(op: Op, taken: Set[str]) -> Region:
    """The region of a ``CARRIED`` op with the names of the graph around it.

    Args:
        op(Op): the op, with the graph's present names.
        taken(set[str]): names that nothing private may have; those used here are added.
    """
    region = op.attrs["region"]
    names = dict(zip(region.reads + region.writes, op.input_names + op.output_names))
    for name in _private(region):
        if name not in names:
            new, k = name, 0
            while new in taken:
                k += 1
                new = f"{name}.{k}"
            taken.add(new)
            if new != name:
                names[name] = new
    return _renamed_region(region, {old: new for old, new in names.items() if old != new})


def _private(region: Region) -> Iterator[str]:
    yield from region.names
    for op in all_ops(region.ops):
        for inner in blocks_of(op):
            yield from inner.names
