# SPDX-License-Identifier: Apache-2.0
"""Read, check and write configs: YAML, dict and dataclasses are the same thing."""
import copy
import os
from typing import Any, Dict, List, Optional, Tuple

import yaml

from ..errors import ConfigError, kind_of
from ..files import write_text
from .bounds import of_node, of_value, written_size
from .post import SECTIONS, Config
from .post_rules import check_rules, preset_without_effect
from .schema import (ALL_SECTIONS, JOBS, Path, Problem, as_text, build_config, did_you_mean, dotted,
                     settings_of)
from .aware import TRAINING_SECTIONS, TrainingConfig
from .aware_rules import check_training_rules

# What PyYAML raises on values that look like dates, numbers or tags and are none, and on depth.
UNPARSABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError,
              RecursionError)
MOST_CHARACTERS = 1 << 20
HEADER = ("# Every setting of this run, defaults and preset included; it can be "
          "given as config again.\n")


def load_config(source=None, overrides=()) -> Config:
    """Read a config and check all of it.

    Args:
        source(str|dict|Config, optional): YAML file, mapping of sections, or a
            Config (which is checked and copied). Default: None, all defaults.
        overrides(list[str], optional): ``Section.key=value`` with the value in
            YAML; they win over ``source``. Default: ().

    Returns:
        Config: a new object with the preset resolved.

    Raises:
        ConfigError: with everything that is wrong: unknown sections and keys,
            wrong types, values out of range, settings that contradict each
            other or would have no effect, a file that is missing or no YAML.

    Examples:
        >>> load_config({"MRECG": {"preset": "fast"}}, ["MRECG.num_iters=100"]).mrecg.num_iters
        100
    """
    raw, lines, problems = read_sections(source, SECTIONS)
    problems += apply_overrides(raw, lines, overrides, resolved=isinstance(source, Config))
    config, more = build_config(raw)
    problems += more
    problems += check_rules(config, [p.path for p in problems])
    complain(problems, lines, source)
    return config


def load_training_config(source=None, overrides=()) -> TrainingConfig:
    """``load_config`` for the quant-aware job: QuantAware and the sections next to it.

    Args: and raises as ``load_config``; ``source`` may be a TrainingConfig.

    Examples:
        >>> config = load_training_config({"QuantAware": {"weight_bits": 2},
        ...     "BinRegularization": None})
        >>> (config.quant_aware.weight_bits, config.bin_regularization.schedule,
        ...  config.symmetric_pact)
        (2, 'S2', None)
    """
    raw, lines, problems = read_sections(source, TRAINING_SECTIONS)
    problems += apply_overrides(raw, lines, overrides, resolved=isinstance(source, TrainingConfig))
    config, more = build_config(raw, TrainingConfig)
    problems += more
    problems += check_training_rules(config, [p.path for p in problems])
    complain(problems, lines, source)
    return config


def load_any_config(source, overrides=()):
    """``load_training_config`` for a config whose sections are those of quant-aware
    training, else ``load_config``.
    """
    raw, _, _ = read_sections(source, ALL_SECTIONS)
    training = (any(section in TRAINING_SECTIONS for section in raw)
                and not any(section in SECTIONS for section in raw))
    return (load_training_config if training else load_config)(source, overrides)


def complain(problems: List[Problem], lines: Dict[Path, int], source):
    """Raise a ConfigError with all problems and the lines they stand in, if there are any."""
    if problems:
        raise ConfigError([_sentence(p, lines,
                                     os.fspath(source) if lines and any(lines.values()) else "")
                           for p in problems])


def config_to_dict(config) -> Dict[str, Dict[str, Any]]:
    """Sections of plain values, as YAML has them, of a Config or a TrainingConfig."""
    parts = {section: getattr(config, field) for section, field in JOBS[type(config)].items()}
    return {section: settings_of(part) for section, part in parts.items() if part is not None}


def save_config(config: Config, path: str):
    """Write a config so that loading it gives an equal one.

    Raises:
        OutputError: the file cannot be written.
    """
    text = yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True, width=120)
    write_text(os.fspath(path), HEADER + text)


def missing_for_command(config: Config) -> List[str]:
    """What the command line still needs; from Python it may be passed as arguments instead."""
    problems = []
    if config.global_.model_dir is None:
        problems.append("Global.model_dir: set it to the directory or file prefix "
                        "of the exported model")
    for name, data in (("Data", config.data), ("Evaluation.data", config.evaluation.data)):
        if data is None:
            continue
        if data.image_dir is None and data.loader is None:
            problems.append(f"{name}: set image_dir (a folder of images) or loader "
                            "(module:function)")
        elif data is config.evaluation.data and data.loader is None and data.label_file is None:
            problems.append(f"{name}.label_file: set it; scores need labels")
    return problems


def too_few_samples(config: Config, images: Optional[int] = None) -> List[str]:
    """What the numbers alone say: fewer samples than one training step of ``quant`` draws.

    Args:
        config(Config): the settings.
        images(int, optional): how many the folder holds. Default: None, not known.
    """
    data, needed = config.data, config.mrecg.batch_size
    count = data.num_samples if images is None else min(images, data.num_samples)
    if not config.mrecg.num_iters or count * data.views >= needed:
        return []
    views = f" in {data.views} views each" if data.views > 1 else ""
    what, cure = ((f"Data.num_samples: {count}", "raise Data.num_samples or Data.views")
                  if count == data.num_samples else
                  (f"Data.image_dir: {count} samples", "give more images, raise Data.views"))
    return [f"{what}{views} are too few: one training step draws MRECG.batch_size = {needed}; "
            f"{cure}, or lower MRECG.batch_size"]


