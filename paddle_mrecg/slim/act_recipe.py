# SPDX-License-Identifier: Apache-2.0
"""Recipes of AutoCompression (ACT) with our sections, checked before PaddleSlim reads them.

PaddleSlim drops sections that it does not know, and of unknown keys it names one at a time in a
traceback. Where one of our sections stands, every mistake of the file is therefore found here.
Nothing in this file imports Paddle directly: the names of PaddleSlim's keys come from its classes,
which are imported when a recipe is checked.
"""
import copy
import dataclasses
import inspect
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from ..config.post import MRECG, QuantPost
from ..config.io import apply_overrides, complain, load_config, read_sections
from ..config.schema import Problem, did_you_mean, key_of, nearly
from ..errors import ConfigError, kind_of
from ..config.dialect.post import GLOBAL_KEYWORDS, POST, RENAMED
from ..config.dialect.translation import Sections, translate_all

TRAINED = ("BinRegularization", "SymmetricPACT")
ACT_OURS = ("MRECG", *TRAINED)
DISTILLATION = ("Distillation", "MultiTeacherDistillation")
# Sections that only ACT has, so a file with one of them is a recipe.
ACT_ONLY = (*DISTILLATION, "HyperParameterOptimization", "ChannelPrune", "UnstructurePrune",
            "TransformerPrune", "ASPPrune",
            "TrainConfig")
ACT_SECTIONS = ("QuantAware", "QuantPost", *ACT_ONLY)
# What ACT's QuantPost says about the data, and not how to quantize.
RECIPE_READERS = ("batch_size", "batch_nums", "skip_tensor_list")


def is_recipe(sections: Dict[str, Any]) -> bool:
    """A recipe of ACT, to tell it from a config of our own jobs, which share the sections
    Global, QuantPost and MRECG.
    """
    post = sections.get("QuantPost")
    theirs = {*POST, *RECIPE_READERS} - _keys(QuantPost)
    return bool(set(sections) & set(ACT_ONLY)) or (not {"Data", "Evaluation"} & set(sections)
                                                   and isinstance(post, dict)
                                                   and bool(set(post) & theirs))


def load_recipe(source, overrides: Iterable[str] = ()) -> Dict[str, Any]:
    """The sections of a recipe, all of it checked.

    Args:
        source(str|dict): YAML file or mapping of sections.
        overrides(iterable, optional): ``Section.key=value`` strings that win
            over ``source``. Default: ().

    Returns:
        dict: a copy, as ``AutoCompression(config=...)`` takes it; a section without keys is {}.

    Raises:
        ConfigError: with everything that is wrong: sections and keys that neither PaddleSlim nor we
            know, sections that do not go together, and wrong values of our settings.
    """
    sections, lines, problems = read_sections(source, ACT_SECTIONS)
    problems += apply_overrides(sections, lines, overrides, resolved=False)
    problems += _wrong_names(sections)
    sections = {name: {} if value is None else value for name, value in sections.items()}
    whole = {name: value for name, value in sections.items() if isinstance(value, dict)}
    problems += _contradictions(whole)
    problems += _wrong_post(whole) if "MRECG" in whole else _wrong_training(whole)
    complain(problems, lines, source)
    return sections


