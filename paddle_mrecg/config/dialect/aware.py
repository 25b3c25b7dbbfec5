# SPDX-License-Identifier: Apache-2.0
"""Training settings of PaddleSlim (``QAT``'s config dict) in our words."""
import dataclasses
from typing import Any, Dict

from ..schema import key_of
from ..aware import TRAINING_SECTIONS, QuantAware
from .translation import Ignored, Only, Sections, To, is_slim_config, translate

OWN_WEIGHT_TYPES = ("lsq", "channel_wise_lsq", "tqt")
OWN_ACTIVATION_TYPES = ("lsq", "lsq_plus", "tqt")
CLIP_SECTION = "SymmetricPACT"
OWN_SECTIONS = {"bin_regularization": "BinRegularization", "symmetric_pact": "SymmetricPACT"}

# Two settings here for one of PaddleSlim's: which quanter, and one step
# per tensor or per channel.
WEIGHT_TYPES = {"lsq": ("lsq", False), "channel_wise_lsq": ("lsq", True), "tqt": ("tqt", False),
                "abs_max": ("abs_max", False), "channel_wise_abs_max": ("abs_max", True)}
ACTIVATION_TYPES = {"lsq": "lsq", "lsq_plus": "lsq_plus", "tqt": "tqt",
                    "moving_average_abs_max": "abs_max"}

AWARE = {
    "weight_bits": To("QuantAware", "weight_bits"),
    "activation_bits": To("QuantAware", "activation_bits"),
    "quantizable_layer_type": To("QuantAware", "quantizable_layer_type"),
    "fuse_conv_bn": To("QuantAware", "fold_batch_norm"),
    "weight_quantize_type": To("QuantAware", "weight_quanter",
                               {k: quanter for k, (quanter, _) in WEIGHT_TYPES.items()}),
    "activation_quantize_type": To("QuantAware", "activation_quanter", ACTIVATION_TYPES),
    "activation_preprocess_type": To("QuantAware", "activation_quanter",
                                     {CLIP_SECTION: "symmetric_pact", "PACT": "symmetric_pact"}),
    "weight_preprocess_type": Only((None,), "a clip of weights is learned by weight_quantize_type "
                                   "lsq and channel_wise_lsq"),
    "moving_rate": Only((0.9,), "the moving average has 0.9, as is PaddleSlim's default"),
    "dtype": Only(("int8",), "codes are stored as int8"),
    "onnx_format": Only((True,), "the result always has quantize_linear / "
                        "dequantize_linear ops: leave it out"),
    "window_size": Ignored("read by PaddleSlim only for range_abs_max"),
}
# What PaddleSlim does when a key is not given.
DEFAULTS = dict(weight_bits=8, activation_bits=8, weight_quantize_type="channel_wise_abs_max",
                quantizable_layer_type=["Conv2D", "Linear"])


def dict_names_ours(config) -> bool:
    """A config dict of PaddleSlim that asks for one of our strategies."""
    return isinstance(config, dict) and bool(
        config.get("activation_preprocess_type") == CLIP_SECTION
        or config.get("weight_quantize_type") in OWN_WEIGHT_TYPES or
        config.get("activation_quantize_type") in OWN_ACTIVATION_TYPES or
        set(config) & {*OWN_SECTIONS, *OWN_SECTIONS.values()})


def training_sections(config: Dict[str, Any]) -> Sections:
    """Sections of the quant-aware job for a config dict of PaddleSlim; keys of our section
    QuantAware may be among them.

    Raises:
        ConfigError: with everything that is unknown or has no counterpart.
    """
    ours = [key_of(field) for field in dataclasses.fields(QuantAware)]
    sections: Sections = {name: config[name] for name in config if name in TRAINING_SECTIONS}
    sections.update({section: config[name] for name, section in OWN_SECTIONS.items()
                     if name in config})
    sections["QuantAware"] = {**(sections.get("QuantAware") or {}),
                              **{name: config[name] for name in config
                                 if name in ours and name not in AWARE}}
    theirs = {name: config[name] for name in config
              if name not in (*TRAINING_SECTIONS, *OWN_SECTIONS)
              and (name in AWARE or name not in ours)}
    theirs = {**{k: v for k, v in DEFAULTS.items() if k not in sections["QuantAware"]}, **theirs}
    if theirs.get("activation_preprocess_type", "") is None:
        del theirs["activation_preprocess_type"]
    if "activation_preprocess_type" in theirs:  # learns its own range, whatever finds it otherwise
        if theirs.get("activation_quantize_type") == "moving_average_abs_max":
            del theirs["activation_quantize_type"]
    elif "activation_quanter" not in sections["QuantAware"]:
        theirs.setdefault("activation_quantize_type", "moving_average_abs_max")
    if theirs.get("weight_quantize_type") in WEIGHT_TYPES:
        sections["QuantAware"].setdefault("weight_per_channel",
                                          WEIGHT_TYPES[theirs["weight_quantize_type"]][1])
    return translate(theirs, AWARE, sections, known=[*ours, *OWN_SECTIONS])


def accept_qat_config(config):
    """``config`` as ``quant_aware_prepare`` takes it: a flat config dict of PaddleSlim becomes
    sections, the rest stays.

    Raises:
        ConfigError: unknown keys, and values that have no counterpart.
    """
    return (training_sections(config) if is_slim_config(config, {**AWARE, **OWN_SECTIONS})
            else config)
