# SPDX-License-Identifier: Apache-2.0
"""Float checkpoints that are loaded into a model after ``quant_aware_prepare``.

They bring weights and no steps, so those found at ``prepare`` belong to other weights. Paddle has
no hook for loading. It asks every layer for its tensors before it sets them, so what they held is
noted there, and compared when the model is used next.
"""
from typing import Dict, List, Set, Tuple

import numpy as np
import paddle

from ..errors import ConfigError, ModelError, listed
from ..grids.quanter import Quanter
from ..report.progress import get_logger
from .additions import addition_quanters
from .table import KeptTable

_LOOKED_AT = 64  # values of a weight: a checkpoint that changes none of them is the same one


class LoadWatch:
    """Finds grids again whose weights were replaced and whose steps were not.

    Args:
        model(paddle.nn.Layer): a prepared model, whose table is kept.
        layers(list[Layer]): its quantized layers.
        merged(dict[str, Layer]): convolutions that were made of branches.
        guessed(list): quanters whose bits were guessed, and the bits that a checkpoint may bring.

    Attributes:
        resumed(bool): a checkpoint of quant-aware training was loaded, with its steps.
    """

    def __init__(self, model, layers: List[paddle.nn.Layer], merged: Dict[str, paddle.nn.Layer],
                 guessed: List[Tuple[Quanter, Set[int]]]):
        self._layers, self._merged, self._guessed = layers, merged, guessed
        self._quanters = list({id(q): q for layer in layers for q in layer.quanters()}.values())
        self._additions = [q for _, q in addition_quanters(model)]
        self._table = KeptTable(model)
        self.resumed = False
        self._before = {}  # position of a layer -> some of its weights before it was loaded

    def note(self, layer):
        """``layer`` is about to be loaded."""
        k = next(k for k, other in enumerate(self._layers) if other is layer)
        if k in self._before:  # loaded again before it was used, perhaps with the right one now
            self._settle()
        self._before[k] = _some_weights(layer)

    def settle(self):
        """Find out what was loaded since, and let grids be found again that do not belong to it.

        Raises:
            ModelError: a checkpoint with branches was loaded, and they are merged here.
            ConfigError: it was trained with other bits, or other layers stayed float.
        """
        if self._before:
            self._table.check()
            self._check_bits()
            self._settle()

    def _settle(self):
        before, self._before = self._before, {}
        missed = {id(q) for q in (*self._quanters, *self._additions) if not q.was_loaded()}
        self.resumed = any(id(layer.weight_quanter) not in missed for layer in self._layers)
        stale = [self._layers[k] for k, values in before.items()
                 if id(self._layers[k].weight_quanter) in missed
                 and not np.array_equal(values, _some_weights(self._layers[k]))]
        if not stale:
            return
        if self._merged and not set(map(id, stale)) & set(map(id, self._merged.values())):
            raise ModelError("a float checkpoint was loaded after quant_aware_prepare, and it has "
                             f"no weights of '{next(iter(self._merged))}', whose branches were "
                             "merged there: load it before quant_aware_prepare")
        again = [layer.weight_quanter for layer in stale]
        again += [q for q in (*self._quanters, *self._additions)
                  if q.role == "activation" and id(q) in missed]
        if any(q.initialized for q in again):
            get_logger().info("a float checkpoint was loaded after quant_aware_prepare: steps of "
                              "weights are found again from it, ranges of activations from the "
                              "next batch; load it before, to calibrate on more")
        for quanter in again:
            quanter.forget()

    def _check_bits(self):
        """With bits of its own a checkpoint's steps would be those of another grid."""
        possible, moved = {id(q): bits for q, bits in self._guessed}, []
        for quanter in (*self._quanters, *self._additions):
            bits = quanter.bits
            try:
                quanter.check_form(possible.get(id(quanter), ()))
            except ConfigError as error:
                raise ConfigError(f"{quanter.place}: {error}") from error
            moved += [quanter.place] if quanter.bits != bits else []
        if moved:
            get_logger().info("which layers come first and last is taken from the checkpoint that "
                              "was loaded, with their bits: %s", listed(moved))


def _some_weights(layer) -> np.ndarray:
    values = [p.flatten() for name, p in layer._parameters.items()
              if p is not None and name != "bias"]
    return np.concatenate([v[::max(1, v.shape[0] // _LOOKED_AT)].numpy() for v in values]
                          or [np.zeros(0)])
