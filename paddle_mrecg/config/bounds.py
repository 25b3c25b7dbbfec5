# SPDX-License-Identifier: Apache-2.0
"""Settings stay small: aliases of YAML can make a few lines endless, or hold themselves."""
from typing import Callable, Dict, Iterable

MOST_VALUES = 100_000  # values in one config, aliases written out


def written_size(root, children: Callable[[object], Iterable], known: Dict[int, int] = None) -> int:
    """How many values a tree holds when everything that is shared is written out.

    Args:
        root(object): the topmost value.
        children(callable): the values that a value holds.
        known(dict, optional): sizes found so far; for the recursion.

    Raises:
        ValueError: a value holds itself, or there are more than ``MOST_VALUES`` values.
    """
    known = {} if known is None else known
    if id(root) not in known:
        known[id(root)] = 0  # until it is known: who meets it again is inside of it
        known[id(root)] = 1 + sum(written_size(child, children, known) for child in children(root))
    if not known[id(root)]:
        raise ValueError("a value holds itself")
    if known[id(root)] > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES} values")
    return known[id(root)]


def of_node(node) -> Iterable:
    """What a node of PyYAML holds."""
    value = getattr(node, "value", None)
    if not isinstance(value, list):
        return ()
    return [part for item in value for part in (item if isinstance(item, tuple) else (item,))]


def of_value(value) -> Iterable:
    """What a plain value holds."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple, set)) else ()
