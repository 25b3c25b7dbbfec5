# SPDX-License-Identifier: Apache-2.0
"""Run a quantized model on every runtime, compare with the simulation, and
say where they part and why.
"""
import dataclasses
from typing import Dict, List, Mapping, Sequence

import numpy as np

from ..compare import differences, furthest, in_front_of_choices, relative
from ...errors import ConfigError, ModelError, MrecgError
from ..lite.convert import convert
from ..lite.env import find_lite
from ..lite.table import OpRow
from ...graph.graph import Graph
from .causes import OPTIMIZATION, UNKNOWN, Cause, likely_cause
from .cut import Layer, cut, cut_feed, cut_points, layers
from .runtimes import RUN_SECONDS, RUNTIMES, Outcome, run_inference
from .shapes import by_sample, without_axes
from ..simulate import simulate

TOLERANCE = 0.01
AGREES, EDGE, DIFFERS, X86_ONLY, FAILED, ABSENT = (
    "agrees", "agrees but for rounding at the edge of a step", "differs", "differs on x86 only",
    "failed", "absent")
JITTER = 1e-6  # relative; what another order of float32 additions does


@dataclasses.dataclass
class LayerFinding:
    """A layer that one runtime computes differently from equal inputs.

    ``relative`` is the root mean square difference over that of the values,
    ``max_abs_diff`` in the values' unit.
    """

    name: str
    output: str
    op: str
    max_abs_diff: float
    relative: float
    cause: str
    cure: str
    x86_only: bool


