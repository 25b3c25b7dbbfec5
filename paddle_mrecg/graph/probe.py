# SPDX-License-Identifier: Apache-2.0
"""Run a graph on a few samples and learn what each tensor is.

Only tensors with one slice per sample on axis 0 can be cached and re-sampled
between units. Shapes in the program do not tell: batch dimensions are -1, and
so are fused ones. So the graph runs twice, on 2 and on 3 samples; on 1, too, where a
batch of one was written into it.
"""
import dataclasses
import time
from typing import Dict, Iterable, List, Sequence, Tuple

import numpy as np
import paddle

from ..errors import DataError, ModelError, UnsupportedOpError, refuse_large, said
from .alone import CannotJoin, close, run_alike
from .graph import WEIGHT_SLOTS, Graph, Op, activation_name, weight_name
from .ops import has_gradient, run_op
from .ops.registry import ASKS_FOR_SHAPE

_COUNTS = (2, 3)


@dataclasses.dataclass
class Probe:
    """What the tensors of a graph are; parameters are not listed.

    Attributes:
        shapes(dict[str, tuple]): shape for one sample; ``-1`` first for
            ``sample`` tensors, the shape seen with 2 samples for the others.
        kind(dict[str, str]): ``sample``: axis 0 is the batch, and slice i
            depends on sample i only. ``constant``: depends on neither the
            samples nor their number. ``other``: the rest (batch on another
            axis or fused with one, numbers that depend on the batch size).
        constants(dict[str, np.ndarray]): values of the ``constant`` tensors.
        unreached(dict[Op, str]): ops that cannot run in dygraph, or that take one sample at a time
            and write what cannot be joined, and why; their results have no kind.
        unsupported(list[Op]): those of them that are not a follow-up of another.
        forward_only(list[Op]): ops that only the Executor runs; no gradient passes through them.
        one_by_one(bool): some op takes one sample at a time only.
        op_seconds(dict[Op, float]): that an op takes, for one sample; of the last run, for the
            first pass of a process is slow.
    """

    shapes: Dict[str, Tuple[int, ...]] = dataclasses.field(default_factory=dict)
    kind: Dict[str, str] = dataclasses.field(default_factory=dict)
    constants: Dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    unreached: Dict[Op, str] = dataclasses.field(default_factory=dict)
    unsupported: List[Op] = dataclasses.field(default_factory=list)
    forward_only: List[Op] = dataclasses.field(default_factory=list)
    one_by_one: bool = False
    op_seconds: Dict[Op, float] = dataclasses.field(default_factory=dict)

    def seconds(self, ops: Iterable[Op]) -> float:
        """What a pass through these ops takes, for one sample."""
        return sum(self.op_seconds.get(op, 0.0) for op in ops)

    def is_constant(self, op: Op) -> bool:
        """True when nothing that ``op`` writes depends on the samples."""
        written = [n for n in op.output_names if n in self.kind]
        return bool(written) and all(self.kind[n] == "constant" for n in written)


def probe(graph: Graph, feed: Dict[str, np.ndarray]) -> Probe:
    """Run ``graph`` on 2 and on 3 samples and classify every tensor.

    Where an op fails so, a batch of one may be written into it: the graph runs on 1 sample as well,
    and ops that must have theirs one by one are marked (``Op.alone``).

    Args:
        graph(Graph): the graph to run.
        feed(dict[str, np.ndarray]): at least one sample per graph input,
            batch first; fewer than three are repeated.

    Returns:
        Probe: shapes, kinds, constants and what could not run.

    Raises:
        DataError: an input is missing or not finite, or a layer reads or computes values that
            ``errors.refuse_large`` refuses.
        ModelError: an activation is not finite, or an op cannot run on samples of this size.
    """
    for op in graph.ops:
        op.alone = ()
    try:
        return _probe(graph, feed, _COUNTS)
    except _Failed:
        pass
    try:
        return _probe(graph, feed, (1, *_COUNTS))
    except _Failed as failed:
        op, error = failed.args[0], failed.__cause__
        sizes = ", ".join(f"{n} {list(np.shape(feed[n])[1:])}" for n in graph.inputs)
        raise ModelError(
            f"op {op.type} -> '{op.output_names[0]}' fails on one sample of {sizes} too "
            f"({said(error)}): give calibration data of the size that the model was "
            "exported for; if it has that size, express the op with others and export again"
        ) from error


def _probe(graph: Graph, feed, counts: Sequence[int]) -> Probe:
    result = Probe(one_by_one=1 in counts)
    params = {name: paddle.to_tensor(value) for name, value in graph.params.items()}
    runs = [dict(params, **_samples(graph, feed, count)) for count in counts]
    data_free, finite = set(graph.params), _Finite(graph)
    for name in graph.inputs:
        _classify(name, runs[-2:], False, result)
    last_reader = {name: op for op in graph.ops for name in op.input_names}
    for op in graph.ops:
        written = _probe_op(op, runs, counts, data_free, result)
        free = op.type in ASKS_FOR_SHAPE or all(n in data_free for n in op.input_names if n)
        for name in written:
            if free:
                data_free.add(name)
            _classify(name, runs[-2:], free, result)
            finite.check(op, name, runs[-1][name].numpy())
        _check_size(op, runs[-1], graph)
        for name in [*op.input_names, *written]:
            # large images: hold no more than a forward pass does
            if last_reader.get(name) in (op, None):
                for values in runs:
                    values.pop(name, None)
    return result


