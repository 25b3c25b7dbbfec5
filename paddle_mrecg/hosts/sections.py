# SPDX-License-Identifier: Apache-2.0
"""Our sections in a host's YAML file: found, put together with the strategy file, and
checked before anything runs.

A host reads its own sections and ignores the rest, so ours can be added to the same file,
under the same names as everywhere: QuantAware, BinRegularization, Dampening, SymmetricPACT for its
training, QuantPost, MRECG, Data for its post-training scripts.
"""
import os
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

import yaml

from ..config import Config
from ..config.io import apply_overrides, load_config, load_training_config, read_sections
from ..config.schema import ALL_SECTIONS, nearly
from ..config.aware import TRAINING_SECTIONS, TrainingConfig
from ..errors import ConfigError
from ..slim.act_recipe import is_recipe
from .host import ScriptCall, call_of

POST_SECTIONS = ("QuantPost", "MRECG", "Data")
IN_HOST_FILES = (*TRAINING_SECTIONS, *POST_SECTIONS)
BASE_KEY = "_BASE_"  # PaddleDetection's list of files to start from
# What cannot be said here, and why.
SCRIPTS_OWN = "has no effect, the script decides it; leave it out"
NO_CALIBRATION = ("needs calibration data before training, which scripts of hosts do "
                  "not give; leave it out")
INJECTED = ("has no effect, penalties are injected: the script's loop adds none to "
            "its loss; leave it out")
REFUSED = {
    "Global": dict.fromkeys(("model_dir", "model_filename", "params_filename", "save_dir",
                             "resume", "overwrite"), SCRIPTS_OWN),
    "Data": dict.fromkeys(("image_dir", "label_file", "loader", "loader_args", "input_shape",
                           "resize_short"), SCRIPTS_OWN),
    "QuantAware": {"penalty_mode": INJECTED,
                   **dict.fromkeys(("hardware_friendly", "fold_batch_norm",
                                    "quantize_additions"), NO_CALIBRATION)},
}


class Strategies(NamedTuple):
    """What was asked for.

    Attributes:
        training(TrainingConfig or None): for scripts that train, with gradients injected.
        post(dict or None): checked sections for scripts that quantize after training.
        sources(dict): section -> the file or option that it comes from.
    """

    training: Optional[TrainingConfig]
    post: Optional[Dict[str, Dict[str, Any]]]
    sources: Dict[str, str]


class _HostLoader(yaml.SafeLoader):
    """Hosts' files hold tags of their own (``!CosineDecay``), which say nothing to us."""


for _prefix in ("!", "tag:yaml.org,2002:python/"):
    _HostLoader.add_multi_constructor(_prefix, lambda loader, suffix, node: None)


def examine(script: str, arguments: List[str],
            strategy: Optional[str] = None) -> Tuple[ScriptCall, "Strategies"]:
    """A call of a script and its strategies, checked; nothing of the host is imported.

    Args:
        script(str): path of a Python script, of a host or any other.
        arguments(list[str]): its arguments.
        strategy(str, optional): a YAML file of our sections, for what the host's own file
            does not hold. Default: None.

    Raises:
        ConfigError: the script does not exist; and see ``read_strategies``.
    """
    if not os.path.isfile(script):
        raise ConfigError(f"no script '{script}': give the path of a Python script, from the "
                          "directory that you run it in")
    call = call_of(script, arguments)
    return call, read_strategies(call, strategy)


def described(call: ScriptCall, strategies: Strategies) -> str:
    """What would be switched on, in words."""
    lines = [f"script   {call.script}",
             f"host     {call.host.NAME if call.host else 'none: epochs are unknown'}"]
    lines += [f"section  {name} ({source})" for name, source in strategies.sources.items()]
    if not strategies.sources:
        lines.append("section  none: our names work in PaddleSlim's own settings and in recipes of "
                     "AutoCompression")
    if call.host and strategies.training is not None:
        lines += call.host.look_ahead(call, _host_config(call))
        lines.append("export   leaves out layers that only training runs, and names them in its "
                     "log and in report.json; run it with the same sections: other skip patterns "
                     "or bits than those of the checkpoint stop it")
    return "\n".join(lines)


