# SPDX-License-Identifier: Apache-2.0
"""``AutoCompression`` (ACT) with sections MRECG, BinRegularization and SymmetricPACT beside PaddleSlim's own.

* ``QuantPost`` + ``MRECG``: the post-training job, on every version of Paddle.
* ``QuantAware`` + ``Distillation`` + ``BinRegularization`` and / or ``SymmetricPACT``: PaddleSlim's training with our parts in
  its program. PaddleSlim's training itself does not run on Paddle 3.
"""
import copy
import functools
import inspect
from typing import Any, Dict

import paddle
import yaml

from ..compat import old_ir, paddle_version
from ..config.io import load_config
from ..config.schema import did_you_mean
from ..errors import ConfigError
from ..report.progress import get_logger
from .modes import static_mode
from .patches import STATE, ours_or
from .post_static import quant_static_mrecg
from .static_quant_aware import split
from .translate_post import GLOBAL_KEYWORDS, RENAMED, post_sections

OURS = ("MRECG", "BinRegularization", "SymmetricPACT")
PASSED_ON = ("Global", "TrainConfig")  # sections besides PaddleSlim's list of strategies
POST_ARGUMENTS = ("batch_size", "batch_nums", "skip_tensor_list", "recon_level")


def read(config) -> Dict[str, Any]:
    """The sections of an ACT config, from a YAML file or a dict; {} for anything else."""
    if isinstance(config, str):
        try:
            with open(config, encoding="utf-8") as file:
                config = yaml.safe_load(file)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}  # PaddleSlim says what is wrong with it
    return copy.deepcopy(config) if isinstance(config, dict) else {}


def check(sections: Dict[str, Any], known):
    """Sections that stand beside ours must be somebody's, and go together.

    Args:
        sections(dict): the config.
        known(iterable): PaddleSlim's sections.

    Raises:
        ConfigError: with everything that is wrong.
    """
    everything = (*known, *PASSED_ON, *OURS)
    problems = [f"{name}: unknown section.{did_you_mean(name, everything)}" for name in sections if name not in everything]
    training = [name for name in ("BinRegularization", "SymmetricPACT") if name in sections]
    distillation = {"Distillation", "MultiTeacherDistillation"} & set(sections)
    if "MRECG" in sections and (training or distillation or "QuantAware" in sections):
        problems.append("MRECG: is a post-training strategy and goes with QuantPost alone; give it a config of its own")
    elif "MRECG" not in sections and not ("QuantAware" in sections and distillation):
        problems.append(f"{' and '.join(training)}: act while training; give the sections QuantAware and Distillation too")
    if "SymmetricPACT" in sections and (sections.get("QuantAware") or {}).get("use_pact"):
        problems.append("SymmetricPACT: replaces QuantAware.use_pact; leave one of them out")
    if problems:
        raise ConfigError(problems)


class MrecgCompression:
    """What ``AutoCompression`` does with sections MRECG and QuantPost.

    Args:
        sections(dict): the config.
        given(dict): arguments of ``AutoCompression`` by name.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """

    def __init__(self, sections: Dict[str, Any], given: Dict[str, Any]):
        self.given, self.result, self.final_metric = given, None, -1.0
        post = {k: v for k, v in (sections.get("QuantPost") or {}).items() if k != "recon_level"}
        self.readers = {k: post.pop(k) for k in POST_ARGUMENTS if k in post}
        self.settings = {**post, **{RENAMED.get(k, k): v for k, v in (sections["MRECG"] or {}).items()},
                         **{k: v for k, v in (sections.get("Global") or {}).items() if k in GLOBAL_KEYWORDS}}
        load_config(post_sections({"weight_bits": 8, "activation_bits": 8, **self.settings}))

    def compress(self):
        """Reconstruct, and write into ``save_dir`` under the names of the float model's files; returns the Result."""
        name = self.given.get("model_filename") or "model.pdmodel"
        self.result = quant_static_mrecg(
            None, self.given["model_dir"], self.given.get("save_dir", "./output"), data_loader=self.given["train_dataloader"],
            model_filename=self.given.get("model_filename"), params_filename=self.given.get("params_filename"),
            save_model_filename=name, **self.readers, **self.settings)
        if self.given.get("eval_callback"):
            self._evaluate(self.given["eval_callback"])
        return self.result

    def _evaluate(self, callback):
        """ACT's metric of the final model: ``callback(executor, program, feed names, fetch variables)``."""
        with static_mode(), old_ir():
            executor = paddle.static.Executor(paddle.CPUPlace())
            program, feeds, fetches = paddle.static.load_inference_model(self.result.prefix, executor)
            self.final_metric = callback(executor, program, feeds, fetches)
        get_logger().info("metric of the final model: %.4f", self.final_metric)


def install(patches):
    """Replace two methods of ``AutoCompression``, in place."""
    from paddleslim.auto_compression.compressor import AutoCompression
    from paddleslim.auto_compression.strategy_config import SUPPORTED_CONFIG

    original_init = AutoCompression.__init__
    signature = inspect.signature(original_init)

    @functools.wraps(original_init)
    def __init__(self, *args, **kwargs):
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        sections = read(given.get("config"))
        if not set(sections) & set(OURS):
            original_init(self, *args, **kwargs)
            return
        check(sections, SUPPORTED_CONFIG)
        if "MRECG" in sections:
            setattr(self, STATE, MrecgCompression(sections, given))
        else:
            ours = {name: sections.pop(name) for name in OURS if name in sections}
            _train_with(self, functools.partial(original_init, **dict(given, config=sections)), ours)

    patches.replace(AutoCompression, "__init__", __init__)
    patches.replace(AutoCompression, "compress", ours_or(AutoCompression.compress, "compress"))


def _train_with(compression, initialise, ours: Dict[str, Any]):
    """Initialise PaddleSlim's training and put our keys into the config that it will give to ``quant_aware``."""
    keys = {"bin_regularization": ours["BinRegularization"]} if "BinRegularization" in ours else {}
    if "SymmetricPACT" in ours:
        keys.update(activation_preprocess_type="SymmetricPACT", symmetric_pact=ours["SymmetricPACT"])
    split(keys)  # complains
    if paddle_version() >= "3":
        raise ConfigError(f"{' and '.join(ours)}: PaddleSlim 2.6.0's AutoCompression cannot train on Paddle {paddle_version()}, "
                          "with or without us; use Paddle 2.6.2, or train with paddleslim.dygraph.quant.QAT")
    initialise()
    for strategy, config in zip(compression._strategy, compression._config):
        if strategy == "qat_dis":
            config.__dict__.update(keys, calibration_data=compression.train_dataloader)
