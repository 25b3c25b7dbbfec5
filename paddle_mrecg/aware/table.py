# SPDX-License-Identifier: Apache-2.0
"""Which layers are quantized: said in the log, and kept with the checkpoint.

A checkpoint that is loaded into a model with other skip patterns would lose the steps of some
layers without a word, and others would come first or last.
"""
from typing import List, Tuple

import numpy as np
import paddle

from ..errors import ConfigError, ModelError, listed, numbered
from ..report.progress import get_logger
from .layers import quantized_layers
from .look_ahead import Ends, Layers

MASK = "quanter_mask"  # buffer of the model: 1 for each quantizable layer that is quantized
# 256 levels are enough for any range; hard-swish ends at -0.375, and a network's goes up to 3 to 30
FULL_BITS, LOPSIDED = 8, 0.25


def keep(model, names: List[str], ends: Ends):
    """Keep which of ``names``, the quantizable layers, are quantized, in a buffer of ``model``;
    and what evaluation does not run.
    """
    model.register_buffer(MASK, _mask(model, names))
    model.quantizable_names, model.idle_names = names, ends.idle


def check_dropped(model, dropped: List[str]):
    """Layers that are not in the program did not run in evaluation before the training either.

    Raises:
        ModelError: one did: what it learned would be lost without a word.
    """
    idle = getattr(model, "idle_names", None)
    lost = [name for name in dropped if name not in idle] if idle is not None else []
    if lost:
        raise ModelError(f"{listed(lost)}: evaluation ran them when quantization was prepared and "
                         "does not any more, so what they learned would not be in the program; if "
                         "branches were merged since, merge them before (QuantAware.merge_branches "
                         "does), else leave these layers out with QuantAware.skip")


class KeptTable:
    """Which layers a prepared model quantizes, to be compared with a checkpoint.

    Args:
        model(paddle.nn.Layer): after ``keep``.
    """

    def __init__(self, model):
        self._kept, self._names = model._buffers[MASK], model.quantizable_names
        self._here = self._kept.numpy()

    def check(self):
        """The checkpoint that was loaded comes from a model with the same quantized layers.

        Raises:
            ConfigError: names the first layer that was float there and is not here, or the reverse.
        """
        trained = self._kept.numpy()
        for k in np.flatnonzero(np.round(trained) != self._here)[:1]:
            was, now = ("quantized", "float") if trained[k] > 0.5 else ("float", "quantized")
            raise ConfigError(f"layer '{self._names[k]}' was {was} when the checkpoint was trained "
                              f"and is {now} here: prepare the model with the QuantAware.skip of "
                              "the training")


def say_replaced(model):
    """Warn of layers that were quantized and that the model has no longer."""
    kept = model._buffers.get(MASK)
    if kept is None:  # part of a prepared model
        return
    gone = kept.numpy().round() > _mask(model, model.quantizable_names).numpy()
    names = [model.quantizable_names[k] for k in np.flatnonzero(gone)]
    if names:
        get_logger().warning("%s: replaced by others since quant_aware_prepare, which stay float; "
                             "change the model before, to quantize them", listed(names))


def forget(model):
    """Leave nothing of this in a copy that is traced."""
    model._buffers.pop(MASK, None)


def _mask(model, names: List[str]) -> paddle.Tensor:
    quantized = {name for name, _ in quantized_layers(model)}
    # floats, which moving averages of a state dict leave alone
    return paddle.to_tensor([float(name in quantized) for name in names], "float32")


def without_frozen(layers: Layers, wanted: bool) -> Tuple[Layers, List[str]]:
    """``layers`` that train, and the names of the others: all parameters have ``stop_gradient``,
    as in the teacher of a distillation. A model of which nothing trains is quantized as a whole.

    Args:
        wanted(bool): quantize frozen ones too.
    """
    frozen = [name for name, layer in layers if all(p.stop_gradient for p in layer.parameters())]
    if wanted or len(frozen) == len(layers):
        return layers, []
    return [item for item in layers if item[0] not in frozen], frozen


def say_lopsided(layers: Layers):
    """Warn of few levels on grids that are symmetric about 0, for values that hardly go below it.
    """
    found = [(name, layer.activation_quanter) for name, layer in layers]
    names = [name for name, quanter in found if quanter is not None and quanter.symmetric
             and quanter.bits < FULL_BITS and quanter.signed
             and 0.0 < -quanter.seen[0] < LOPSIDED * quanter.seen[1]]
    if names:
        get_logger().warning(
            "the inputs of %s go far above 0 and little below, as behind hard-swish: a grid that "
            "is symmetric about 0 has almost half of its few levels where no value is. "
            "QuantAware.activation_quanter: lsq_plus learns where its grid starts", listed(names))


def say(layers: Layers, ends: Ends, frozen: List[str], skipped: List[str]):
    """Log what is quantized, what comes first and last, and what stays float for which reason."""
    bits = {name: layer.weight_quanter.bits for name, layer in layers}
    get_logger().info("%s %s quantized", numbered(len(layers), "layer"),
                      "is" if len(layers) == 1 else "are")
    for what, names in (("first", ends.first), ("last", ends.last)):
        get_logger().info("%s layers: %s", what, listed(
            [f"{name} ({bits[name]} bits)" for name, _ in layers if name in names]))
    for why, names in (("evaluation does not run and export leaves out", ends.idle or ()),
                       ("stay float, for they do not train (QuantAware.quantize_frozen)", frozen),
                       ("stay float (QuantAware.skip)", skipped)):
        if names:
            get_logger().info("layers that %s: %s", why, listed(names))
