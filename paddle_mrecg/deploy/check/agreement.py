# SPDX-License-Identifier: Apache-2.0
"""What a difference means for the task: do labels and boxes stay what they were?"""
from typing import List, Mapping

import numpy as np

from ...errors import numbered
from ...graph.graph import Graph

_BOXES = ("multiclass_nms", "multiclass_nms2", "multiclass_nms3", "matrix_nms")
OVERLAP = 0.5  # intersection over union of a box that is found again
MAX_LABEL_AXES = 3  # scores [N, classes] or [N, steps, classes]; more axes are feature maps


def agreement(graph: Graph, expected: Mapping[str, np.ndarray],
              actual: Mapping[str, np.ndarray]) -> List[str]:
    """A sentence per output that holds scores of classes, labels or boxes.

    Args:
        graph(Graph): the program.
        expected(dict): simulated outputs by name; those that are missing are left out.
        actual(dict): outputs of the runtime.
    """
    producers, sentences = graph.producers(), []
    for name in graph.outputs:
        if name not in expected or name not in actual:
            continue
        a, b = np.asarray(expected[name]), np.asarray(actual[name])
        op = producers.get(name)
        if op is not None and op.type in _BOXES and a.ndim == b.ndim == 2 and a.shape[1] == 6:
            if name == op.output("Out"):
                sentences.append(f"{_found_again(a, b)} of {len(a)} boxes are found again "
                                 f"(overlap {OVERLAP:g}, same class), of {len(b)}")
        elif a.shape == b.shape and a.size:
            sentences += _labels(name, a, b)
    return sentences


def _labels(name: str, a: np.ndarray, b: np.ndarray) -> List[str]:
    if a.dtype.kind in "iu":
        return [f"{np.mean(a == b):.1%} of the whole numbers of '{name}' are equal"]
    if (not 2 <= a.ndim <= MAX_LABEL_AXES or a.shape[-1] < 2
        or a.ndim > 2 and not _are_shares(a)):
        return []
    same = a.argmax(-1) == b.argmax(-1)
    what = (f"top-1 of '{name}' is equal for" if _are_shares(a) else
            f"the largest value of '{name}' is in the same place in")
    return [f"{what} {int(same.sum())} of "
            f"{numbered(same.size, 'sample' if a.ndim == 2 else 'step')}"]


def _are_shares(a: np.ndarray) -> bool:
    """Probabilities are surely scores of classes; other [N, n] may be, or be features."""
    return bool(np.isfinite(a).all() and a.min() >= 0 and np.allclose(a.sum(-1), 1.0, atol=1e-2))


def _found_again(a: np.ndarray, b: np.ndarray) -> int:
    """Rows are class, score, x1, y1, x2, y2; each box of ``b`` is used once."""
    free, found = np.ones(len(b), bool), 0
    for box in a:
        low, high = np.maximum(b[:, 2:4], box[2:4]), np.minimum(b[:, 4:], box[4:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        sizes = np.prod(b[:, 4:] - b[:, 2:4], axis=1) + np.prod(box[4:] - box[2:4])
        overlap = np.where(free & (b[:, 0] == box[0]),
                           common / np.maximum(sizes - common, 1e-12), -1.0)
        if overlap.size and overlap.max() >= OVERLAP:
            free[overlap.argmax()] = False
            found += 1
    return found
