# SPDX-License-Identifier: Apache-2.0
"""``paddleslim.dygraph.quant.PTQ(round_type='mrecg')``: calibrate by calling the
model, reconstruct when saving.
"""
import copy
import functools
from typing import List

import numpy as np
import paddle

from ..config.io import load_config
from ..errors import DataError, ModelError, kind_of
from ..graph.specs import declared_specs, has_dict, map_specs, named_values
from .modes import dynamic_mode
from .patches import OURS_ATTRIBUTE, ours_or
from .place_program import MRECG_SWITCH, quantize_to
from ..config.dialect.post import POST, post_sections
from ..config.dialect.translation import Ignored, To, translate

# Arguments that only this class has; the rest is called as in PaddleSlim's functions.
QUANTIZERS = {
    "activation_quantizer": To("QuantPost", "activation_observer",
                               {"KLQuantizer": "kl", "HistQuantizer": "percentile",
                                "AbsmaxQuantizer": "min_max"}),
    "weight_quantizer": To("QuantPost", "weight_per_channel",
                           {"PerChannelAbsmaxQuantizer": True, "AbsmaxQuantizer": False}),
    "quant_bits": POST["activation_bits"],
    "bins": Ignored("the histogram's resolution is chosen by the observer"),
    "upsample_bins": Ignored("the same"),
}


class MrecgPTQ:
    """What a ``PTQ`` with ``round_type='mrecg'`` does.

    Args:
        sections(dict): of the post-training job, see ``ptq_sections``.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(self, sections):
        self.sections = sections
        self.limit = load_config(sections).data.num_samples
        self.samples: List = []
        self.count = 0
        self._hook = None

    def quantize(self, model, inplace=False, fuse=False, fuse_list=None):
        """A model that remembers what it is called with; ``fuse`` is always
        done, batch norms are folded.
        """
        if not isinstance(model, paddle.nn.Layer):
            raise ModelError(f"{kind_of(model)} is not a paddle.nn.Layer: pass the "
                             "float network")
        model = model if inplace else copy.deepcopy(model)
        self.samples, self.count = [], 0
        self._hook = model.register_forward_pre_hook(self._remember)
        return model

    def _remember(self, layer, inputs):
        if self.count >= self.limit:
            return
        if not inputs:
            raise DataError("the quantized model was called with keyword arguments only: calibrate "
                            "with positional inputs")
        self.samples.append([_copied(value) for value in inputs])
        first = self.samples[-1][0]
        self.count += len(next(iter(first.values())) if isinstance(first, dict) else first)

    def save_quantized_model(self, model, path, input_spec=None):
        """Reconstruct on the remembered inputs; save ``<path>.pdmodel`` and ``.pdiparams``.

        Raises:
            DataError: the model has not been called since ``quantize``; and
                see ``quant_post_mrecg``.
        """
        if not self.samples:
            raise DataError("the quantized model has not been called yet: run calibration batches "
                            "through it before save_quantized_model")
        self._hook.remove()
        spec = input_spec or declared_specs(model) or map_specs(_input_spec, self.samples[0])
        samples = ([named_values(spec, sample) for sample in self.samples] if has_dict(spec)
                   else self.samples)
        with dynamic_mode():
            return quantize_to(path, (model, spec), samples, self.sections)


def ptq_sections(**given):
    """Sections of the post-training job for the arguments of ``PTQ``.

    Args:
        activation_quantizer(str, optional): PaddleSlim's name of how activation ranges are
            found: KLQuantizer, HistQuantizer (with hist_percent) or AbsmaxQuantizer. Default:
            least error (our ``mse``).
        weight_quantizer(str, optional): PerChannelAbsmaxQuantizer or AbsmaxQuantizer (per
            tensor). Default: per channel.
        **given: settings by name, of PaddleSlim (its quantizer's too) and of this package.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """
    own = {name: given.pop(name) for name in QUANTIZERS if name in given}
    sections = post_sections({"weight_bits": 8,
                              **({} if "quant_bits" in own else {"activation_bits": 8}), **given})
    return translate(own, QUANTIZERS, sections)


def _copied(value):
    """An input of a model, copied into arrays: a tensor, or the dict that a detector takes;
    values that are not tensors are left out.
    """
    if isinstance(value, dict):
        return {key: _copied(v) for key, v in value.items() if hasattr(v, "shape")}
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def _input_spec(array):
    """The spec of an input that the model was called with; the batch is free."""
    return paddle.static.InputSpec([None, *array.shape[1:]], array.dtype)


def install(patches):
    """Replace three methods of PaddleSlim's class, in place: modules that
    imported the class see the new ones.
    """
    from paddleslim.dygraph.quant import PTQ

    original_init = PTQ.__init__

    @functools.wraps(original_init)
    def __init__(self, *args, **kwargs):
        if kwargs.get("round_type") != MRECG_SWITCH:
            original_init(self, *args, **kwargs)
            return
        kwargs = dict(zip(("activation_quantizer", "weight_quantizer"), args), **kwargs)
        del kwargs["round_type"]
        setattr(self, OURS_ATTRIBUTE, MrecgPTQ(ptq_sections(**kwargs)))

    patches.replace(PTQ, "__init__", __init__)
    for name in ("quantize", "save_quantized_model"):
        patches.replace(PTQ, name, ours_or(getattr(PTQ, name), name))

