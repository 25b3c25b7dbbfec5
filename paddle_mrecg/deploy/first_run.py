# SPDX-License-Identifier: Apache-2.0
"""Before anything is trained: the float program, as it will be written, runs in Paddle Inference.

What would otherwise be found after hours is found in seconds: an op that Paddle Inference does not
run, a crash inside Paddle, an attribute that was read wrongly.
"""
import dataclasses
import hashlib
import os
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..errors import ModelError
from ..graph.graph import Graph
from ..graph.writer import save_program
from ..scratch import scratch_folder
from .apart import Ran, run_apart
from .compare import in_front_of_choices, largest, worst
from .simulate import simulate

FLOAT_TOLERANCE = 1e-4  # of a tensor's largest value
HALF_TOLERANCE = 1e-3  # float16 inside rounds to steps of 5e-4
NUDGE, NUDGES = 1e-6, 10.0  # a change of the inputs, and how many times its effect is allowed
COMPARE_SECONDS = 600


def first_run(graph: Graph, feed: Mapping[str, np.ndarray],
              files: Optional[Tuple[str, str]] = None) -> List[str]:
    """Write a float graph, run it in another process, compare it with its simulation in dygraph
    and with the exported model itself.

    Args:
        graph(Graph): the graph that will be quantized.
        feed(dict): input name -> a few samples.
        files(tuple, optional): program and parameters that the graph was read from. Default: None,
            only the simulation is compared with.

    Returns:
        list[str]: sentences about differences that Paddle's own graph optimization brings about.

    Raises:
        ModelError: the program does not run, or computes something else.
    """
    names = in_front_of_choices(graph)
    shown = dataclasses.replace(graph, outputs=list(dict.fromkeys([*graph.outputs, *names])))
    with scratch_folder() as folder:
        prefix = os.path.join(folder, "model")
        save_program(shown, prefix)
        written = (prefix + ".pdmodel", prefix + ".pdiparams")
        key = _files_digest([*written, *(files or ())], feed)
        if key not in _DONE:
            _DONE[key] = _compare(_Runs(graph, written, files, feed), names)
    return list(_DONE[key])


_DONE: Dict[str, List[str]] = {}  # planning and quantizing in one process need no second run


def _files_digest(paths, feed) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    for name, value in feed.items():
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _compare(run: "_Runs", names: List[str]) -> List[str]:
    expected = simulate(run.graph, run.feed, names)
    names = [n for n in names if n in expected]
    allowed = _Allowed(run.graph, run.feed, expected, names)
    found, notes = run(run.written), []
    if found.outputs is None or not allowed(worst(expected, found.outputs, names)):
        notes = _unoptimized(run, found, expected, names, allowed)
    if run.files and found.outputs is not None:
        _as_exported(run, found, names, allowed)
    return notes


class _Runs:
    """The programs in Paddle Inference, each with and without its graph optimization."""

    def __init__(self, graph, written, files, feed):
        self.graph, self.written, self.files, self.feed = graph, written, files, feed

    def __call__(self, files, optimize=True, feed=None) -> Ran:
        return run_apart(*files, self.feed if feed is None else feed, COMPARE_SECONDS,
                         optimize=optimize)


class _Allowed:
    """Whether a difference is one of rounding: small, or what a last bit of the inputs does."""

    def __init__(self, graph, feed, expected, names):
        self._graph, self._feed, self._expected, self._names = graph, feed, expected, names
        half = any(op.attrs.get("out_dtype") == 4 for op in graph.ops if op.type == "cast")
        self.limit, self._shaken = HALF_TOLERANCE if half else FLOAT_TOLERANCE, False

    def __call__(self, difference: float) -> bool:
        if difference > self.limit and not self._shaken and np.isfinite(difference):
            moved = simulate(self._graph, nudged(self._feed), self._names)
            self.limit = max(self.limit, NUDGES * worst(self._expected, moved, self._names))
            self._shaken = True
        return difference <= self.limit


def nudged(feed: Mapping[str, np.ndarray], change: float = NUDGE) -> Dict[str, np.ndarray]:
    """Inputs that are larger by ``change`` of their values; integers stay."""
    return {name: value * np.float32(1 + change) if value.dtype.kind == "f" else value
            for name, value in feed.items()}