def _samples(graph: Graph, feed, count: int) -> Dict[str, paddle.Tensor]:
    chosen = {}
    for name in graph.inputs:
        if name not in feed or len(feed[name]) == 0:
            raise DataError(f"no samples for the model's input '{name}'; the data has "
                            f"{sorted(feed)}")
        value = np.asarray(feed[name])
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise DataError(f"the samples of input '{name}' hold NaN or Inf; check the "
                            "preprocessing and the files")
        chosen[name] = paddle.to_tensor(value[np.arange(count) % len(value)])
    return chosen


def _probe_op(op: Op, runs: List[Dict[str, paddle.Tensor]], counts: Sequence[int], data_free,
              result: Probe) -> List[str]:
    """Run one op in all runs; returns what it wrote, nothing when it cannot run.

    Raises:
        _Failed: it does not run, on one sample where there is a run on one.
    """
    blocked = [n for n in op.input_names if n and n not in runs[0]]
    if blocked:
        result.unreached[op] = f"reads '{blocked[0]}', which could not be computed"
        return []
    try:
        with paddle.no_grad():
            written = _run(op, runs, counts, data_free, result)
    except UnsupportedOpError as error:
        result.unsupported.append(op)
        result.unreached[op] = str(error)
        return []
    except CannotJoin as error:
        result.unsupported.append(op)
        result.unreached[op] = (f"fails on a batch of {_COUNTS[0]} samples "
                                f"({said(error)}), though one alone runs")
        return []
    except Exception as error:  # whatever a kernel raises
        raise _Failed(op) from error
    for values, outputs in zip(runs, written):
        values.update(outputs)
    if not has_gradient(op):
        result.forward_only.append(op)
    return list(written[0])


def _run(op: Op, runs, counts: Sequence[int], data_free, result: Probe):
    """What the op writes in each run; the time of the last one counts, where they are apart."""
    if 1 in counts:
        begin, samples = time.perf_counter(), sum(counts)
        written = run_alike(op, runs, counts, data_free)
    else:
        written = [run_op(op, values) for values in runs[:-1]]
        begin, samples = time.perf_counter(), counts[-1]
        written.append(run_op(op, runs[-1]))
    result.op_seconds[op] = (time.perf_counter() - begin) / samples
    return written


class _Failed(Exception):
    """An op raised; the cause is what it raised."""


def _classify(name: str, runs: List[Dict[str, paddle.Tensor]], data_free: bool, result: Probe):
    two, three = (values[name].numpy() for values in runs)
    same_shape = two.shape == three.shape
    if data_free and same_shape and np.array_equal(two, three):
        result.kind[name], result.shapes[name], result.constants[name] = "constant", two.shape, two
        return
    per_sample = (two.ndim > 0 and (len(two), len(three)) == _COUNTS
                  and two.shape[1:] == three.shape[1:]
                  and close(two, three[:len(two)]))
    result.kind[name] = "sample" if per_sample else "other"
    result.shapes[name] = (-1,) + two.shape[1:] if per_sample else two.shape


def _check_size(op: Op, values: Dict[str, paddle.Tensor], graph: Graph):
    """Name a layer that reads or computes what no sum of squares can hold."""
    weight = weight_name(op, graph)
    for name in (activation_name(op), *op.output_names) if weight else ():
        if name in values:
            try:
                refuse_large(float(np.abs(values[name].numpy()).max(initial=0.0)))
            except DataError as error:
                raise DataError(f"activation '{name}' of the layer with weight '{weight}': "
                                f"{error}") from error


class _Finite:
    """Which tensors may hold Inf or NaN: masks do on purpose, what a layer computes may not."""

    def __init__(self, graph: Graph):
        self.outputs, self.readers = graph.outputs, graph.consumers()
        self.infinite = {n for n, v in graph.params.items() if _is_infinite(v)}

    def check(self, op: Op, name: str, value: np.ndarray):
        if not _is_infinite(value):
            return
        on_purpose = (self.infinite.intersection(op.input_names)
                      or any(_is_spelled(v) for v in op.attrs.values())
                      or self._is_clipped(name, value))
        self.infinite.add(name)
        if not on_purpose or op.type in WEIGHT_SLOTS or (
                name in self.outputs and np.isnan(value).any()):
            raise ModelError(f"activation '{name}' holds NaN or Inf on the calibration samples "
                             "although the inputs are finite; check the model's weights "
                             "and the preprocessing")

    def _is_clipped(self, name: str, value: np.ndarray) -> bool:
        """Whether all that reads it brings infinite values back, as YOLOF does with exp(x)."""
        readers = self.readers.get(name, ())
        return (bool(readers) and all(op.type == "clip" for op in readers)
                and not np.isnan(value).any())


def _is_infinite(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and not np.isfinite(value).all()


def _is_spelled(value) -> bool:
    """An attribute that is infinite or NaN, as a number or as text."""
    try:
        return not isinstance(value, (list, bool)) and not np.isfinite(float(value))
    except (TypeError, ValueError):
        return False