def _host_config(call: ScriptCall) -> Dict[str, Any]:
    """The host's own settings, as far as its files and ``-o Section.key=value`` say them."""
    config: Dict[str, Any] = {}
    for path in call.config_files():
        config.update(host_sections(path))
    for text in call.overrides():
        (*names, key), value = text.partition("=")[0].split("."), text.partition("=")[2]
        place = config
        for name in names:
            place = place.setdefault(name, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place[key] = value
    return config


def read_strategies(call: ScriptCall, strategy: Optional[str] = None) -> Strategies:
    """All sections that a call names, checked.

    Args:
        call(Call): the script and its arguments.
        strategy(str, optional): a YAML file of our sections. Default: None.

    Raises:
        ConfigError: with everything that is wrong: sections given twice or misspelled, unknown
            keys, wrong values, and settings that the script decides.
    """
    found, sources, problems = {}, {}, []
    if strategy is not None:
        own, _, twice = read_sections(strategy, ALL_SECTIONS)
        problems += [f"{strategy}: {'.'.join(p.path)} {p.message}" for p in twice]
        found.update(own)
        sources.update({name: strategy for name in own})
    for path in call.config_files():
        entries = host_sections(path)
        if is_recipe(entries):  # of AutoCompression, which checks it with our names registered
            continue
        for name, value in entries.items():
            if name in IN_HOST_FILES and name in sources:
                problems.append(f"{name} stands in {sources[name]} and in {path}; keep one")
            elif name in IN_HOST_FILES:
                found[name], sources[name] = value, path
            else:
                problems += _misspelled(name, path)
    problems += _override(found, sources, call.overrides())
    problems += [f"{sources[section]}: {section}.{key} {why}" for section, keys in REFUSED.items()
                 if isinstance(found.get(section), dict) for key, why in keys.items()
                 if key in found[section]]
    training, post = _configs(found, sources, problems, call.host is not None)
    if problems:
        raise ConfigError(problems)
    return Strategies(training, post, {name: sources[name] for name in sources if name in found})


def host_sections(path: str) -> Dict[str, Any]:
    """Top-level entries of a host's YAML file, those of its ``_BASE_`` files included.

    Raises:
        ConfigError: the file is not YAML.
    """
    try:
        with open(path, encoding="utf-8") as file:
            loader = _HostLoader(file)
            try:
                entries = loader.get_single_data()
            finally:
                loader.dispose()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"'{path}' cannot be read ({reason}); give a "
                          "YAML file of the host") from error
    entries = entries if isinstance(entries, dict) else {}
    merged: Dict[str, Any] = {}
    for base in entries.pop(BASE_KEY, None) or ():
        base = os.path.expanduser(str(base))
        base = os.path.join(os.path.dirname(path), base)
        merged.update(host_sections(base) if os.path.isfile(base) else {})
    return {**merged, **entries}


def _misspelled(name, source: str) -> List[str]:
    """A host ignores what it does not know, so one of our sections with a misspelled name
    would be dropped silently.
    """
    near = nearly(name, IN_HOST_FILES)
    return [f"{source}: unknown section {name}. Did you mean '{near}'?"] if near else []


def _override(found: Dict, sources: Dict[str, str], overrides: Iterable[str]) -> List[str]:
    """The host's own ``-o Section.key=value``, where the section is one of ours."""
    problems, ours = [], []
    for text in overrides:
        name = text.partition("=")[0].split(".")[0]
        if name in IN_HOST_FILES:
            ours.append(text)
            sources.setdefault(name, "the command line")
        elif name not in sources:
            problems += _misspelled(name, "the command line")
    return (problems + [f"{'.'.join(p.path)} {p.message}"
                        for p in apply_overrides(found, {}, ours, resolved=False)])


def _configs(found: Dict, sources: Dict[str, str], problems: List[str], known_host: bool):
    """The training settings and the checked post-training sections; what is wrong
    is added to ``problems``.
    """
    post = {name: found[name] or {} for name in (*POST_SECTIONS, "Global") if name in found}
    training = {name: found[name] for name in found if name not in post}
    injected = _injected(training, known_host, sources, problems)
    settings = (_loaded(load_training_config, injected, sources, problems) if training else None)
    checked = (_loaded(load_config, post, sources, problems) if set(post) & set(POST_SECTIONS)
               else None)
    if post and checked is None and set(post) == {"Global"}:
        problems.append(f"{sources['Global']}: Global is read with the sections QuantPost and "
                        "MRECG; give one of these")
    return settings, post if isinstance(checked, Config) else None


def _injected(training: Dict, known_host: bool, sources, problems: List[str]) -> Dict:
    """The host's loop knows nothing of penalties, so they are injected; without
    epochs they act from the start.
    """
    settings, bins = training.get("QuantAware") or {}, training.get("BinRegularization", {}) or {}
    if isinstance(settings, dict):
        settings = {"penalty_mode": "injection", **settings}
    if isinstance(bins, dict) and bins.get("efolds") is not None and not known_host:
        problems.append(f"{sources['BinRegularization']}: BinRegularization.efolds must know the "
                        "optimizer and the epochs, which are read only from scripts of PaddleOCR, "
                        "PaddleClas and PaddleDetection; give lambda, or call penalty.plan in the "
                        "script")
    if "BinRegularization" in training and isinstance(bins, dict) and not known_host:
        training = dict(training, BinRegularization={"schedule": "S1", **bins})
    return dict(training, QuantAware=settings)


def _loaded(load, sections: Dict, sources: Dict[str, str], problems: List[str]):
    try:
        return load(sections)
    except ConfigError as error:
        for text in error.problems:
            source = sources.get(text.split(".")[0].split(":")[0])
            problems.append(f"{source}: {text}" if source else text)
        return None
