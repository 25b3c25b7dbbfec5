# SPDX-License-Identifier: Apache-2.0
"""Replace attributes of third-party modules and classes, and put every one of them back."""
import functools
import sys
import types
from typing import Any, Callable, List, NamedTuple, Tuple

from ..report.progress import get_logger

NO_ATTRIBUTE = object()  # the owner had no such attribute
OURS_ATTRIBUTE = "_paddle_mrecg"  # attribute of a PaddleSlim object: what of ours does its work


class Patch(NamedTuple):
    """``owner.name`` was ``original`` and is ``replacement``."""

    owner: Any
    name: str
    original: Any
    replacement: Any


class Patches:
    """What has been replaced, in order; true while anything is."""

    def __init__(self):
        self.table: List[Patch] = []
        # (original, replacement), in every module
        self.functions: List[Tuple[Callable, Callable]] = []

    def __bool__(self):
        return bool(self.table or self.functions)

    def replace(self, owner, name: str, replacement):
        """Set ``owner.name``; what the owner itself held, or that it held nothing, is noted."""
        self.table.append(Patch(owner, name, vars(owner).get(name, NO_ATTRIBUTE), replacement))
        setattr(owner, name, replacement)

    def replace_everywhere(self, original: Callable, replacement: Callable):
        """Replace a function in every module that holds it, under whatever name.

        ``from paddleslim.quant import quant_post_static`` leaves a second
        reference in the importing module: a switch that reached only the
        first would depend on the order of imports.
        """
        self.functions.append((original, replacement))
        _swap_names(original, replacement)

    def restore(self):
        """Put everything back, last first; an attribute that other code has
        replaced since is left as it is.
        """
        while self.functions:  # modules that imported the replacement hold it, too
            original, replacement = self.functions.pop()
            _swap_names(replacement, original)
        while self.table:
            owner, name, original, replacement = self.table.pop()
            if vars(owner).get(name, NO_ATTRIBUTE) is not replacement:
                get_logger().warning("other code has replaced %s.%s since: it is left as it is",
                                     owner.__name__, name)
            elif original is NO_ATTRIBUTE:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


def _swap_names(present: Callable, wanted: Callable):
    """Every module's names of ``present`` become names of ``wanted``."""
    for module in list(sys.modules.values()):
        if isinstance(module, types.ModuleType):
            for name in [n for n, value in list(vars(module).items()) if value is present]:
                setattr(module, name, wanted)


def ours_or(original: Callable, name: str) -> Callable:
    """A method that calls ``name`` of the object's ``OURS_ATTRIBUTE`` where it
    has one, else ``original``.
    """
    @functools.wraps(original)
    def method(self, *args, **kwargs):
        ours = vars(self).get(OURS_ATTRIBUTE)
        return (original(self, *args, **kwargs) if ours is None
                else getattr(ours, name)(*args, **kwargs))

    return method
