# SPDX-License-Identifier: Apache-2.0
"""From settings to quanters: which layer gets which, with how many bits."""
from typing import Dict, List, Optional, Set, Tuple

import paddle
from paddle import nn

from ..config.layer_bits import is_skipped, layer_bits, unmatched_patterns
from ..config.aware import QuantAware, SymmetricPACTSettings
from ..config.shared_rules import FLOAT_BITS
from ..deploy.qdq import CONTAINER_BITS
from ..errors import ConfigError, ModelError, listed
from .quanters.abs_max import AbsMaxQuanter
from ..grids.quanter import Quanter
from .quanters.lsq import LSQQuanter
from .quanters.lsq_plus import LSQPlusQuanter
from ..strategies.symmetric_pact import SymmetricPACTQuanter
from .quanters.tqt import TQTQuanter
from .fold import FoldedConv
from .layers import attach
from .look_ahead import Ends


class Builder:
    """Makes the quanters that the settings ask for.

    Args:
        settings(QuantAware): with nothing unset, see ``config.aware.resolved``.
        pact(SymmetricPACT): of the clips; None where none are asked for.
    """

    def __init__(self, settings: QuantAware, pact: Optional[SymmetricPACTSettings]):
        self.settings, self.pact = settings, pact
        self._by_weight: Dict[int, Quanter] = {}

    def attach(self, layers: List[Tuple[str, nn.Layer]], ends: Ends):
        """Quantize ``layers`` in place."""
        for name, layer in layers:
            weight_bits, activation_bits = layer_bits([name], self.settings, name in ends.first,
                                                       name in ends.last)
            attach(layer, self._weight(layer, weight_bits), self.activation(activation_bits),
                   self._bias(layer))
            for what, quanter in (("weight", layer.weight_quanter),
                                  ("input", layer.activation_quanter),
                                  ("bias", layer.bias_quanter)):
                if quanter is not None:
                    quanter.place = f"{what} of layer '{name}'"

    def guessed_bits(self, layers: List[Tuple[str, nn.Layer]]) -> List[Tuple[Quanter, Set[int]]]:
        """Quanters of ``layers`` with the bits that they have as first ones, last ones, or neither:
        where a guess decides, a checkpoint knows better.
        """
        found = []
        for name, layer in layers:
            cases = [layer_bits([name], self.settings, first, last)
                     for first, last in ((True, False), (False, True), (False, False))]
            found.append((layer.weight_quanter, {bits for bits, _ in cases}))
            if layer.activation_quanter is not None:
                found.append((layer.activation_quanter, {bits for _, bits in cases}))
        return found

    def activation(self, bits: Optional[int] = None) -> Optional[Quanter]:
        """A quanter for an activation, None where it stays float.

        Args:
            bits(int, optional): default: None, ``QuantAware.activation_bits``.
        """
        settings, bits = self.settings, self.settings.activation_bits if bits is None else bits
        if bits >= FLOAT_BITS:
            return None
        kind = settings.activation_quanter
        given = dict(bits=bits, signed=True if settings.target == "paddle_lite" else None)
        if kind == "symmetric_pact":
            pact = self.pact
            return SymmetricPACTQuanter(init=pact.init, momentum=pact.momentum,
                                        percentile=pact.percentile, decay=pact.decay,
                                        **given)
        if kind == "abs_max":
            return AbsMaxQuanter(**given)
        if kind == "lsq_plus":
            offset = settings.activation_offset
            signed = None if offset else given["signed"]
            return LSQPlusQuanter(bits=bits, signed=signed, offset=offset,
                                  init=settings.activation_init)
        return {"lsq": LSQQuanter, "tqt": TQTQuanter}[kind](init=settings.activation_init, **given)

    def _weight(self, layer, bits: int) -> Quanter:
        """The quanter of a weight; layers that share a weight share it."""
        settings, key = self.settings, id(layer.weight)
        if key not in self._by_weight:
            kind = {"lsq": LSQQuanter, "tqt": TQTQuanter,
                    "abs_max": AbsMaxQuanter}[settings.weight_quanter]
            self._by_weight[key] = kind(layer, role="weight", bits=bits,
                                        per_channel=settings.weight_per_channel,
                                        narrow=bits == CONTAINER_BITS, init=settings.weight_init)
        return self._by_weight[key]

    def _bias(self, layer) -> Optional[Quanter]:
        """Biases have no trained step: most start at zero, which tells
        nothing about their range.
        """
        without = layer.bias is None and not isinstance(layer, FoldedConv)
        if self.settings.bias_bits is None or without:
            return None
        return AbsMaxQuanter(role="weight", bits=self.settings.bias_bits,
                             power_of_two=self.settings.weight_quanter == "tqt")


def without_skipped(layers: List[Tuple[str, nn.Layer]],
                    settings: QuantAware) -> List[Tuple[str, nn.Layer]]:
    """``layers`` that no pattern of ``skip`` matches.

    Raises:
        ConfigError: a pattern of ``skip`` or ``overrides`` matches nothing.
        ModelError: nothing is left to quantize, or it is float64.
    """
    if not layers:
        raise ModelError("nothing to quantize: the model has no "
                         f"{' or '.join(settings.quantizable_layer_type)}, or all of them have a "
                         "forward of their own")
    problems = list(unmatched_patterns("QuantAware", settings, [[name] for name, _ in layers],
                                       "layer"))
    if problems:
        raise ConfigError(problems)
    kept = [(name, layer) for name, layer in layers if not is_skipped([name], settings)]
    if not kept:
        raise ModelError("nothing to quantize: QuantAware.skip excludes every "
                         "layer; remove a pattern")
    double = [name for name, layer in kept if layer.weight.dtype == paddle.float64]
    if double:
        raise ModelError(f"the parameters are float64 ({listed(double, 4)}), which cannot be "
                         "quantized: call model.to(dtype='float32') first, and make batches "
                         "of float32")
    return kept
