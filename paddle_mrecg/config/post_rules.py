# SPDX-License-Identifier: Apache-2.0
"""Settings that are fine one by one but not together.

Three tables: what a target cannot run, what contradicts itself, and what would
have no effect. A setting has no effect only where it differs from the value it
would have if it were not given, so a saved, resolved config loads again.
"""
import re
from typing import Callable, Iterator, List, NamedTuple, Tuple

from ..errors import numbered
from .post import LOSS_POLICIES, PRESETS, SECTIONS, Config, Data, QuantPost
from .schema import Path, Problem, dotted
from .shared_rules import check_activation_bits, check_overrides, check_types, field_default

JOINING = ("modcap",) + LOSS_POLICIES
HOOK = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
CURE = "or set Global.target: simulation to try it without a device"


class Conflict(NamedTuple):
    """``key`` is wrong when ``broken``; ``others`` are the settings it clashes with."""

    key: str
    others: Tuple[str, ...]
    broken: Callable[[Config], bool]
    message: str


class NoEffect(NamedTuple):
    """``key`` is read only while ``selector`` has one of ``values``."""

    key: str
    selector: str
    values: Tuple


def _for_lite(config: Config) -> bool:
    return config.global_.target == "paddle_lite"


def _unread_weight(name: str) -> Conflict:
    key = f"MRECG.{name}"
    return Conflict(key, ("MRECG.round_weight_relative", "MRECG.preset"),
                    lambda c: c.mrecg.round_weight_relative > 0
                    and value(c, key) != default(c, key),
                    "has no effect while round_weight_relative is above 0 (the preset may have set "
                    "it); remove it, or set round_weight_relative to 0")


CONFLICTS = (
    Conflict("Global.overwrite", ("Global.resume",),
             lambda c: c.global_.overwrite and c.global_.resume,
             "deletes what resume would go on with; leave out one of them"),
    _unread_weight("round_weight"),
    _unread_weight("round_weight_depthwise"),
    Conflict("QuantPost.weight_symmetric", ("Global.target",),
             lambda c: _for_lite(c) and c.quant_post.weight_symmetric is False,
             f"Paddle Lite's int8 kernels have no zero point for weights; use true, {CURE}"),
    Conflict("QuantPost.activation_symmetric", ("Global.target",),
             lambda c: _for_lite(c) and c.quant_post.activation_symmetric is False,
             f"Paddle Lite's int8 kernels have no zero point for activations; use true, {CURE}"),
    Conflict("QuantPost.percentile", ("QuantPost.weight_observer", "QuantPost.activation_observer"),
             lambda c: (c.quant_post.percentile != default(c, "QuantPost.percentile") and
                        "percentile" not in (c.quant_post.weight_observer,
                                             c.quant_post.activation_observer)),
             "has no effect: it is read only by the observer 'percentile'; remove it, or set "
             "weight_observer or activation_observer to percentile"),
    Conflict("MRECG.units", ("MRECG.granularity",),
             lambda c: c.mrecg.granularity == "explicit" and not c.mrecg.units,
             "granularity explicit needs the list of units, e.g. units: [[0, 0], [1, 2], [3, 3]]; "
             "`paddle-mrecg plan` with granularity block prints the modules' numbers"),
    Conflict("MRECG.beta_end", ("MRECG.beta_start",),
             lambda c: c.mrecg.beta_end > c.mrecg.beta_start,
             "must not exceed beta_start: the rounding term is annealed downwards"),
    Conflict("MRECG.activation_clip", ("MRECG.scale_lr",),
             lambda c: c.mrecg.activation_clip != "none" and c.mrecg.scale_lr == 0.0,
             "scale_lr is 0, so the clip would never learn; set scale_lr above 0 (the preset may "
             "have set it to 0)"),
    Conflict("MRECG.warm_up", ("MRECG.round_weight_relative",),
             lambda c: c.mrecg.round_weight_relative > 0 and c.mrecg.warm_up == 0.0,
             "round_weight_relative measures gradients during warm-up; set warm_up above 0, or "
             "round_weight_relative to 0 (the preset may have set it)"),
    Conflict("Data.mirror", ("Data.views",), lambda c: c.data.mirror and c.data.views == 1,
             "has no effect with views 1: it mirrors half of the further views; set "
             "Data.views to 2 or more"),
    Conflict("Evaluation.data", ("Evaluation.evaluator",),
             lambda c: c.evaluation.data is not None and c.evaluation.evaluator is not None,
             "give data (for top1 and top5) or evaluator, not both"),
    Conflict("Evaluation.evaluator_args", ("Evaluation.evaluator",),
             lambda c: bool(c.evaluation.evaluator_args) and c.evaluation.evaluator is None,
             "has no effect without Evaluation.evaluator"),
    Conflict("Evaluation.label_offset", ("Evaluation.data",),
             lambda c: c.evaluation.label_offset != 0 and c.evaluation.data is None,
             "has no effect without Evaluation.data"),
)

NO_EFFECT = (
    NoEffect("MRECG.units", "MRECG.granularity", ("explicit",)),
    NoEffect("MRECG.top_k", "MRECG.granularity", ("modcap", "loss")),
    NoEffect("MRECG.stride_factor", "MRECG.granularity", ("modcap",)),
    NoEffect("MRECG.homogeneous_only", "MRECG.granularity", ("modcap",)),
    NoEffect("MRECG.max_unit_modules", "MRECG.granularity", JOINING),
    NoEffect("MRECG.inner_weight", "MRECG.granularity", JOINING + ("explicit",)),
    NoEffect("MRECG.relative_loss", "MRECG.granularity", LOSS_POLICIES),
    NoEffect("MRECG.peak_partner", "MRECG.granularity", ("loss_peaks",)),
    NoEffect("MRECG.join_cost", "MRECG.granularity", ("optimal",)),
    NoEffect("MRECG.first_pass_ratio", "MRECG.granularity", LOSS_POLICIES),
    NoEffect("MRECG.warm_start", "MRECG.granularity", LOSS_POLICIES),
)

