# SPDX-License-Identifier: Apache-2.0
"""From plain dicts to the dataclasses of ``config``: names, types and
ranges, every problem noted.
"""
import dataclasses
import difflib
import math
import re
import typing
from typing import Any, Dict, List, NamedTuple, Tuple

from rapidfuzz import process

from .post import SECTIONS, Config
from .aware import TRAINING_SECTIONS, TrainingConfig

Path = Tuple  # ("MRECG", "top_k"), ("QuantPost", "overrides", 0, "pattern")
JOBS = {Config: SECTIONS, TrainingConfig: TRAINING_SECTIONS}
ALL_SECTIONS = (*SECTIONS, *TRAINING_SECTIONS)
INVALID = object()  # stands for a value that has been complained about
SLIP = 0.8  # of difflib, from which a word is taken for a slip
FEW_KEYS = 4  # keys of a mapping, up to which all are named
ALIKE = 60  # rapidfuzz score from which a name is worth suggesting
MOST = 1 << 40  # of whole numbers: larger ones count nothing that fits into a computer
UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # in no path, and in no UTF-8 file
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text",
         list: "a list", dict: "a mapping"}


class Problem(NamedTuple):
    """What is wrong with the setting at ``path``, or with a word of the command line."""

    path: Path
    message: str
    is_word: bool = False


class Setting(NamedTuple):
    """One key of a section, for tables and help texts."""

    section: str
    key: str
    type: str
    default: Any
    allowed: str
    doc: str
    symbol: str


