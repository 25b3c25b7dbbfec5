# SPDX-License-Identifier: Apache-2.0
"""Where channels go in ops that join, cut, reshape or average: rules of ``graph.homogeneous``."""
import numpy as np

from .channels import FIXED, Channels, channel_rule


@channel_rule("concat")
def _concat(found, op):
    names = op.inputs["X"]
    known = [found.channels(n) for n in names]
    first = next((c for c in known if c is not None), None)
    if first is None or "AxisTensor" in op.inputs or any(
            c is not None and (c.rank, c.axis) != (first.rank, first.axis) for c in known):
        return False
    axis = op.attrs.get("axis", 0) % first.rank
    if axis == first.axis:
        parts = [c.classes if c is not None else _fixed_part(found, n, axis)
                 for n, c in zip(names, known)]
        if any(p is None for p in parts):
            return False
        found.put(op.output("Out"), Channels(first.rank, axis, np.concatenate(parts)))
        return True
    if any(c is None or len(c.classes) != len(first.classes) for c in known):
        return False
    for channels in known[1:]:
        found.tie(first.classes, channels.classes)
    found.put(op.output("Out"), first)
    return True


def _fixed_part(found, name, axis):
    info = found.graph.tensors.get(name)
    count = info.shape[axis] if info is not None and len(info.shape) > axis else -1
    return np.full(count, FIXED) if count > 0 else None


@channel_rule("split")
def _split(found, op):
    channels, names = found.channels(op.input("X")), op.outputs["Out"]
    if channels is None or "AxisTensor" in op.inputs or "SectionsTensorList" in op.inputs:
        return False
    parts = [channels.classes] * len(names)
    if op.attrs.get("axis", 0) % channels.rank == channels.axis:
        sections = list(op.attrs.get("sections") or ())
        count = len(channels.classes)
        if not sections:
            sections = [count // len(names)] * len(names)
        if -1 in sections:
            sections[sections.index(-1)] = count - sum(s for s in sections if s != -1)
        if len(sections) != len(names) or sum(sections) != count:
            return False
        parts = np.split(channels.classes, np.cumsum(sections)[:-1])
    for name, part in zip(names, parts):
        found.put(name, Channels(channels.rank, channels.axis, part))
    return True


@channel_rule("reduce_mean", "reduce_max", "reduce_sum")
def _reduce(found, op):
    channels = found.channels(op.input("X"))
    if channels is None or op.attrs.get("reduce_all", False):
        return False
    axes = op.attrs.get("dim", [0])
    axes = [a % channels.rank for a in (axes if isinstance(axes, (list, tuple)) else [axes])]
    if channels.axis in axes or not axes:
        return False
    if not op.attrs.get("keep_dim", False):
        channels = Channels(channels.rank - len(axes),
                            channels.axis - sum(a < channels.axis for a in axes), channels.classes)
    found.put(op.output("Out"), channels)
    return True


@channel_rule("flatten_contiguous_range")
def _flatten(found, op):
    """[N, C, 1, 1] to [N, C], or axes behind the channels into one."""
    x, result = (found.graph.tensors.get(n) for n in (op.input("X"), op.output("Out")))
    channels = found.channels(op.input("X"))
    if channels is None or x is None or result is None:
        return False
    start = op.attrs.get("start_axis", 1) % channels.rank
    ones = start == channels.axis and all(d == 1 for d in x.shape[channels.axis + 1:])
    if not ones and start <= channels.axis:
        return False
    found.put(op.output("Out"), Channels(len(result.shape), channels.axis, channels.classes))
    return True


@channel_rule("reshape2", "reshape", "squeeze2", "flatten2")
def _reshape(found, op):
    """[N, C, 1, 1] to [N, C]; other shapes are not followed."""
    x, result = (found.graph.tensors.get(n) for n in (op.input("X"), op.output("Out")))
    channels = found.channels(op.input("X"))
    if channels is None or x is None or result is None or channels.axis != 1:
        return False
    count = len(channels.classes)
    if any(d != 1 for d in x.shape[2:]) or list(result.shape[1:]) != [count]:
        return False
    found.put(op.output("Out"), Channels(2, 1, channels.classes))
    return True


@channel_rule("transpose2", "transpose")
def _transpose(found, op):
    channels = found.channels(op.input("X"))
    if channels is None:
        return False
    axes = [a % channels.rank for a in op.attrs["axis"]]
    found.put(op.output("Out"),
              Channels(channels.rank, axes.index(channels.axis), channels.classes))
    return True
