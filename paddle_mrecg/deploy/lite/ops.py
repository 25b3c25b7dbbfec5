# SPDX-License-Identifier: Apache-2.0
"""Which ops of a program Paddle Lite cannot run, told before anything is trained.

``ops.json`` lists the ops that have a kernel, by target; ``tests/deploy/derive_lite_ops.py`` made
it from what the converter of that release says itself.
"""
import functools
import json
import os
from typing import Dict, List

from ...graph.carried import op_types, rewritten
from ...graph.graph import Graph
from ...graph.program import is_quantize_op
from ..forms import expand_by_shape, wrong_forms
from .same_ops import in_lites_words

WITHOUT_KERNEL = ("express it with other ops and export again, or deploy with Paddle Inference or "
                  "onnxruntime")


@functools.lru_cache(maxsize=None)
def kernels() -> dict:
    """``version`` of the converter, and a list of ops for each target; not to be changed."""
    path = os.path.join(os.path.dirname(__file__), "ops.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def missing_ops(graph: Graph, target: str) -> List[str]:
    """Types of ops that no kernel of Paddle Lite runs, sorted.

    Args:
        graph(Graph): a float or a quantized program.
        target(str): ``arm`` or ``x86``.
    """
    known = kernels()[target]
    graph = graph.copy()
    expand_by_shape(graph)
    ops = [rewritten(op, in_lites_words) for op in graph.ops]
    return sorted(op_type for op_type in op_types(ops)
                  if op_type not in known and not is_quantize_op(op_type))


def lite_note(graph: Graph) -> List[str]:
    """A sentence where Paddle Lite cannot run the program; nothing otherwise."""
    missing: Dict[str, List[str]] = {t: missing_ops(graph, t) for t in kernels() if t != "version"}
    everywhere = sorted(set.intersection(*map(set, missing.values())))
    named = wrong_forms(graph) + everywhere
    named += [f"{op} ({target})" for target, ops in missing.items() for op in ops
              if op not in everywhere]
    if not named:
        return []
    return [f"Paddle Lite {kernels()['version']} has no kernel for {', '.join(named)}: "
            f"{WITHOUT_KERNEL}"]
