# SPDX-License-Identifier: Apache-2.0
"""Run ops of a program that was made for one sample on several, each as if it came alone.

A converted model that was exported for one sample may have this batch in its reshapes, its fixed
sizes or its constants (a class token that is joined to the patches). ``batch.free_batch`` frees
what it can. Where that is not enough, every tensor is kept as the samples' own tensors one behind
the other along axis 0, and an op that does something else with them than with one sample is marked
(``Op.alone``): it gets the samples one by one.
"""
from typing import Container, Dict, List, Mapping, Sequence

import numpy as np
import paddle

from .graph import Op
from .ops import run_op
from .ops.registry import ASKS_FOR_SHAPE

# kernels may round differently for other batch sizes
KERNEL_ROUNDING = 1e-2


def run_alike(op: Op, runs: Sequence[Mapping[str, paddle.Tensor]], counts: Sequence[int],
              shared: Container[str]) -> List[Dict[str, paddle.Tensor]]:
    """Run an op on one sample and on several, so that each sample's part is what it is alone.

    Args:
        op(Op): the op; ``op.alone`` is set where it takes one sample at a time.
        runs(list[dict]): tensors by name: of one sample, then of several.
        counts(list[int]): how many samples each run has; 1 first.
        shared(Container[str]): tensors that do not depend on the samples.

    Returns:
        list[dict]: what it wrote, a dict per run.

    Raises:
        Exception: whatever the op raises on one sample.
        CannotJoin: its results on single samples cannot be joined along axis 0.
    """
    first = run_op(op, runs[0])
    read = [n for n in op.input_names if n]
    asks = op.type in ASKS_FOR_SHAPE
    sizes = tuple(0 if not n or n in shared else len(runs[0][n]) if runs[0][n].ndim else -1
                  for n in op.input_names)
    problem: Exception = CannotJoin("it mixes the samples of a batch")
    for way in (sizes,) if asks else ((), sizes):
        op.alone = way
        try:
            found = [first] + [run_op(op, values) for values in runs[1:]]
            if asks or all(n in shared for n in read) or _same(found, counts):
                return found
        except Exception as error:  # whatever a kernel raises
            problem = error if not way else problem
    op.alone = ()
    raise CannotJoin(str(problem)) from problem


class CannotJoin(Exception):
    """An op takes one sample at a time, and what it writes cannot be joined."""


def _same(found: Sequence[Mapping[str, paddle.Tensor]], counts: Sequence[int]) -> bool:
    """Whether every result is the samples' own results one behind the other, as far as their sizes
    and the first sample tell.
    """
    for name, value in found[0].items():
        one = value.numpy()
        for count, results in zip(counts[1:], found[1:]):
            several = results[name].numpy()
            if not one.ndim or several.shape != (count * len(one), *one.shape[1:]):
                return False
            if not close(one, several[:len(one)]):
                return False
    return True


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for a kernel's rounding; infinite values must stand in the same places."""
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(
            a[~finite], b[~finite], equal_nan=True):
        return False
    a, b = a[finite], b[finite]
    return not a.size or bool(np.abs(a - b).max() <= KERNEL_ROUNDING * np.abs(a).max())
