# SPDX-License-Identifier: Apache-2.0
"""Errors a user can cause. The command line prints one sentence and exits 2."""
import math
from typing import Sequence

LARGEST_ACTIVATION = 1e15  # a sum of a million squares still fits into float32


class MrecgError(Exception):
    """Base of every error whose cure lies with the user.

    The message is one sentence: what happened where, what was expected, what
    to do. Anything that is not a ``MrecgError`` is a bug in this package.
    """


class ConfigError(MrecgError):
    """Unknown, conflicting or out-of-range settings; lists all of them.

    Args:
        problems(list[str]): one sentence per problem.
    """

    def __init__(self, problems):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        lines = self.problems
        super().__init__(lines[0] if len(lines) == 1 else
                         f"{len(lines)} problems:\n" + "\n".join(f"  - {p}" for p in lines))


class ModelError(MrecgError):
    """A model file that is missing, truncated, foreign or has nothing to quantize."""


class UnsupportedOpError(ModelError):
    """An op without an entry in the op table was to be run in dygraph.

    Args:
        op_type(str): the op's type, e.g. ``multiclass_nms3``.
    """

    def __init__(self, op_type, detail=""):
        self.op_type = op_type
        super().__init__(f"op '{op_type}' is not in the op table{detail}")


class DataError(MrecgError):
    """Calibration or evaluation data that is missing, empty, misshapen or not finite."""


class OutputError(MrecgError):
    """The output directory cannot be written."""


def kind_of(value) -> str:
    """``an int``, ``a Tensor``: the type of a value, for messages."""
    name = type(value).__name__
    return f"a{'n' * (name[0] in 'aeiouAEIO')} {name}"


def said(error: BaseException, line: int = -1) -> str:
    """A line of what an exception says, the last unless told otherwise, for Paddle's begin with a
    stack; its type where it says nothing.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[line].strip()


def refuse_large(top: float):
    """Raise DataError for an activation whose largest absolute value is beyond
    ``LARGEST_ACTIVATION``; infinity has a sentence of its own elsewhere.
    """
    if LARGEST_ACTIVATION < top < math.inf:
        raise DataError(f"its values reach {top:.2g} on the calibration samples, and sums of "
                        f"squares of more than {LARGEST_ACTIVATION:g} overflow: scale the samples "
                        "as training did, or check the model's weights")


def mark_users(error: BaseException):
    """Note that an exception comes out of the user's own code."""
    error.of_users_code = True


def is_users(error: BaseException) -> bool:
    """Whether ``mark_users`` was told of it: from Python such an exception passes as it is, the
    command line says it in a sentence.
    """
    return getattr(error, "of_users_code", False)


def listed(texts: Sequence[str], most: int = 16, separator: str = ", ") -> str:
    """The first ``most`` texts and how many more there are, in one line of a message or a log."""
    more = [f"and {len(texts) - most} more"] * (len(texts) > most)
    return separator.join([*texts[:most], *more])


def plural(unit: str, count: int) -> str:
    """``1 batch``, ``2 batches``, ``2 iters``."""
    if count == 1:
        return unit
    if unit.endswith("try"):
        return unit[:-1] + "ies"
    return unit + ("es" if unit.endswith(("ch", "s", "x")) else "s")


def numbered(count: int, unit: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{count} {plural(unit, count)}"