def _unoptimized(run: _Runs, found: Ran, expected, names, allowed) -> List[str]:
    """What to say when the program fails or differs: it may do so without optimization too."""
    again = run(run.written, optimize=False)
    if again.outputs is None:
        raise ModelError(_does_not_run(run, again.failure or found.failure))
    if not allowed(worst(expected, again.outputs, names)):
        raise ModelError(_where(run, expected, again.outputs, names))
    if found.outputs is None:
        return [f"Paddle Inference runs the float program only without its graph optimization "
                f"({found.failure}): deploy with switch_ir_optim(False), or on another Paddle"]
    difference = worst(expected, found.outputs, names)
    return [f"Paddle Inference's graph optimization changes the float program by {difference:.2g} "
            "of an output's largest value: not by quantization, and switch_ir_optim(False) avoids "
            "it"]


def _does_not_run(run: _Runs, failure: str) -> str:
    own = run(run.files, optimize=False) if run.files else None
    if own is not None and own.outputs is None:
        return (f"Paddle Inference cannot run {run.files[0]} itself ({own.failure}): export it for "
                "this Paddle, or use the Paddle that it was exported with")
    return (f"Paddle Inference cannot run the float program of {run.graph.source} ({failure}): "
            "nothing was trained; express what it names with other ops, and export again")


def _where(run: _Runs, expected, found, names) -> str:
    """The first op whose result differs."""
    every = [n for op in run.graph.ops for n in op.output_names]
    values = simulate(run.graph, run.feed, every)
    shown = dataclasses.replace(run.graph, outputs=[n for n in every if n in values])
    with scratch_folder() as folder:
        prefix = os.path.join(folder, "model")
        save_program(shown, prefix)
        ran = run((prefix + ".pdmodel", prefix + ".pdiparams"), optimize=False)
    text = f"differs by {worst(expected, found, names):.2g} of its largest value"
    for op in run.graph.ops if ran.outputs is not None else ():
        for name in op.output_names:
            if name in values and largest(values[name], ran.outputs[name]) > FLOAT_TOLERANCE:
                return (f"{run.graph.source}: op '{op.type}' -> '{name}' is not computed as Paddle "
                        f"Inference computes it (the output {text}): nothing was trained; report "
                        "this model, or express the op with others and export again")
    return (f"{run.graph.source}: the program as read does not compute what Paddle Inference "
            f"computes (the output {text}): nothing was trained; report this model")


def _as_exported(run: _Runs, found: Ran, names, allowed) -> None:
    """Raise ModelError when the exported model itself gives something else.

    What Paddle itself cannot run says nothing about the program that was written.
    """
    outputs = [n for n in run.graph.outputs if n in names]
    if not outputs:
        return
    for optimize in (True, False):  # Paddle's optimization may crash, or change what is computed
        own, ours = _same_batch(run, found if optimize else None, optimize)
        difference = _by_place(own, ours, run.graph, outputs) if own else 0.0
        if own and allowed(difference):
            return
    if own:
        raise ModelError(f"{run.graph.source} was not read as Paddle reads it (an output differs "
                         f"by {difference:.2g} of its largest value on the samples): nothing was "
                         "trained; report this model")


def _same_batch(run: _Runs, found: Optional[Ran], optimize: bool):
    """Outputs of the exported and of the written program, on one sample where more do not run."""
    own = run(run.files, optimize)
    feed = run.feed
    if own.outputs is None:
        feed, found = {n: v[:1] for n, v in run.feed.items()}, None
        own = run(run.files, optimize, feed)
    ours = found or run(run.written, optimize, feed)
    return (None, None) if own.outputs is None or ours.outputs is None else (own.outputs,
                                                                              ours.outputs)


def _by_place(own: Dict, ours: Dict, graph: Graph, outputs: List[str]) -> float:
    """The exported program may name its outputs differently; their order is the same."""
    own = list(own.values())
    if len(own) != len(graph.outputs):
        return 0.0
    return max(largest(own[graph.outputs.index(n)], ours[n]) for n in outputs)
