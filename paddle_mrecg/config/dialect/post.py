# SPDX-License-Identifier: Apache-2.0
"""Post-training settings of PaddleSlim (``quant_post_static``, ``quant_recon_static``,
ACT's QuantPost) in our words.
"""
import dataclasses
from typing import Any, Dict, Tuple

from ..post import MRECG, SECTIONS, QuantPost
from ..schema import key_of
from .translation import Ignored, Only, Sections, To, is_slim_config, translate

OP_TYPES = To("QuantPost", "quantizable_op_type")
QDQ_ONLY = ("the result always has quantize_linear / dequantize_linear ops (PaddleSlim's "
            "onnx_format=True)")

# Settings of PaddleSlim -> settings of this package.
POST = {
    "weight_bits": To("QuantPost", "weight_bits"),
    "activation_bits": To("QuantPost", "activation_bits"),
    "quantizable_op_type": OP_TYPES,
    "quantize_op_types": OP_TYPES,
    "weight_quantize_type": To("QuantPost", "weight_per_channel",
                               {"channel_wise_abs_max": True, "abs_max": False}),
    "activation_quantize_type": Only(("range_abs_max", "moving_average_abs_max"),
                                     "activation scales are found once and "
                                     "stored: use range_abs_max"),
    "algo": To("QuantPost", "activation_observer",
               {"KL": "kl", "hist": "percentile", "mse": "mse", "abs_max": "min_max",
                "min_max": "min_max"}),
    "hist_percent": To("QuantPost", "percentile"),
    "drop_prob": To("MRECG", "keep_prob", lambda p: 1.0 - p if isinstance(p, (int, float)) else p),
    "lr": To("MRECG", "rounding_lr"),
    "deploy_backend": Only((None, "ARM", "arm"),
                           "the result is for Paddle Lite and Paddle Inference: leave it out"),
    "bias_correction": To("QuantPost", "bias_correction"),
    "bias_correct": To("QuantPost", "bias_correction"),
    "is_full_quantize": Only((False,),
                             "ops with weights are quantized: list them in quantizable_op_type"),
    "for_tensorrt": Only((False,),
                         "the result is for Paddle Lite and Paddle Inference: leave it out"),
    "onnx_format": Only((True,), QDQ_ONLY + ": leave it out"),
    "simulate_activation_quant": Only((True,), "activations are quantized while reconstructing: "
                                      "leave it out, or set keep_prob"),
    "epochs": Only((), "reconstruction counts optimizer steps: set num_iters"),
    "limit": Only((), "set max_unit_modules, the most modules that a unit may join"),
    "regions": Only((None,), "set granularity='explicit' and units (`paddle-mrecg plan` prints the "
                    "modules' numbers)"),
    "region_weights_names": Only((None,), "set granularity='explicit' and units"),
    "not_quant_pattern": Only((["skip_quant"], "skip_quant", []),
                              "name the weights or outputs to skip in QuantPost.skip"),
    "dtype": Only(("int8",), "codes are stored as int8"),
    "optimize_model": Ignored("batch norms are always folded"),
    "window_size": Ignored("read by PaddleSlim only while training"),
    "moving_rate": Ignored("read by PaddleSlim only while training"),
    "is_use_cache_file": Ignored("deprecated in PaddleSlim"),
    "cache_dir": Ignored("deprecated in PaddleSlim"),
}

# Names of our settings that mean something else in PaddleSlim's functions.
RENAMED = {"batch_size": "mrecg_batch_size"}
GLOBAL_KEYWORDS = ("target", "seed", "memory_limit_mb", "tune_cpu", "measure_speed",
                   "visualdl", "resume", "overwrite")


def our_keywords() -> Dict[str, Tuple[str, str]]:
    """Keyword -> (section, key) of each of our settings that PaddleSlim's
    functions take in addition to their own.
    """
    keywords = {name: ("Global", name) for name in GLOBAL_KEYWORDS}
    keywords["num_samples"] = ("Data", "num_samples")
    for section, cls in (("QuantPost", QuantPost), ("MRECG", MRECG)):
        for field in dataclasses.fields(cls):
            key = key_of(field)
            keywords.setdefault(RENAMED.get(key, key), (section, key))
    return keywords


def post_sections(given: Dict[str, Any]) -> Sections:
    """Sections of the post-training job for arguments of PaddleSlim and of this package, mixed.

    Raises:
        ConfigError: with everything that is unknown or has no counterpart.
    """
    ours = our_keywords()
    sections: Sections = {}
    for name in [n for n in given if n in ours and n not in POST]:
        section, key = ours[name]
        sections.setdefault(section, {})[key] = given[name]
    theirs = {name: value for name, value in given.items() if name in POST or name not in ours}
    return translate(theirs, POST, sections, known=ours)


def accept_ptq_config(config):
    """``config`` as ``quant_post_mrecg`` takes it: a flat config dict of PaddleSlim becomes
    sections, the rest stays.

    Raises:
        ConfigError: unknown keys, and values that have no counterpart.
    """
    if not is_slim_config(config, POST):
        return config
    sections = {name: config[name] for name in config if name in SECTIONS}
    return translate({name: value for name, value in config.items() if name not in SECTIONS}, POST,
                     sections)
