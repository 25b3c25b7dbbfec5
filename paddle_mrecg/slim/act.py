# SPDX-License-Identifier: Apache-2.0
"""``AutoCompression`` (ACT) with the sections MRECG, BinRegularization
and SymmetricPACT in addition to PaddleSlim's own.

* ``QuantPost`` + ``MRECG``: the post-training job, on every version of Paddle.
* ``QuantAware`` + ``Distillation`` + ``BinRegularization`` and / or ``SymmetricPACT``: PaddleSlim's
  training with our parts in its program. PaddleSlim's training itself does not run on Paddle 3.
"""
import functools
import inspect
from typing import Any, Dict

import paddle
import yaml

from ..compat import old_ir, paddle_version, static_mode
from ..errors import ConfigError
from ..report.progress import get_logger
from .act_recipe import ACT_OURS, TRAINED, load_recipe, post_arguments, training_keys
from .patches import OURS_ATTRIBUTE, ours_or
from .post_static import quant_static_mrecg


def recipe_names_ours(config) -> bool:
    """An ACT config, as YAML file or dict, with one of our sections."""
    if isinstance(config, str):
        try:
            with open(config, encoding="utf-8") as file:
                config = yaml.safe_load(file)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return False  # PaddleSlim says what is wrong with it
    return isinstance(config, dict) and bool(set(config) & set(ACT_OURS))


class MrecgCompression:
    """What ``AutoCompression`` does with sections MRECG and QuantPost.

    Args:
        sections(dict): the checked config.
        given(dict): arguments of ``AutoCompression`` by name.
    """

    def __init__(self, sections: Dict[str, Any], given: Dict[str, Any]):
        self.given, self.result, self.final_metric = given, None, -1.0
        self.readers, self.settings = post_arguments(sections)

    def compress(self):
        """Reconstruct, and write into ``save_dir`` under the names of the float model's
        files; returns the Result.
        """
        name = self.given.get("model_filename") or "model.pdmodel"
        self.result = quant_static_mrecg(
            None, self.given["model_dir"], self.given.get("save_dir", "./output"),
            data_loader=self.given["train_dataloader"],
            model_filename=self.given.get("model_filename"),
            params_filename=self.given.get("params_filename"),
            save_model_filename=name, **self.readers, **self.settings)
        if self.given.get("eval_callback"):
            self._evaluate(self.given["eval_callback"])
        return self.result

    def _evaluate(self, callback):
        """ACT's metric of the final model: ``callback(executor, program, feeds, fetches)``."""
        with static_mode(), old_ir():
            executor = paddle.static.Executor(paddle.CPUPlace())
            program, feeds, fetches = paddle.static.load_inference_model(self.result.prefix,
                                                                         executor)
            self.final_metric = callback(executor, program, feeds, fetches)
        get_logger().info("metric of the final model: %.4f", self.final_metric)


def install(patches):
    """Replace two methods of ``AutoCompression``, in place."""
    from paddleslim.auto_compression.compressor import AutoCompression

    original_init = AutoCompression.__init__
    signature = inspect.signature(original_init)

    @functools.wraps(original_init)
    def __init__(self, *args, **kwargs):
        try:
            given = dict(signature.bind(self, *args, **kwargs).arguments)
        except TypeError:  # in PaddleSlim's own words
            original_init(self, *args, **kwargs)
            raise
        if not recipe_names_ours(given.get("config")):
            original_init(self, *args, **kwargs)
            return
        sections = load_recipe(given["config"])
        refuse_paddle_3(sections)
        if "MRECG" in sections:
            setattr(self, OURS_ATTRIBUTE, MrecgCompression(sections, given))
        else:
            ours = {name: sections.pop(name) for name in TRAINED if name in sections}
            _train_with(self, functools.partial(original_init, **dict(given, config=sections)),
                        ours)

    patches.replace(AutoCompression, "__init__", __init__)
    patches.replace(AutoCompression, "compress", ours_or(AutoCompression.compress, "compress"))


def refuse_paddle_3(sections: Dict[str, Any]):
    """Training sections need a Paddle on which PaddleSlim's AutoCompression trains.

    Raises:
        ConfigError: it does not on this one.
    """
    ours = [name for name in TRAINED if name in sections]
    if ours and paddle_version() >= "3":
        raise ConfigError(f"{' and '.join(ours)}: PaddleSlim 2.6.0's AutoCompression cannot train "
                          f"on Paddle {paddle_version()}, with or without us; use Paddle 2.6.2, or "
                          "train with paddleslim.dygraph.quant.QAT")


def _train_with(compression, initialise, ours: Dict[str, Any]):
    """Initialise PaddleSlim's training and put our keys into the config that it
    will give to ``quant_aware``.
    """
    initialise()
    for strategy, config in zip(compression._strategy, compression._config):
        if strategy == "qat_dis":
            config.__dict__.update(training_keys(ours),
                                   calibration_data=compression.train_dataloader)
