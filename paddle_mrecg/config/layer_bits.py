# SPDX-License-Identifier: Apache-2.0
"""Which layers stay float and how many bits the others get: the same rules for both jobs.

A layer is known by its names (post-training: its weight and its outputs; training: its place in the
model); ``skip`` and ``overrides`` are shell-style patterns on them.
"""
import fnmatch
from typing import Iterator, List, Sequence, Tuple

Names = Sequence[str]


def matches(names: Names, pattern: str) -> bool:
    """Whether any of a layer's names matches ``pattern`` (fnmatch, case-sensitive)."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def unmatched_patterns(section: str, settings, layers: List[Names], what: str) -> Iterator[str]:
    """A sentence for every pattern of ``skip`` and ``overrides`` that matches no layer.

    Args:
        section(str): of the config, for the message.
        settings(QuantPost|QuantAware): has ``skip`` and ``overrides``.
        layers(list[Sequence[str]]): the names of every layer; at least one.
        what(str): what the patterns are matched with, e.g. ``layer``.
    """
    patterns = [("skip", p) for p in settings.skip]
    patterns += [("overrides", o.pattern) for o in settings.overrides]
    for key, pattern in patterns:
        if not any(matches(names, pattern) for names in layers):
            yield (f"{section}.{key}: pattern '{pattern}' matches no {what}; one of the names is "
                   f"'{layers[0][0]}'")


def is_skipped(names: Names, settings) -> bool:
    """Whether a pattern of ``skip`` keeps the layer float."""
    return any(matches(names, pattern) for pattern in settings.skip)


def layer_bits(names: Names, settings, first: bool, last: bool) -> Tuple[int, int]:
    """Weight and activation bits of a layer: the first matching override, else first and last
    layer, else the rest.
    """
    bits = settings.weight_bits, settings.activation_bits
    if first:
        bits = settings.first_layer_weight_bits, settings.first_layer_activation_bits
    elif last:
        bits = settings.last_layer_weight_bits, settings.last_layer_activation_bits
    override = first_override(names, settings)
    if override is not None:
        return override.weight_bits or bits[0], override.activation_bits or bits[1]
    return bits


def first_override(names: Names, settings):
    """The first override that matches a layer, which alone counts; None where none does."""
    return next((o for o in settings.overrides if matches(names, o.pattern)), None)
