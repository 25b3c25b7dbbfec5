# SPDX-License-Identifier: Apache-2.0
"""The first and the last layers of a network, by what its data flows through."""
from typing import Callable, List, Sequence, Tuple

from .graph import Op


def first_and_last(ops: Sequence[Op], is_layer: Callable[[Op], bool]) -> Tuple[List[Op], List[Op]]:
    """The layers with no other layer in front of them, and those with none behind them.

    A detector has a dozen last layers, one per output and scale, and only one of them comes last in
    the program.

    Args:
        ops(Sequence[Op]): in an order in which they can run; anything with ``input_names`` and
            ``output_names`` will do.
        is_layer(callable): which of them count.

    Returns:
        tuple: both lists in the order of ``ops``; a layer may be in both.
    """
    first = _without_layer_before(ops, is_layer, lambda op: op.input_names,
                                  lambda op: op.output_names)
    last = _without_layer_before(ops[::-1], is_layer, lambda op: op.output_names,
                                 lambda op: op.input_names)
    return first, last[::-1]


def _without_layer_before(ops, is_layer, read, written) -> List[Op]:
    behind = set()  # tensors with a layer in front of them
    found = []
    for op in ops:
        seen = not behind.isdisjoint(read(op))
        if is_layer(op) and not seen:
            found.append(op)
        if seen or is_layer(op):
            behind.update(written(op))
    return found