def dotted(path: Path) -> str:
    """``MRECG.top_k``, ``QuantPost.overrides[0].pattern``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}"
                   for part in path).lstrip(".")


def did_you_mean(word, choices) -> str:
    """`` Did you mean 'x'?`` or nothing."""
    match = process.extractOne(str(word), list(choices), processor=_plain, score_cutoff=ALIKE)
    return f" Did you mean '{match[0]}'?" if match else ""


def _plain(word: str) -> str:
    """``Loss-Peaks`` is ``loss_peaks``."""
    return word.lower().replace("-", "_")


def nearly(word, choices) -> str:
    """The choice that ``word`` is a slip of, or nothing: stricter than ``did_you_mean``,
    because the word may belong to another program.
    """
    lower = {choice.lower(): choice for choice in choices}
    return lower.get("".join(difflib.get_close_matches(str(word).lower(), lower, 1, SLIP)), "")


def build_config(raw: Dict[str, Any], cls=Config) -> Tuple[Any, List[Problem]]:
    """Build the config of a job from sections; a bad value is replaced by its default and noted.

    Args:
        raw(dict): section -> key -> value, as YAML gives it.
        cls(type, optional): Config or TrainingConfig, whose optional sections are None unless they
            are given. Default: Config.
    """
    problems, parts, sections = [], {}, JOBS[cls]
    for section in raw:
        if section not in sections:
            problems.append(Problem((section,), f"unknown section; there are {', '.join(sections)}."
                                    + did_you_mean(section, sections)))
    hints = typing.get_type_hints(cls)
    for section, field in sections.items():
        hint, optional = _without_none(hints[field])
        if section in raw or not optional:
            parts[field] = _dataclass(hint, raw.get(section), (section,), problems)
    return cls(**parts), problems


def section_class(section: str) -> type:
    """The dataclass of a section of either job."""
    cls, sections = next(job for job in JOBS.items() if section in job[1])
    return _without_none(typing.get_type_hints(cls)[sections[section]])[0]


def all_settings() -> List[Setting]:
    """Every setting of every section of both jobs, in the order of ``config``."""
    rows = []
    for section in ALL_SECTIONS:
        cls = section_class(section)
        hints = typing.get_type_hints(cls)
        for f in dataclasses.fields(cls):
            rows.append(Setting(section, key_of(f), type_name(hints[f.name]), default_of(f),
                                _allowed(f.metadata),
                                f.metadata["doc"], f.metadata["symbol"]))
    return rows


def key_of(field: dataclasses.Field) -> str:
    """The key in YAML: the field's name, without the underscore of ``lambda_``
    and other words of Python.
    """
    return field.name.rstrip("_")


def settings_of(section) -> Dict[str, Any]:
    """A section as YAML has it: plain values by ``key_of``; the reverse of reading it."""
    return dataclasses.asdict(section,
                              dict_factory=lambda items: {name.rstrip("_"): value
                                                          for name, value in items})


def default_of(field: dataclasses.Field):
    """The default of a dataclass field, also when a factory makes it."""
    return field.default_factory() if field.default is dataclasses.MISSING else field.default


def type_name(hint) -> str:
    """``int``, ``list of float``, ``Data``, ... as the documentation shows it;
    Optional is shown by the default.
    """
    hint = _without_none(hint)[0]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"list of {type_name(args[0])}"
    return "mapping" if origin is dict else hint.__name__


def _allowed(meta) -> str:
    if meta["choices"]:
        return ", ".join(map(str, meta["choices"]))
    low, high = meta["low"], meta["high"]
    if low is None:
        return ""
    return f"≥ {low}" if high is None else f"{low} to {high}"


def _dataclass(cls, raw, path: Path, problems: List[Problem]):
    """``cls`` from a mapping; unknown keys and bad values are noted and left out."""
    if raw is None:  # an empty section
        raw = {}
    if not isinstance(raw, dict):
        problems.append(Problem(path, f"must be a mapping of settings, got {as_text(raw)}"))
        return cls()
    hints = typing.get_type_hints(cls)
    fields = {key_of(f): f for f in dataclasses.fields(cls)}
    given = {}
    for key, value in raw.items():
        here = path + (key,)
        if key not in fields:
            problems.append(Problem(here, "unknown key." + _home_of(key, path[0], fields)))
            continue
        field = fields[key]
        value = _checked_value(value, hints[field.name], field.metadata, here, problems)
        if value is not INVALID:
            given[field.name] = value
    return cls(**given)


def _home_of(key, section, siblings) -> str:
    """The section of the same job that the key belongs to, what PaddleSlim's name is called here,
    a similar key of this section, or all keys where these are few.
    """
    from .dialect.names import name_for  # which needs this file
    job = next(sections for sections in JOBS.values() if section in sections)
    for section in job:
        if any(key_of(f) == key for f in dataclasses.fields(section_class(section))):
            return f" It belongs in section {section}."
    keys = f" There are {', '.join(siblings)}." if len(siblings) <= FEW_KEYS else ""
    return name_for(key, job is TRAINING_SECTIONS) or did_you_mean(key, siblings) or keys


def _checked_value(value, hint, meta, path: Path, problems: List[Problem]):
    """``value`` as the type of ``hint``, checked against ``meta``;
    INVALID after noting a problem.
    """
    hint, optional = _without_none(hint)
    if value is None and optional:
        return None
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, path, problems)
    origin = typing.get_origin(hint)
    if origin is list:
        return _list(value, typing.get_args(hint)[0], meta, path, problems)
    result = _mapping(value) if origin is dict else _typed_scalar(value, hint)
    if result is INVALID:
        kind = WORDS[origin or hint]
        problems.append(Problem(path, f"must be {kind}{' or left out' if value is None else ''}, "
                                f"got {as_text(value)}"))
        return INVALID
    complaint = _out_of_range(result, meta)
    if complaint:
        problems.append(Problem(path, complaint))
        return INVALID
    return result


def _list(value, item_hint, meta, path: Path, problems: List[Problem]):
    if not isinstance(value, (list, tuple)):
        problems.append(Problem(path, f"must be a list, got {as_text(value)}"))
        return INVALID
    if meta["min_items"] and len(value) < meta["min_items"]:
        problems.append(Problem(path, f"must have at least {meta['min_items']} entries, got "
                                f"{as_text(value)}"))
        return INVALID
    free = dict(meta, choices=None, low=None, high=None, min_items=None)
    items = [_checked_value(item, item_hint, free, path + (k,), problems)
             for k, item in enumerate(value)]
    return INVALID if INVALID in items else items


def _mapping(value):
    return (dict(value) if isinstance(value, dict) and all(isinstance(k, str) for k in value)
            else INVALID)


def _typed_scalar(value, kind):
    """YAML's value as ``kind``; YAML 1.1 reads ``1e-3`` as text, which is meant as a number."""
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else INVALID
    if kind is str:
        return value if isinstance(value, str) and not UNWRITABLE.search(value) else INVALID
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        return INVALID
    if not math.isfinite(number):
        return INVALID
    if kind is float:
        return number
    if isinstance(value, int):
        return value
    return int(number) if number.is_integer() else INVALID


def _out_of_range(value, meta) -> str:
    """What is wrong with a value of the right type, or nothing."""
    choices, low, high = meta["choices"], meta["low"], meta["high"]
    if choices and value not in choices:
        return (f"must be one of {', '.join(choices)}; got "
                f"{as_text(value)}.{did_you_mean(value, choices)}")
    if isinstance(value, int) and abs(value) > MOST:
        return f"must be at most {MOST}, got {as_text(value)}"
    if low is not None and value < low or high is not None and value > high:
        return (f"must be {f'at least {low}' if high is None else f'between {low} and {high}'}, "
                f"got {as_text(value)}")
    return ""


def _without_none(hint):
    """Optional[X] -> (X, True); X -> (X, False)."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Union and type(None) in args:
        return next(a for a in args if a is not type(None)), True
    return hint, False


def as_text(value) -> str:
    try:
        text = ("nothing" if value is None else str(value) if not isinstance(value, str)
                else repr(value) if UNWRITABLE.search(value) else f"'{value}'")
    except ValueError:  # Python prints no number of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