def _sentence(problem: Problem, lines: Dict[Path, int], where: str) -> str:
    line = 0 if problem.is_word else next(
        (lines[problem.path[:n]] for n in range(len(problem.path), 0, -1)
         if problem.path[:n] in lines), None)
    place = f" ({where}, line {line})" if line else " (command line)" if line == 0 else ""
    return f"{dotted(problem.path)}{place}: {problem.message}"


def read_sections(source, sections) -> Tuple[Dict, Dict[Path, int], List[Problem]]:
    """Sections as given, where each key stands, and keys that stand there twice.

    Raises:
        ConfigError: a file that is missing or no YAML, or holds no mapping.
    """
    if source is None:
        return {}, {}, []
    if type(source) in JOBS:
        return config_to_dict(source), {}, []
    if isinstance(source, dict):
        try:
            written_size(source, of_value)
            return copy.deepcopy(source), {}, []
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the config cannot be read ({_yaml_error(error)}): give plain "
                              "values") from error
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigError("a config is a YAML file, a mapping or a Config, got "
                          f"{kind_of(source)}")
    try:
        with open(source, encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"it is longer than {MOST_CHARACTERS} characters")
        raw, tree = _parsed(text)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"config file '{source}' cannot be read ({reason}); give "
                          "the path of a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"config file '{source}'{at} is not valid YAML "
                          f"({getattr(error, 'problem', None) or error}); check indentation, "
                          "colons and quotes there") from error
    except UNPARSABLE as error:
        raise ConfigError(f"config file {str(source)!r} cannot be read ({_yaml_error(error)}): "
                          "give the path of a YAML file with plain values") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"config file '{source}' must hold the sections {', '.join(sections)}, "
                          f"got {kind_of(raw)}")
    lines, twice = {}, []
    _note_lines(tree, (), lines, twice)
    return raw, lines, twice


def _parsed(text: str):
    """The value of a YAML text and its nodes, which say where what stands."""
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    written_size(tree, of_node)  # before aliases are written out
    return yaml.safe_load(text), tree


def _yaml_error(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error).splitlines()[0][:200] if str(error) else ""
    return text if isinstance(error, ValueError) and text else f"{kind_of(error)}: {text}"


def _note_lines(node, path: Path, lines: Dict[Path, int], twice: List[Problem]):
    """Note the line of every key; YAML itself would silently keep the last of two equal ones."""
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            here, line = path + (key.value,), key.start_mark.line + 1
            if here in lines:
                twice.append(Problem(here, f"is given twice, in lines {lines[here]} "
                                     f"and {line}; keep one"))
            lines[here] = line
            _note_lines(child, here, lines, twice)
    elif isinstance(node, yaml.SequenceNode):
        for k, child in enumerate(node.value):
            lines[path + (k,)] = child.start_mark.line + 1
            _note_lines(child, path + (k,), lines, twice)


def apply_overrides(raw: Dict, lines: Dict[Path, int], overrides, resolved: bool) -> List[Problem]:
    """Put ``Section.key=value`` into ``raw``; names and values are checked with the rest."""
    problems, before = [], copy.deepcopy(raw.get("MRECG"))
    for text in overrides:
        name, equals, value = str(text).partition("=")
        keys = tuple(name.strip().split("."))
        if not equals or len(keys) < 2 or not all(keys):
            hint = "" if equals or name in ALL_SECTIONS else did_you_mean(name, ALL_SECTIONS)
            problems.append(Problem((str(text),), "an override is Section.key=value, e.g. "
                                    f"MRECG.num_iters=100.{hint}", is_word=True))
            continue
        try:
            value = _parsed(value)[0]
        except (yaml.YAMLError, *UNPARSABLE):
            problems.append(Problem(keys, f"value {as_text(value)} is not valid YAML; quote it",
                                    is_word=True))
            continue
        problems += _put_nested(raw, keys, value)
        for path in [path for path in lines if path[:len(keys)] == keys]:
            del lines[path]
        lines[keys] = 0  # stands in no file any more
        if keys == ("MRECG", "preset") and isinstance(before, dict) and isinstance(value, str) and \
                before.get("preset") != value and (resolved
                                                   or preset_without_effect(value, before)):
            problems.append(Problem(keys, f"'{value}' changes nothing: the config sets everything "
                                    "that the preset would; remove those keys or start from "
                                    "another config"))
    return problems


def _put_nested(raw: Dict, keys: Path, value) -> List[Problem]:
    """Set a nested value, making missing mappings on the way."""
    for depth, key in enumerate(keys[:-1]):
        if raw.get(key) is None:
            raw[key] = {}
        raw = raw[key]
        if not isinstance(raw, dict):
            return [Problem(keys, f"{dotted(keys[:depth + 1])} is not a mapping, so nothing in it "
                            "can be set; give the whole value", is_word=True)]
    raw[keys[-1]] = value
    return []