def post_arguments(sections: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Readers, and settings as ``quant_post_static`` takes them, of a checked
    recipe with section MRECG.
    """
    post = {k: v for k, v in sections.get("QuantPost", {}).items() if k != "recon_level"}
    readers = {k: post.pop(k) for k in RECIPE_READERS if k in post}
    ours = {RENAMED.get(k, k): v for k, v in sections["MRECG"].items()}
    return readers, {**post, **ours, **_our_global(sections)}


def training_keys(sections: Dict[str, Any]) -> Dict[str, Any]:
    """Keys of ``quant_aware``'s config for the sections BinRegularization and SymmetricPACT."""
    keys = ({"bin_regularization": sections["BinRegularization"]} if "BinRegularization" in sections
            else {})
    if "SymmetricPACT" in sections:
        keys.update(activation_preprocess_type="SymmetricPACT",
                    symmetric_pact=sections["SymmetricPACT"])
    return keys


def _wrong_names(sections: Dict[str, Any]) -> Iterator[Problem]:
    """Misspelled sections, unknown keys, and missing keys that PaddleSlim needs."""
    from paddleslim.auto_compression import strategy_config
    known = (*ACT_SECTIONS, "Global", *ACT_OURS)
    for name, value in sections.items():
        if name not in known:
            # others (data, metrics) are for the script around AutoCompression
            if nearly(name, known):
                yield Problem((name,), f"unknown section.{did_you_mean(name, known)}")
        elif value is not None and not isinstance(value, dict):
            yield Problem((name,), f"must be a mapping of keys, got {kind_of(value)}")
        elif name in ACT_SECTIONS and not (name == "QuantPost" and "MRECG" in sections):
            parameters = dict(inspect.signature(getattr(strategy_config, name)).parameters)
            yield from _wrong_keys(name, value or {}, parameters)
            missing = [k for k, p in parameters.items()
                       if p.default is p.empty and k not in (value or {})]
            yield from (Problem((name, key), "is needed; PaddleSlim has no default for it")
                        for key in missing)


def _wrong_keys(section: str, given: Iterable[str], known: Iterable[str]) -> Iterator[Problem]:
    known = list(known)
    for key in given:
        if key not in known:
            yield Problem((section, key), f"unknown key.{did_you_mean(key, known)}")


def _contradictions(sections: Dict[str, Any]) -> Iterator[Problem]:
    """Sections that do not go together."""
    training = " and ".join(name for name in TRAINED if name in sections)
    if "MRECG" in sections:
        # The scripts of PaddleOCR and PaddleClas read TrainConfig
        # themselves, whatever the strategy.
        others = [name for name in sections if name in (*TRAINED, *ACT_SECTIONS)
                  and name not in ("QuantPost", "TrainConfig")]
        if others:
            yield Problem(("MRECG",),
                          f"is a post-training strategy and goes with QuantPost alone, not with "
                                      f"{' and '.join(others)}; give it a config of its own")
        if sections.get("QuantPost", {}).get("recon_level") not in (None, "mrecg"):
            yield Problem(("QuantPost", "recon_level"),
                          "is another reconstruction than MRECG; leave one of them out")
    elif training:
        if "QuantAware" not in sections or not set(DISTILLATION) & set(sections):
            yield Problem((training,),
                          "act while training; give the sections QuantAware and Distillation too")
        elif {"QuantPost", "HyperParameterOptimization"} <= set(sections):
            yield Problem((training,), "PaddleSlim does not train next to QuantPost and "
                          "HyperParameterOptimization; leave those out")
        if "SymmetricPACT" in sections and sections.get("QuantAware", {}).get("use_pact"):
            yield Problem(("SymmetricPACT",), "replaces QuantAware.use_pact; leave one of them out")


def _wrong_post(sections: Dict[str, Any]) -> Iterator[Problem]:
    """QuantPost, MRECG and our part of Global."""
    ours, post = _keys(QuantPost), sections.get("QuantPost", {})
    known = [*POST, *RECIPE_READERS, *ours, "recon_level"]
    yield from _wrong_keys("QuantPost", post, known)
    yield from _wrong_keys("MRECG", sections["MRECG"], _keys(MRECG))
    own: Sections = {"QuantPost": {"weight_bits": 8, "activation_bits": 8},
                     "Global": _our_global(sections),
                     "MRECG": {k: v for k, v in sections["MRECG"].items() if k in _keys(MRECG)}}
    own["QuantPost"].update((k, v) for k, v in post.items() if k in ours)
    theirs = {k: v for k, v in post.items() if k in POST and k not in ours}
    own, problems = translate_all(theirs, POST, own)
    yield from (Problem(("QuantPost", key), message) for key, message in problems.items())
    yield from _of_error(load_config, own)
    for key in sections.get("Global", {}):
        near = nearly(key, GLOBAL_KEYWORDS)  # others are keys of that script
        if near and key not in GLOBAL_KEYWORDS:
            yield Problem(("Global", key),
                          f"is not a setting of paddle_mrecg. Did you mean '{near}'?")


def _wrong_training(sections: Dict[str, Any]) -> List[Problem]:
    """BinRegularization and SymmetricPACT."""
    from .static_quant_aware import split
    return _of_error(split, training_keys(sections))


def _of_error(function, argument) -> List[Problem]:
    """The problems of the ConfigError that ``function`` raises, if it does."""
    try:
        function(argument)
    except ConfigError as error:
        pairs = [text.partition(": ") for text in error.problems]
        return [Problem(tuple(name.replace("bin_regularization", "BinRegularization").split(".")),
                        message)
                for name, _, message in pairs]
    return []


def _our_global(sections: Dict[str, Any]) -> Dict[str, Any]:
    return {k: copy.deepcopy(v) for k, v in sections.get("Global", {}).items()
            if k in GLOBAL_KEYWORDS}


def _keys(cls) -> set:
    return {key_of(field) for field in dataclasses.fields(cls)}