@dataclasses.dataclass
class RuntimeFinding:
    """What one runtime did.

    ``status``: ``agrees``, ``agrees but for rounding at the edge of a step`` (every layer agrees on
    equal inputs, yet a last bit of a sum that rounds the other way changes the outputs),
    ``differs``, ``differs on x86 only`` (every layer beyond the tolerance
    has a cause that devices are free of), ``failed`` (crashed or refused the program) or
    ``absent`` (not installed). ``max_abs_diff``, ``mean_abs_diff`` and ``relative`` are of a whole
    run; ``worst_layer`` is the largest ``relative`` of the layers by themselves; ``findings`` are
    those beyond the tolerance.
    """

    runtime: str
    status: str
    why: str = ""
    max_abs_diff: float = None
    mean_abs_diff: float = None
    relative: float = None
    worst_layer: float = None
    findings: List[LayerFinding] = dataclasses.field(default_factory=list)
    notes: List[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class CheckReport:
    """All runtimes, and what ``paddle_lite_opt`` made of the program for ARM.

    ``jitter`` holds what a relative change of 1e-6 of every activation before rounding does to the
    simulation's outputs: a whole run cannot be expected to agree better.
    """

    samples: int
    layers: int
    tolerance: float
    max_abs_output: float
    jitter: Dict[str, float]
    runtimes: List[RuntimeFinding]
    lite_ops: List[OpRow]
    lite_why: str = ""

    @property
    def is_fine(self) -> bool:
        """False when a runtime failed or differs beyond the tolerance."""
        return all(r.status in (AGREES, EDGE, X86_ONLY, ABSENT) for r in self.runtimes)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return dict(dataclasses.asdict(self), is_fine=self.is_fine)


def check(graph: Graph, feed: Mapping[str, np.ndarray], runtimes: Sequence[str] = tuple(RUNTIMES),
          tolerance: float = TOLERANCE, seconds: int = RUN_SECONDS,
          arm: bool = True) -> CheckReport:
    """Compare runtimes with the simulation.

    Args:
        graph(Graph): a quantized program.
        feed(dict): input name -> samples along the first axis.
        runtimes(list[str], optional): of ``RUNTIMES``. Default: all.
        tolerance(float, optional): largest relative difference of one layer, root
            mean square. Default: 0.01.
        seconds(int, optional): limit per run of a runtime. Default: 300.
        arm(bool, optional): ask Paddle Lite's converter for its table of ops. Default: True.

    Raises:
        ConfigError: an unknown runtime.
        ModelError: none of the program's ops can be simulated, or it has no quantizer.
    """
    unknown = sorted(set(runtimes) - set(RUNTIMES))
    if unknown:
        raise ConfigError(f"no runtime '{unknown[0]}': choose one of {', '.join(RUNTIMES)}")
    points = cut_points(graph)
    if not points or not any("quantize" in op.type for op in graph.ops):
        raise ModelError(f"{graph.source} has no quantize_linear or fake_quantize_dequantize op: "
                         "check quantized models")
    values = simulate(graph, feed, points)
    points = [n for n in points if n in values]
    ends = [n for n in in_front_of_choices(graph) if n in values]
    shaken = simulate(graph, feed, ends, JITTER)
    cut_graph = cut(graph, points)
    job = _Job(graph, cut_graph, layers(cut_graph), feed, cut_feed(cut_graph, feed, values), values,
               ends, tolerance, seconds, furthest(values, shaken, ends))
    rows, why = _arm_table(graph) if arm else ([], "")
    return CheckReport(len(next(iter(feed.values()))), len(job.layers), tolerance,
                       max((float(np.abs(values[n]).max()) for n in ends), default=0.0), job.jitter,
                       [_judge(job, name) for name in runtimes], rows, why)


@dataclasses.dataclass
class _Job:
    """What all runtimes are given."""

    graph: Graph
    cut_graph: Graph
    layers: List[Layer]
    feed: Mapping[str, np.ndarray]
    cut_feed: Mapping[str, np.ndarray]
    values: Dict[str, np.ndarray]
    ends: List[str]
    tolerance: float
    seconds: int
    jitter: Dict[str, float]

    @property
    def limit(self) -> float:
        """How far apart whole runs may be that agree."""
        return max(self.tolerance, 3.0 * self.jitter.get("relative", 0.0))


def _arm_table(graph: Graph):
    try:
        return convert(graph, find_lite(), "arm").rows, ""
    except MrecgError as error:
        return [], str(error)


def _judge(job: _Job, name: str) -> RuntimeFinding:
    """One runtime: a whole run, then every layer separately."""
    graph = dataclasses.replace(job.graph, outputs=job.ends)
    whole = _outcome_of(job, name, graph, job.feed)
    if whole.outputs is None:
        found = _not_run(name, whole)
        if found.status == FAILED and _agrees_unoptimized(job, name):
            found.why += f"; because of {OPTIMIZATION.text}: {OPTIMIZATION.cure}"
        return found
    values, note = by_sample(graph, job.feed, job.values, whole.outputs)
    found = RuntimeFinding(name, AGREES, note, notes=list(whole.notes),
                           **furthest(values, whole.outputs, job.ends))
    parts = _outcome_of(job, name, job.cut_graph, job.cut_feed)
    if parts.outputs is None:
        found.notes.append(f"layers could not be compared: {parts.failure}")
        found.status = (AGREES if found.relative is not None and found.relative <= job.tolerance
                        else DIFFERS)
        return found
    values, _ = by_sample(job.cut_graph, job.cut_feed, job.values, parts.outputs)
    every = [_finding(job, layer, name, values[layer.output], parts.outputs[layer.output])
             for layer in job.layers]
    found.worst_layer = max(layer.relative for layer in every)
    found.findings = [layer for layer in every if layer.relative > job.tolerance]
    if found.findings:
        x86_only = all(layer.x86_only for layer in found.findings)
        found.status = X86_ONLY if x86_only else DIFFERS
    elif found.relative is None or found.relative > job.tolerance:
        found.status, found.why = _together(job, name, whole.outputs, found)
    if found.status == DIFFERS:
        _blame_optimization(job, name, found)
    return found


def _outcome_of(job: _Job, name: str, graph: Graph, feed) -> Outcome:
    ran = RUNTIMES[name](graph, feed, job.seconds)
    return dataclasses.replace(ran, outputs=ran.outputs and without_axes(ran.outputs, job.values))


def _blame_optimization(job: _Job, name: str, found: RuntimeFinding):
    """Where no cause is known, the runtime's rewriting of the graph may be it: if whole runs differ
    with it and agree without.
    """
    if found.relative is not None and found.relative <= job.limit:
        return
    unknown = [layer for layer in found.findings if layer.cause == UNKNOWN.text]
    if len(unknown) < len(found.findings) or not _agrees_unoptimized(job, name):
        return
    for layer in unknown:
        layer.cause, layer.cure = OPTIMIZATION.text, OPTIMIZATION.cure
    where = found.why.replace(": report this model", "")
    found.why = (f"{where}, " if where else "") + (f"because of {OPTIMIZATION.text}: "
                                                   f"{OPTIMIZATION.cure}")


def _agrees_unoptimized(job: _Job, name: str) -> bool:
    if name != "inference":
        return False
    plain = run_inference(*_up_to(job, job.ends), job.seconds, optimize=False)
    if plain.outputs is None:
        return False
    return furthest(job.values, plain.outputs, job.ends).get("relative", float("inf")) <= job.limit


def _together(job: _Job, name: str, outputs, found: RuntimeFinding):
    """Status and reason where layers agree one by one, but whole runs do not.

    The runtime shows all cut points of one whole run. If the simulation computes every one of them
    from the ones before as the runtime did, all that is left is values that lie on the edge between
    two steps.
    """
    points = list(job.cut_graph.outputs)
    seen = _outcome_of(job, name, *_up_to(job, points)).outputs
    if seen is None or any(n not in seen for n in points):
        expected = 3.0 * job.jitter.get("relative", 0.0)
        if found.relative is not None and found.relative <= expected:
            return EDGE, "a change of 1e-6 moves the outputs as far"
        return DIFFERS, "the layers agree one by one, but not together: report this model"
    again = simulate(job.cut_graph, cut_feed(job.cut_graph, job.feed, seen), points)
    wrong = [(relative(again[n], seen[n]), layer) for n, layer in zip(points, job.layers)]
    other = max((relative(outputs[n], seen[n]) for n in job.ends), default=0.0)
    if max(difference for difference, _ in wrong) > job.tolerance:
        layer = next(layer for difference, layer in wrong if difference > job.tolerance)
        return DIFFERS, f"at {layer.name}, in a whole run alone: report this model"
    if other > job.limit:
        return DIFFERS, ("the outputs change when tensors inside are read: the runtime's graph "
                         "optimization fuses across quantizers")
    return EDGE, _amplified(job, seen)


def _amplified(job: _Job, seen) -> str:
    apart = [relative(job.values[n], seen[n]) for n in job.cut_graph.outputs]
    first = next((layer for layer, far in zip(job.layers, apart) if far > job.tolerance),
                 job.layers[-1])
    return (f"amplified behind {first.name}: with equal inputs every layer agrees; a change of "
            f"1e-6 of the activations moves the simulation's outputs by "
            f"{100 * job.jitter.get('relative', 0.0):.2g} %")


def _up_to(job: _Job, names: Sequence[str]):
    """The program up to some tensors, and what it reads."""
    part = job.graph.up_to(names)
    return part, {n: job.feed[n] for n in part.inputs}


def _not_run(name: str, outcome: Outcome) -> RuntimeFinding:
    absent = any(text in outcome.failure
                 for text in ("lite-env", "not installed", "No module named"))
    return RuntimeFinding(name, ABSENT if absent else FAILED, outcome.failure)


def _finding(job: _Job, layer: Layer, runtime: str, expected: np.ndarray,
             actual: np.ndarray) -> LayerFinding:
    expected = expected.astype(np.float64)
    if actual.shape != expected.shape:
        cause = Cause(f"shape {list(actual.shape)} instead of {list(expected.shape)}",
                      "report this model")
        infinite = float("inf")
        return LayerFinding(layer.name, layer.output, layer.ops[-1].type, infinite, infinite,
                            cause.text, cause.cure, False)
    far = relative(expected, actual)
    cause = (likely_cause(layer, job.cut_graph, runtime, job.cut_feed) if far > job.tolerance
             else Cause("", ""))
    return LayerFinding(layer.name, layer.output, layer.ops[-1].type,
                        differences([(expected, actual)])["max_abs_diff"], far, cause.text,
                        cause.cure, cause.x86_only)