# Keys of an image reader that mean nothing to a `module:function` loader.
IMAGE_KEYS = ("label_file", "input_shape", "resize_short", "crop", "layout", "scale", "mean", "std",
              "pad_value")


def check_rules(config: Config, bad: List[Path]) -> Iterator[Problem]:
    """Problems between settings.

    Args:
        config(Config): right in its types and ranges.
        bad(list[tuple]): paths that have been complained about; rules that read them are not asked.
    """
    complained = {dotted(path[:2]) for path in bad}

    def is_open(*keys):
        return not complained & set(keys)

    for rule in CONFLICTS:
        if is_open(rule.key, *rule.others) and rule.broken(config):
            yield Problem(tuple(rule.key.split(".")), rule.message)
    for rule in NO_EFFECT:
        if is_open(rule.key, rule.selector,
                   "MRECG.preset") and value(config, rule.selector) not in rule.values and \
                value(config, rule.key) != default(config, rule.key):
            yield Problem(tuple(rule.key.split(".")),
                          f"has no effect with {rule.selector} {value(config, rule.selector)}: it "
                          f"is read only by {' and '.join(rule.values)}; remove it or change "
                          f"{rule.selector}")
    if is_open("Global.target"):
        yield from check_activation_bits("QuantPost", config.quant_post, _for_lite(config), CURE)
    if is_open("QuantPost.overrides"):
        yield from check_overrides("QuantPost", config.quant_post.overrides, "conv2d_3*")
    yield from check_types(("QuantPost", "quantizable_op_type"),
                           config.quant_post.quantizable_op_type,
                           field_default(QuantPost, "quantizable_op_type"))
    yield from _tiling(config.mrecg.units)
    yield from _data(config.data, ("Data",))
    if config.evaluation.data is not None:
        yield from _data(config.evaluation.data, ("Evaluation", "data"))
        for key in ("views", "mirror"):
            if getattr(config.evaluation.data, key) != field_default(Data, key):
                yield Problem(("Evaluation", "data", key),
                              "is for calibration only; set Data." + key)
    if config.evaluation.evaluator is not None:
        yield from _hook(config.evaluation.evaluator, ("Evaluation", "evaluator"))


def value(config: Config, key: str):
    """The setting ``Section.key`` of a config."""
    section, name = key.split(".")
    return getattr(getattr(config, SECTIONS[section]), name)


def default(config: Config, key: str):
    """The value that ``Section.key`` has when it is not given, the preset included."""
    section, name = key.split(".")
    if section == "MRECG" and name in PRESETS[config.mrecg.preset]:
        return PRESETS[config.mrecg.preset][name]
    return field_default(type(getattr(config, SECTIONS[section])), name)


def _tiling(units):
    """Units must follow each other without gaps; the graph checks the last one."""
    start = 0
    for k, unit in enumerate(units):
        path = ("MRECG", "units", k)
        if len(unit) != 2 or unit[0] > unit[1]:
            yield Problem(path, f"must be [first module, last module], got {unit}")
            return
        if unit[0] != start:
            yield Problem(path, f"must start at module {start}, got {unit}: units follow each "
                          "other without gap or overlap")
            return
        start = unit[1] + 1


def _data(data: Data, path: Path):
    """One data section."""
    def changed(key):
        return getattr(data, key) != field_default(Data, key)

    if data.loader is None:
        if data.loader_args:
            yield Problem(path + ("loader_args",), "has no effect without loader")
    else:
        yield from _hook(data.loader, path + ("loader",))
        if data.image_dir is not None:
            yield Problem(path + ("image_dir",), "give image_dir or loader, not both")
        for key in filter(changed, IMAGE_KEYS):
            yield Problem(path + (key,),
                          "has no effect with loader, which makes its own batches; remove it")
    for key, crop in (("resize_short", "center"), ("pad_value", "pad")):
        if changed(key) and data.crop != crop and data.loader is None:
            yield Problem(path + (key,),
                          f"has no effect with crop {data.crop}: it is read only by {crop}")
    channels = 1 if data.layout == "GRAY" else 3
    for key in ("mean", "std"):
        if len(getattr(data, key)) != channels and data.loader is None:
            yield Problem(path + (key,), f"needs {numbered(channels, 'value')} for layout "
                          f"{data.layout}, got {getattr(data, key)}")
    if any(v <= 0 for v in data.std):
        yield Problem(path + ("std",), f"must be above 0, got {data.std}")
    if data.input_shape is not None and (len(data.input_shape) != 3 or min(data.input_shape) < 1):
        yield Problem(path + ("input_shape",),
                      f"must be C, H, W, all at least 1; got {data.input_shape}")
    elif data.input_shape is not None and data.input_shape[0] != channels and data.loader is None:
        yield Problem(path + ("input_shape",),
                      f"has {data.input_shape[0]} channels, layout {data.layout} has {channels}: "
                      "give C, H, W, or the layout of such images")


def _hook(text: str, path: Path):
    if not HOOK.fullmatch(text):
        yield Problem(path,
                      f"must be module:function, e.g. my_project.data:calibration; got '{text}'")


def preset_without_effect(preset: str, given: dict) -> bool:
    """True when the section sets every key of the preset itself, so that choosing
    the preset changes nothing.
    """
    effect = PRESETS.get(preset, {})
    return bool(effect) and set(effect) <= set(given)


