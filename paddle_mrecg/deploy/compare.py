# SPDX-License-Identifier: Apache-2.0
"""How far apart two results are, and which tensors may be compared at all.

An op that chooses (argmax, a comparison, a non-maximum suppression) turns the last bit of a sum
into another number. Two right runs may differ behind it, so programs are compared in front of it.
"""
from typing import Dict, Iterable, List, Mapping, Sequence, Set, Tuple

import numpy as np

from ..graph.graph import Graph, Op
from ..graph.params import DTYPE_NAMES

_CHOOSING = frozenset((
    "arg_max", "arg_min", "argsort", "top_k", "top_k_v2", "kthvalue", "mode", "where_index",
    "masked_select", "unique", "unique_consecutive", "multiclass_nms", "multiclass_nms2",
    "multiclass_nms3", "matrix_nms", "nms", "locality_aware_nms", "generate_proposals",
    "generate_proposals_v2", "distribute_fpn_proposals", "collect_fpn_proposals", "yolo_box",
    "yolo_box_head", "yolo_box_post", "bipartite_match", "round", "floor", "ceil", "trunc", "sign",
    "heaviside", "elementwise_mod", "elementwise_floordiv", "floor_divide", "greater_than",
    "greater_equal", "less_than", "less_equal", "equal", "not_equal", "isclose", "allclose",
    "bincount", "histogram", "searchsorted", "bucketize", "viterbi_decode", "ctc_align",
    "gather_tree", "beam_search", "one_hot_v2", "crf_decoding", "top_p_sampling",
    "uniform_random", "gaussian_random", "randint", "randperm", "bernoulli", "multinomial",
    "poisson", "exponential", "truncated_gaussian_random"))


def relative(expected: np.ndarray, actual: np.ndarray) -> float:
    """Root mean square difference over the root mean square of what is expected; infinite where
    shapes differ, or NaN or infinity stands in one of the two alone.
    """
    return _ratio(expected, actual, lambda x: float(np.sqrt(np.mean(np.square(x)))))


def largest(expected: np.ndarray, actual: np.ndarray) -> float:
    """The largest difference over the largest value that is expected; otherwise as ``relative``."""
    return _ratio(expected, actual, lambda x: float(np.abs(x).max()))


def _ratio(expected, actual, size) -> float:
    if np.shape(expected) != np.shape(actual):
        return float("inf")
    if not np.size(expected):
        return 0.0
    a, b = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    finite = np.isfinite(a)
    if not finite.all() or not np.isfinite(b).all():
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(
                b[finite]).all():
            return float("inf")
        a, b = a[finite], b[finite]
        if not a.size:
            return 0.0
    power, error = size(a), size(a - b)
    return error / power if power else error


def differences(pairs: Iterable[Tuple[np.ndarray, np.ndarray]]) -> Dict[str, float]:
    """Differences of the worst (expected, actual) pair, and the largest absolute value expected;
    infinite where NaN or infinity stands in one of the two alone, or shapes differ.
    """
    most, mean, top = 0.0, 0.0, 0.0
    for expected, actual in pairs:
        if not np.isfinite(relative(expected, actual)):
            return dict(max_abs_diff=float("inf"), mean_abs_diff=float("inf"),
                        max_abs_output=float(np.abs(expected).max(initial=0.0)))
        a, b = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
        same = np.isfinite(a)
        far, size = np.abs(a[same] - b[same]), np.abs(a[same])
        most = max(most, float(far.max(initial=0.0)))
        mean = max(mean, float(far.mean()) if far.size else 0.0)
        top = max(top, float(size.max(initial=0.0)))
    return dict(max_abs_diff=most, mean_abs_diff=mean, max_abs_output=top)


def in_front_of_choices(graph: Graph) -> List[str]:
    """Outputs that no choosing op stands in front of, and what the first such ops read; in order.

    These say whether two runs of a program compute the same.
    """
    moving, chosen = _moving(graph), set()
    ends: Dict[str, None] = {}
    for op in graph.ops:
        reads = [n for n in op.input_names if n in moving]
        if not reads:
            continue
        if _chooses(op) or any(n in chosen for n in reads):
            chosen.update(op.output_names)
            ends.update(dict.fromkeys(n for n in reads if n not in chosen))
    written = {n for op in graph.ops for n in op.output_names}
    ends.update(dict.fromkeys(n for n in graph.outputs if n not in chosen))
    return [n for n in ends if n in written]


def _moving(graph: Graph) -> Set[str]:
    """Tensors that depend on the inputs' values."""
    moving = set(graph.inputs)
    for op in graph.ops:
        if op.type not in ("shape", "size") and moving.intersection(op.input_names):
            moving.update(op.output_names)
    return moving


def _chooses(op: Op) -> bool:
    if op.type == "cast":
        return not DTYPE_NAMES.get(op.attrs.get("out_dtype"), "float32").startswith("float")
    return op.type in _CHOOSING


def worst(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray],
          names: Sequence[str], measure=largest) -> float:
    """The largest measure over ``names``; a missing tensor counts as infinitely far."""
    return max((measure(expected[n], actual[n]) if n in actual else float("inf")
                for n in names if n in expected), default=0.0)


def furthest(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray],
             ends: Sequence[str]) -> Dict[str, float]:
    """Largest figures over the outputs; empty when no output can be simulated or shapes differ."""
    pairs = [(expected[n], actual[n]) for n in ends
             if n in actual and actual[n].shape == expected[n].shape]
    if not pairs or len(pairs) < len(ends):
        return {}
    far = differences(pairs)
    return dict(max_abs_diff=far["max_abs_diff"], mean_abs_diff=far["mean_abs_diff"],
                relative=max(relative(a, b) for a, b in pairs))
