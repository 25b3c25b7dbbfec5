# SPDX-License-Identifier: Apache-2.0
"""What bin regularization will do in a training of AutoCompression, said before it starts; the law
is that of ``aware/efolds.py``.
"""
import copy
from typing import Any, Dict, List

import numpy as np
from paddleslim.auto_compression.create_compressed_program import _create_optimizer
from paddleslim.auto_compression.strategy_config import QuantAware

from ..aware.efolds import RatePlan
from ..aware.expected_efolds import LayerPull, layer_pulls, pull_lines
from ..compat import static_mode
from ..config.aware import BinRegularization
from ..errors import ConfigError, MrecgError
from ..graph.graph import channel_axis
from ..graph.load import load_graph
from .act_recipe import training_keys
from .static_quant_aware import split


def efold_lines(sections: Dict[str, Any]) -> List[str]:
    """Predicted e-folds per layer, a warning where they are few, or why they are not predicted.

    Args:
        sections(dict): a checked recipe, see ``load_recipe``; without BinRegularization there is
            nothing to say.
    """
    if "BinRegularization" not in sections:
        return []
    try:
        pulls = _pulls(sections)
    except MrecgError as error:
        return [f"e-folds of bin regularization are not predicted: {error}"]
    return pull_lines(pulls, "raise BinRegularization.lambda, TrainConfig.learning_rate or "
                             "TrainConfig.train_iter")


def _pulls(sections: Dict[str, Any]) -> List[LayerPull]:
    train, place = sections.get("TrainConfig", {}), sections.get("Global", {})
    missing = [name for name, value in (("TrainConfig.train_iter", train.get("train_iter")),
                                        ("TrainConfig.learning_rate", train.get("learning_rate")),
                                        ("Global.model_dir", place.get("model_dir")))
               if value is None]
    if missing:
        raise ConfigError(f"give {' and '.join(missing)}")
    settings = split(training_keys(sections))[1]
    bins = BinRegularization() if settings is None else settings.bin_regularization
    plan = RatePlan(_optimizer(train), train["train_iter"], 0.0, False)
    given = QuantAware(**sections["QuantAware"])
    per_channel = given.weight_quantize_type == "channel_wise_abs_max"
    graph = load_graph(place["model_dir"], place.get("model_filename"),
                       place.get("params_filename"))

    def codes(op, weight):
        return _first_codes(weight, given.weight_bits, channel_axis(op) if per_channel else None)
    return layer_pulls(graph, given.quantize_op_types, codes, plan, bins)


def _optimizer(train: Dict[str, Any]):
    """What PaddleSlim makes of ``TrainConfig``."""
    with static_mode():
        try:
            return _create_optimizer(copy.deepcopy(train))[0]
        except Exception as error:  # whatever Paddle raises for a name or a value of its own
            raise ConfigError(f"PaddleSlim makes no optimizer of TrainConfig ({error}); mend "
                              "it") from error


def _first_codes(weight: np.ndarray, bits: int, axis) -> np.ndarray:
    """Codes at the start, with PaddleSlim's abs-max step."""
    top = 2 ** (bits - 1) - 1
    others = None if axis is None else tuple(k for k in range(weight.ndim) if k != axis)
    largest = np.abs(weight).max(others, keepdims=True)
    return np.round(weight / np.maximum(largest / top, 1e-30))
