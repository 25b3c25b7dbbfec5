# SPDX-License-Identifier: Apache-2.0
"""Which layers ``auto`` gives more, and in which order: 8 bits first, and float only where 8 bits
for all of them were not enough.

What is ordered is the error that would go away: that of a layer's weights where only they are
coarse. A layer whose input alone has a large error need not be float: solved roundings and the
corrected bias make up for most of it.
"""
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .causes import FINE_BITS
from .findings import literal
from .sensitivity import LayerEffect

REFINED, FLOAT = "with 8 bits", "kept float"


def coarse_part(effect: LayerEffect) -> Optional[str]:
    """Which of ``sensitivity.PARTS`` has fewer than 8 bits; None where none has."""
    weight, activation = effect.weight_bits < FINE_BITS, effect.activation_bits < FINE_BITS
    return ("both" if weight and activation else "weights" if weight
            else "activations" if activation else None)


def refining_order(effects: Sequence[LayerEffect], kind: str) -> List[LayerEffect]:
    """Layers that may be given more, worst first.

    Args:
        effects(list[LayerEffect]): measured layers.
        kind(str): ``REFINED``, those with fewer than 8 bits, or ``FLOAT``, all.
    """
    found = [e for e in effects if kind == FLOAT or coarse_part(e)]
    return sorted(found, reverse=True,
                  key=lambda e: e.on["both" if kind == FLOAT else coarse_part(e)])


def given(effects: Sequence[LayerEffect], kind: str) -> Dict[str, List[Any]]:
    """Keys of ``QuantPost`` that give these layers 8 bits, or leave them float.

    Args:
        effects(list[LayerEffect]): of ``refining_order``.
        kind(str): as there.
    """
    if kind == FLOAT:
        return dict(skip=[literal(e.weight) for e in effects])
    bits = {"weights": ["weight_bits"], "activations": ["activation_bits"],
            "both": ["weight_bits", "activation_bits"]}
    return dict(overrides=[dict(pattern=literal(e.weight),
                                **dict.fromkeys(bits[coarse_part(e)], FINE_BITS))
                           for e in effects])


def given_to(effect: LayerEffect, post: Mapping[str, Any]) -> str:
    """What keys of ``QuantPost`` make of a layer: ``8/8``, the bits of its weights and its input,
    or ``float``; empty where they leave it as it was.
    """
    name = literal(effect.weight)
    if name in post.get("skip", ()):
        return "float"
    own = next((o for o in post.get("overrides", ()) if o["pattern"] == name), None)
    return "" if own is None else "/".join(str(own.get(key) or getattr(effect, key))
                                           for key in ("weight_bits", "activation_bits"))
