# SPDX-License-Identifier: Apache-2.0
"""The verdict at the end of a job: does the written program compute what was simulated?

The measure is that of ``check``, asked in full only where a whole run leaves room for doubt.
"""
import dataclasses
from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np

from ...graph.graph import Graph
from ...graph.load import load_graph
from ..compare import differences, in_front_of_choices, relative
from ..simulate import simulate
from .agreement import agreement
from .causes import OPTIMIZATION
from .doctor import AGREES, DIFFERS, EDGE, FAILED, TOLERANCE, check
from .runtimes import run_inference

SURE = 0.1 * TOLERANCE  # of a whole run: no layer needs to be looked at
LOOKED_AT = 2  # samples, those that differ most, of a layer by layer comparison


def compared_tensors(graph: Graph) -> List[str]:
    """What a verdict compares: see ``compare.in_front_of_choices``; and the outputs themselves."""
    return list(dict.fromkeys([*in_front_of_choices(graph), *graph.outputs]))


def verdict(prefix: str, feed: Mapping[str, np.ndarray],
            expected: Mapping[str, np.ndarray]) -> Dict:
    """Run a written program in Paddle Inference, in another process, and judge it.

    Args:
        prefix(str): the program's path without suffix.
        feed(dict): input name -> samples.
        expected(dict): simulated values of (some of) ``compared_tensors``.

    Returns:
        dict: ``verdict`` (``doctor.AGREES``, ``EDGE``, ``DIFFERS`` or ``FAILED``), ``why``;
            ``max_abs_diff``, ``mean_abs_diff`` and ``max_abs_output`` of the worst tensor and
            ``relative`` (root mean square), where these are finite; ``samples``, ``outputs``
            (tensors compared) and
            ``agreement``, sentences about labels and boxes.
    """
    graph = load_graph(prefix, allow_quantized=True)
    names = [n for n in in_front_of_choices(graph) if n in expected]
    names = names or [n for n in graph.outputs if n in expected] or list(expected)
    found = dict(samples=len(next(iter(feed.values()))), outputs=len(names))
    ran = _run_inference(graph, list(dict.fromkeys([*names, *graph.outputs])), feed)
    if ran.outputs is None:
        return dict(found, verdict=FAILED, why=_why_not(graph, feed, expected, names, ran.failure))
    written = ran.outputs
    found["agreement"] = agreement(graph, expected, written)
    far = {n: relative(expected[n], written[n]) for n in names}
    broken = [n for n in names if not np.isfinite(far[n])]
    if broken:
        why = _looked_at(graph, feed, expected, written, names)["why"]
        return dict(found, verdict=DIFFERS, why=f"'{broken[0]}' has another shape, or NaN or "
                                                "infinity, where the simulation has numbers"
                                                + (f"; {why}" if why else ""))
    found.update(differences((expected[n], written[n]) for n in names), relative=max(far.values()))
    if found["relative"] <= SURE:
        return dict(found, verdict=AGREES, why="")
    return dict(found, **_looked_at(graph, feed, expected, written, names))


def verdict_line(found: Mapping) -> str:
    """A verdict in one line: the word, how far, and why."""
    line = found.get("verdict", "not judged")
    if "max_abs_diff" in found:
        line += (f"; max |difference| {found['max_abs_diff']:.3g} of "
                 f"{found['max_abs_output']:.3g}")
    return line + (f"; {found['why']}" if found.get("why") else "")


def _why_not(graph: Graph, feed, expected, names, failure: str) -> str:
    plain = _run_inference(graph, names, feed, optimize=False).outputs
    far = max(relative(expected[n], plain[n]) for n in names) if plain else float("inf")
    own = f"; because of {OPTIMIZATION.text}: {OPTIMIZATION.cure}" if far <= TOLERANCE else ""
    return f"Paddle Inference cannot run it: {failure}{own}"


def _run_inference(graph: Graph, names: Sequence[str], feed, optimize: bool = True):
    return run_inference(dataclasses.replace(graph, outputs=list(names)), feed, optimize=optimize)


def _looked_at(graph: Graph, feed, expected, written, names) -> Dict:
    """Verdict and reason after a comparison layer by layer on the samples that differ most."""
    few = _worst_samples(feed, expected, written, names)
    whole = few is None
    few_feed = feed if whole else {n: v[few] for n, v in feed.items()}
    report = check(graph, few_feed, ["inference"], arm=False)
    judged = report.runtimes[0]
    if judged.findings:
        first = judged.findings[0]
        if first.cause == OPTIMIZATION.text:
            return dict(verdict=DIFFERS, why=f"at {first.name}, because of {first.cause}: "
                                             f"{first.cure}")
        return dict(verdict=DIFFERS, why=f"at {first.name} ({100 * first.relative:.2g} % on equal "
                                         f"inputs), because of {first.cause}; {first.cure}")
    stored = simulate(graph, feed, names)
    far = max((relative(expected[n], stored[n]) if whole
               else relative(expected[n][few], stored[n][few]) for n in names if n in stored),
              default=0.0)
    if judged.status == AGREES and far > max(TOLERANCE, 3.0 * report.jitter.get("relative", 0.0)):
        if not whole and _most_are_equal(_by_sample(expected, stored, names)):
            return dict(verdict=EDGE, why="")
        return dict(verdict=DIFFERS, why="the program in the file is not the network that was "
                                         "simulated: report this model")
    return dict(verdict=judged.status, why=judged.why)


def _most_are_equal(far: Sequence[float]) -> bool:
    """Another network differs for every sample; a value that rounds the other way, for a few. The
    change by 1e-6 meets the latter by chance only, for it is one draw.
    """
    return sum(one > SURE for one in far) < len(far) / 2


def _by_sample(expected, found, names) -> List[float]:
    """How far the worst tensor of every sample is."""
    return [max(relative(expected[n][k], found[n][k]) for n in names if n in found)
            for k in range(len(expected[names[0]]))]


def _worst_samples(feed, expected, written, names) -> Optional[List[int]]:
    """None: all, where they are few or where inputs and outputs do not go by samples."""
    count = len(next(iter(feed.values())))
    if any(len(v) != count for v in feed.values()) or any(
            np.shape(expected[n])[:1] != (count,) or np.shape(written[n]) != np.shape(expected[n])
            for n in names) or count <= LOOKED_AT:
        return None
    far = _by_sample(expected, written, names)
    return sorted(np.argsort(far, kind="stable")[::-1][:LOOKED_AT].tolist())
