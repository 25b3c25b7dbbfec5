# SPDX-License-Identifier: Apache-2.0
"""Bring a graph's ops into an order with narrow cuts.

Which cuts exist depends on the order of the ops: a ``shape`` op that runs long
before the reshape that needs it keeps an integer alive that cannot be cached
per sample.
"""
from typing import Callable, Dict, List, Set

from .cuts import Liveness
from .graph import Graph, Op, ops_behind
from .probe import Probe

# Ops that belong to the layer before them even when no quantized op follows: a
# last bias or activation is reconstructed with its layer. Softmax and sigmoid
# are not among them: the target of a classifier is its logits.
_TRAILING = {
    "elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div", "scale",
    "batch_norm", "layer_norm",
    "relu", "relu6", "leaky_relu", "prelu", "hard_swish", "swish", "silu", "gelu", "mish", "elu",
    "pool2d"
}


def arrange(graph: Graph, probe: Probe, is_quantized: Callable[[Op], bool]) -> int:
    """Reorder ``graph.ops`` in place: body, tail, unreached ops.

    The *body* is every op that a quantized op is or waits for, and the last
    layers' biases and activations. The *tail* (softmax, box decoding) comes
    after every quantized op and is never reconstructed. Within the body the
    order is the program's, or the one that computes each op just before its
    first reader, whichever has the narrower cuts.

    Args:
        graph(Graph): the graph; only the order of ``graph.ops`` changes.
        probe(Probe): what is known of its tensors.
        is_quantized(callable): whether an op's weight is quantized.

    Returns:
        int: number of ops of the body.
    """
    body = _body(graph, probe, is_quantized)
    ranks = {op: 2 if op in probe.unreached else 0 if op in body else 1 for op in graph.ops}
    original = list(graph.ops)
    candidates = []
    for ops in (original, _just_in_time(graph, ranks)):
        graph.ops = sorted(ops, key=ranks.get)  # stable; an op never depends on one of higher rank
        liveness = Liveness(graph, probe, len(body))
        starts = [p for p in range(len(body)) if is_quantized(graph.ops[p])]
        cost = sum(liveness.width[p] + (0 if liveness.allowed[p] else len(starts)) for p in starts)
        candidates.append((cost, graph.ops))
    graph.ops = min(candidates, key=lambda c: c[0])[1]
    return len(body)


def _body(graph: Graph, probe: Probe, is_quantized) -> Set[Op]:
    producers = graph.producers()
    needed = {op for op in graph.ops if op not in probe.unreached and is_quantized(op)}
    needed.update(ops_behind(graph.ops, [n for op in needed for n in op.input_names]))
    body = set()
    for op in graph.ops:
        if op in probe.unreached:
            continue
        inside = all(producers[n] in body for n in op.input_names if n in producers)
        # A layer whose result has the batch elsewhere than on axis 0 goes
        # on until it is back there.
        goes_on = any(probe.kind.get(n) == "other" for n in op.input_names)
        if op in needed or inside and (op.type in _TRAILING or goes_on or probe.is_constant(op)):
            body.add(op)
    return body


def _just_in_time(graph: Graph, ranks: Dict[Op, int]) -> List[Op]:
    """Depth-first order: an op stands just before its first reader; results that
    need fewer ops come first.
    """
    producers = graph.producers()
    ancestors: Dict[Op, int] = {}  # bit sets over positions
    for k, op in enumerate(graph.ops):
        mask = 1 << k
        for n in op.input_names:
            if n in producers:
                mask |= ancestors[producers[n]]
        ancestors[op] = mask
    body = {op for op in graph.ops if ranks[op] == 0}
    waited_for = {producers[n] for op in body for n in op.input_names if n in producers}
    ends = sorted(body - waited_for, key=lambda op: (bin(ancestors[op]).count("1"), ancestors[op]))
    order: List[Op] = []
    done: Set[Op] = set()
    for end in ends + graph.ops:
        stack = [(end, False)]
        while stack:
            op, expanded = stack.pop()
            if op in done:
                continue
            if expanded:
                done.add(op)
                order.append(op)
                continue
            stack.append((op, True))
            stack.extend((producers[n], False) for n in reversed(op.input_names) if n in producers)
    return order
