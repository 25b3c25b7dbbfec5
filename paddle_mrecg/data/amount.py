# SPDX-License-Identifier: Apache-2.0
"""How many samples are enough: fewer of large ones, whose every position is a row to learn from,
and more than one that differs from the others.
"""
import math
from typing import List

import numpy as np

FULL_SIZE = 3 * 320 * 320  # values of a sample up to which the number does not depend on the size


def enough_of(most: int, values: int, least: int = 1) -> int:
    """A number of samples whose cost does not grow with their size.

    Args:
        most(int): of samples with up to ``FULL_SIZE`` values.
        values(int): of one sample, over all inputs.
        least(int, optional): of samples of any size. Default: 1.

    Examples:
        >>> [enough_of(64, 3 * side * side, least=16) for side in (224, 320, 416, 640, 1280)]
        [64, 64, 38, 16, 16]
    """
    return max(least, min(most, round(most * FULL_SIZE / max(values, 1))))


def enough_samples(most: int, samples, least: int = 1) -> int:
    """The same for samples at hand, input name -> ``[N, ...]``; no more than there are."""
    count = min(len(v) for v in samples.values())
    return min(count, enough_of(most, values_of(samples), least))


def values_of(samples) -> int:
    """Values of one sample, over all inputs."""
    return sum(math.prod(v.shape[1:]) for v in samples.values())


def alike_note(samples) -> List[str]:
    """A sentence where several samples, input name -> ``[N, ...]``, are all the same one."""
    count = min(len(v) for v in samples.values())
    if count < 2 or any(not np.array_equal(v[k:k + 1], v[:1]) for v in samples.values()
                        for k in range(1, count)):
        return []
    return [f"all {count} calibration samples are the same: ranges and roundings fit that one "
            "alone; give samples that differ, as those of the application do"]
