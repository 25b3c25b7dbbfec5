# SPDX-License-Identifier: Apache-2.0
"""PaddleSlim's settings in our words: what a table of translations is, and how it is applied."""
from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Tuple, Union

from ..schema import did_you_mean
from ...errors import ConfigError

Sections = Dict[str, Dict[str, Any]]


class To(NamedTuple):
    """The setting is called ``Section.key`` here; ``values`` maps its values where those differ."""

    section: str
    key: str
    values: Union[None, Dict, Callable] = None


class Only(NamedTuple):
    """Nothing to set: these values are what is done anyway; for others
    ``cure`` says what to write.
    """

    values: Tuple
    cure: str


class Ignored(NamedTuple):
    """Whatever the value, the result is the same."""

    why: str


KeyRule = Union[To, Only, Ignored]


def translate(given: Dict[str, Any], table: Dict[str, KeyRule], sections: Optional[Sections] = None,
              known: Iterable[str] = ()) -> Sections:
    """Sections for settings that are named as in PaddleSlim.

    Args:
        given(dict): PaddleSlim's names and the user's values.
        table(dict): name -> ``To``, ``Only`` or ``Ignored``.
        sections(dict, optional): sections given as well; a setting named there and in ``given``
            is an error. Default: None.
        known(iterable, optional): further names to suggest for an unknown one. Default: ().

    Raises:
        ConfigError: all unknown names (with the nearest known one), values that have no
            counterpart, and settings given twice.
    """
    result, problems = translate_all(given, table, sections, known)
    if problems:
        raise ConfigError([f"{name}: {message}" for name, message in problems.items()])
    return result


def translate_all(given: Dict[str, Any], table: Dict[str, KeyRule],
                  sections: Optional[Sections] = None,
                  known: Iterable[str] = ()) -> Tuple[Sections, Dict[str, str]]:
    """What ``translate`` returns, of the settings that are right, and name ->
    what is wrong of the others.
    """
    result = {name: dict(values or {}) for name, values in (sections or {}).items()}
    problems = {}
    for name, value in given.items():
        rule, problem = table.get(name), ""
        if rule is None:
            problem = f"unknown key.{did_you_mean(name, [*table, *known])}"
        elif isinstance(rule, Only):
            if not any(value is v or value == v for v in rule.values):
                problem = f"{value!r} has no counterpart here; {rule.cure}"
        elif isinstance(rule, To):
            problem = _put_setting(result, rule, value)
        if problem:
            problems[name] = problem
    return result, problems


def _put_setting(sections: Sections, rule: To, value) -> str:
    """Set one value; returns what is wrong, or nothing."""
    if callable(rule.values):
        value = rule.values(value)
    elif rule.values is not None:
        if not isinstance(value, str) and value is not None or value not in rule.values:
            known = [k for k in rule.values if isinstance(k, str)]
            return (f"must be one of {', '.join(known)}; got {value!r}."
                    + (did_you_mean(value, known) if isinstance(value, str) else ""))
        value = rule.values[value]
    section = sections.setdefault(rule.section, {})
    if rule.key in section and section[rule.key] != value:
        return f"{rule.section}.{rule.key} is given too and differs; keep one"
    section[rule.key] = value
    return ""


def is_slim_config(config, table: Dict[str, KeyRule]) -> bool:
    """A mapping with settings of PaddleSlim on its top level, where this package has sections."""
    return isinstance(config, dict) and bool(set(config) & set(table))
