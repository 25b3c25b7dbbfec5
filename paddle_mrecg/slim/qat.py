# SPDX-License-Identifier: Apache-2.0
"""``paddleslim.dygraph.quant.QAT(config={...})`` with our quanters, clip and bin regularization.

PaddleSlim's class rebuilds the model from abs-max quantizers when it saves, so
nothing learned by others survives. With one of our names in its config, an
object of that class trains and saves through the quant-aware job instead; the
training loop around it stays as it is.
"""
import copy
import functools
import os
from typing import Optional

import paddle

from ..config.io import load_training_config
from ..errors import ConfigError, ModelError, kind_of
from ..graph.from_layer import graph_from_layer
from ..graph.specs import declared_specs, filling_in, map_specs
from ..graph.writer import save_program
from ..report.progress import get_logger
from ..aware.job import ExportedModel, export_quantized, quant_aware_prepare
from ..aware.layers import quantized_layers
from .modes import dynamic_mode
from .patches import OURS_ATTRIBUTE, ours_or
from .place_program import place_program, reports_of
from ..config.dialect.aware import dict_names_ours, training_sections


class MrecgQAT:
    """What a ``QAT`` with one of our names in its config does.

    The penalty's gradients enter inside the quanters (mode ``injection``), and bin
    regularization acts from the start (schedule S1), because the training loop knows nothing of
    either. For a schedule that depends on the epoch, call
    ``qat.penalty.on_epoch(epoch, epochs)`` before every epoch.

    Args:
        settings(TrainingConfig): see ``qat_settings``.

    Attributes:
        penalty(Penalty): of the model that was quantized last.
        agrees(bool): every program that was saved computes what the trained model does.
    """

    def __init__(self, settings):
        self.settings, self.penalty, self.agrees = settings, None, True

    def quantize(self, model, inplace=True):
        """The model with quantized layers; activation ranges are found from the first
        batch that it is called with.
        """
        if not isinstance(model, paddle.nn.Layer):
            raise ModelError(f"{kind_of(model)} is not a paddle.nn.Layer: pass the "
                             "float network")
        model = model if inplace else copy.deepcopy(model)
        model, self.penalty = quant_aware_prepare(model, self.settings)
        return model

    def save_quantized_model(self, model, path, input_spec=None) -> Optional[ExportedModel]:
        """Freeze; save ``<path>.pdmodel`` and ``.pdiparams``, and reports in ``<path>.mrecg``. A
        part without quantized layers, such as the teacher of a distillation, is saved in float,
        without reports.

        Args:
            model(paddle.nn.Layer): what ``quantize`` returned, a layer around it, or part of it.
            path(str): the program's path without suffix.
            input_spec(list, optional): one InputSpec or tensor per input. Default: None, those that
                the model was given with ``paddle.jit.to_static``.

        Returns:
            ExportedModel: where, and how far model and program differ; None of a float part.

        Raises:
            ModelError: no ``input_spec``; and see ``export_quantized``.
        """
        declared = declared_specs(model)
        input_spec = declared if input_spec is None else input_spec
        if input_spec is None:
            raise ModelError("save_quantized_model needs input_spec: pass a list of "
                             "paddle.static.InputSpec, one per input")
        specs = map_specs(lambda s: paddle.static.InputSpec.from_tensor(s)
                          if isinstance(s, paddle.Tensor) else s, input_spec)
        with dynamic_mode():
            if self._is_float_part(model):
                _save_float(model, path, specs)
                return None
            fill_in = filling_in(declared, specs)
            hook = model.register_forward_pre_hook(fill_in) if fill_in else None
            try:
                exported = export_quantized(model, reports_of(path), specs)
            finally:
                if hook is not None:
                    hook.remove()
        place_program(os.path.join(exported.save_dir, "model"), path)
        self.agrees = self.agrees and exported.agrees
        return exported

    def _is_float_part(self, model) -> bool:
        """Of the model that was quantized, not the whole of it."""
        whole = self.penalty.model if self.penalty is not None else None
        return (whole is not None and model is not whole and not any(quantized_layers(model))
                and any(part is model for part in whole.sublayers()))


def _save_float(model, path, specs):
    save_program(graph_from_layer(model, specs), path)
    get_logger().info("%s: %s has no quantized layer and is saved in float", path,
                      type(model).__name__)


def qat_settings(config, **layers):
    """Settings of the quant-aware job for the arguments of ``QAT``.

    Args:
        config(dict): PaddleSlim's keys, those of our section QuantAware, and ``bin_regularization``
            and ``symmetric_pact`` with the keys of those sections.
        **layers: PaddleSlim's arguments for layers of the user's own; must be None.

    Raises:
        ConfigError: everything that is wrong with the config.
    """
    given = [name for name, layer in layers.items() if layer is not None]
    if given:
        raise ConfigError(f"{' and '.join(given)} cannot be combined with strategies in config; "
                          "give one of the two")
    sections = training_sections(config)
    sections["QuantAware"].setdefault("penalty_mode", "injection")
    if "BinRegularization" in sections:
        sections["BinRegularization"] = {"schedule": "S1", **(sections["BinRegularization"] or {})}
    return load_training_config(sections)


def install(patches):
    """Replace three methods of PaddleSlim's class, in place: modules that
    imported the class see the new ones.
    """
    from paddleslim.dygraph.quant import QAT

    original_init = QAT.__init__

    @functools.wraps(original_init)
    def __init__(self, config=None, *args, **kwargs):
        if not dict_names_ours(config):
            original_init(self, config, *args, **kwargs)
            return
        layers = dict(zip(("weight_preprocess", "act_preprocess", "weight_quantize",
                           "act_quantize"), args), **kwargs)
        setattr(self, OURS_ATTRIBUTE, MrecgQAT(qat_settings(config, **layers)))
        self.config = config

    patches.replace(QAT, "__init__", __init__)
    patches.replace(QAT, "penalty", _Penalty())
    for name in ("quantize", "save_quantized_model"):
        patches.replace(QAT, name, ours_or(getattr(QAT, name), name))


class _Penalty:
    """``qat.penalty`` of a ``QAT`` with our strategies: a ``Penalty``, None before ``quantize``.

    PaddleSlim's own objects have no such attribute, and a user's
    subclasses may give themselves one.
    """

    def __get__(self, qat, owner=None):
        if qat is None:
            return self
        if OURS_ATTRIBUTE not in vars(qat):
            raise AttributeError(f"'{type(qat).__name__}' object has no attribute 'penalty': none "
                                 "of paddle_mrecg's strategies stands in its config")
        return vars(qat)[OURS_ATTRIBUTE].penalty
