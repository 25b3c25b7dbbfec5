# SPDX-License-Identifier: Apache-2.0
"""``paddleslim.quant.quant_aware`` and ``convert``: symmetric PACT and bin regularization
through their config dict.
"""
import functools
import inspect
from typing import Any, Callable, Dict, Optional, Tuple

import paddle

from ..compat import op_proto
from ..config.io import load_training_config
from ..config.schema import did_you_mean
from ..config.aware import SymmetricPACTSettings, TrainingConfig
from ..errors import ConfigError, DataError
from .modes import refuse_pir
from .static_bins import add_bin_regularization
from .static_pact import (CALIBRATION_BATCHES, activation_ranges, follow_learning_rate,
                          symmetric_pact)
from ..config.dialect.aware import CLIP_SECTION

# ``calibration_data`` is an alternative to the argument ``calib_config={"data_loader": ...}``.
STATIC_OURS = ("activation_preprocess_type", "symmetric_pact", "bin_regularization",
               "calibration_data")
MOMENTUM = 0.9


def split(config) -> Tuple[Any, Optional[TrainingConfig]]:
    """PaddleSlim's part of a config dict, and ours, None when it names nothing of ours.

    Raises:
        ConfigError: unknown keys in our part; a schedule that a static program cannot follow.
    """
    if not isinstance(config, dict) or not set(config) & set(STATIC_OURS):
        return config, None
    clip = config.get("activation_preprocess_type")
    if clip not in (None, CLIP_SECTION):
        raise ConfigError(f"activation_preprocess_type: must be {CLIP_SECTION} or left out; got "
                          f"{clip!r}.{did_you_mean(clip, [CLIP_SECTION])}")
    quantizers = {"activation_quanter": "symmetric_pact" if clip else "abs_max",
                  "weight_quanter": "abs_max",
                  "activation_bits": config.get("activation_bits", 8), "target": "simulation"}
    sections: Dict[str, Any] = {"QuantAware": quantizers}
    if "symmetric_pact" in config:
        sections["SymmetricPACT"] = config["symmetric_pact"]
    if "bin_regularization" in config:
        sections["BinRegularization"] = {"schedule": "S1", **(config["bin_regularization"] or {})}
    settings = load_training_config(sections)
    bins = settings.bin_regularization
    if bins and (bins.schedule != "S1" or bins.unbiased):
        raise ConfigError("bin_regularization: a static program knows no epochs, so schedule must "
                          "be S1, and unbiased false; call quant_aware with it when it is to "
                          "begin, or train with paddleslim.dygraph.quant.QAT")
    if bins and bins.efolds is not None:
        raise ConfigError("bin_regularization.efolds: a static program is not told how it will be "
                          "trained; give lambda, or train with paddleslim.dygraph.quant.QAT")
    return {k: v for k, v in config.items() if k not in STATIC_OURS}, settings


def with_ours(original: Callable) -> Callable:
    """``quant_aware`` with our keys in ``config``; without them the original is called
    with exactly what was given.
    """
    signature = inspect.signature(original)

    @functools.wraps(original)
    def quant_aware(*args, **kwargs):
        config = kwargs.get("config", args[2] if len(args) > 2 else None)
        theirs, settings = split(config)
        if settings is None:
            return original(*args, **kwargs)
        refuse_pir("PaddleSlim's quant_aware")
        given = dict(signature.bind(*args, **kwargs).arguments, config=theirs)
        if given.get("for_test"):
            return with_low_bits(original(**given))
        return _quant_aware(original, given, settings, config.get("calibration_data"))

    return quant_aware


def _quant_aware(original, given: Dict[str, Any], settings: TrainingConfig, calibration_data):
    """The training program with our parts; the scope must hold the parameters."""
    if settings.symmetric_pact is not None:
        _add_pact(given, settings.symmetric_pact, calibration_data)
    wants_program, given["return_program"] = given.get("return_program", False), True
    result = original(**given)
    program, rest = (result[0], result[1:]) if isinstance(result, tuple) else (result, ())
    with_low_bits(program)
    follow_learning_rate(program)
    if settings.bin_regularization is not None:
        add_bin_regularization(program, settings.bin_regularization)
    program = program if wants_program else paddle.static.CompiledProgram(program)
    return (program, *rest) if rest else program


def _add_pact(given: Dict[str, Any], settings: SymmetricPACTSettings, loader):
    """Calibrate, and fill in PaddleSlim's arguments for a function of the user's."""
    if given.get("act_preprocess_func") is not None:
        raise ConfigError("act_preprocess_func cannot be combined with activation_preprocess_type: "
                          f"{CLIP_SECTION}; give one of the two")
    calibration = dict(given.get("calib_config") or {})
    loader = calibration.pop("data_loader", loader)
    if loader is None:
        raise DataError("symmetric PACT starts from calibration: pass calib_config={'data_loader': "
                        "batches} to quant_aware")
    batch_nums = calibration.pop("batch_nums", CALIBRATION_BATCHES)
    executor = given.get("executor") or paddle.static.Executor(given["place"])
    op_types = (given["config"] or {}).get("quantize_op_types",
                                           ["conv2d", "depthwise_conv2d", "mul"])
    with paddle.static.scope_guard(given.get("scope") or paddle.static.global_scope()):
        alphas = activation_ranges(executor, given["program"], loader, op_types, settings,
                                   batch_nums)
    given.update(calib_config=calibration, executor=executor,
                 act_preprocess_func=symmetric_pact(alphas, settings),
                 optimizer_func=given.get("optimizer_func")
                 or (lambda: paddle.optimizer.Momentum(1e-3, MOMENTUM)))


def without_ours(original: Callable) -> Callable:
    """``convert`` given the same config: our keys have done their work while training."""
    @functools.wraps(original)
    def convert(*args, **kwargs):
        position = 2
        config = kwargs.get("config", args[position] if len(args) > position else None)
        theirs, settings = split(config)
        if settings is None:
            return original(*args, **kwargs)
        if "config" in kwargs:
            return with_low_bits(original(*args, **dict(kwargs, config=theirs)))
        return with_low_bits(original(*args[:position], theirs, *args[position + 1:], **kwargs))

    return convert


def with_low_bits(result):
    """Let the quantization ops of a program, or of the first of several, have as many
    levels as their bits say.

    Paddle 3's ops read ``qmin`` and ``qmax``, and PaddleSlim's passes set only
    ``bit_length``: without this they train 8 bits whatever was asked for, and what
    ``convert`` makes of 4-bit weights is wrong.
    """
    program = result[0] if isinstance(result, tuple) else result
    for op in program.global_block().ops:
        if (op.type in ("quantize_linear", "dequantize_linear")
            and "qmax" in {a.name for a in op_proto(op.type).attrs}):
            top = 2 ** (op.attr("bit_length") - 1)
            op._set_attr("qmin", -top)
            op._set_attr("qmax", top - 1)
    return result


def install(patches):
    """Put the two functions wherever PaddleSlim's are; ACT holds references of its own."""
    from paddleslim.quant import quanter
    patches.replace_everywhere(quanter.quant_aware, with_ours(quanter.quant_aware))
    patches.replace_everywhere(quanter.convert, without_ours(quanter.convert))
