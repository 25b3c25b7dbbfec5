# SPDX-License-Identifier: Apache-2.0
"""Rules that hold in the post-training and in the training section alike."""
import dataclasses
from typing import Iterator, Sequence

from .schema import Problem, default_of, did_you_mean

FLOAT_BITS = 32  # bits that mean "not quantized"
ACTIVATION_BITS = ("activation_bits", "first_layer_activation_bits", "last_layer_activation_bits")


def field_default(cls, name: str):
    """The default of a dataclass's field."""
    return next(default_of(f) for f in dataclasses.fields(cls) if f.name == name)


def check_activation_bits(section: str, settings, lite: bool, cure: str) -> Iterator[Problem]:
    """Activation bits outside the known range, or bits that the target does not enforce;
    unset ones (None) are fine.
    """
    given = [((section, key), getattr(settings, key)) for key in ACTIVATION_BITS]
    given += [((section, "overrides", k, "activation_bits"), override.activation_bits)
              for k, override in enumerate(settings.overrides)]
    for path, bits in given:
        if bits is None:
            continue
        if 8 < bits != FLOAT_BITS:
            yield Problem(path,
                          f"must be 2 to 8, or {FLOAT_BITS} for float activations; got {bits}")
        elif bits < 8 and lite:
            yield Problem(path, "Paddle Lite's int8 kernels clip at ±127 whatever the bits, so "
                          f"{bits}-bit activations would not be enforced on the "
                          f"device; use 8, {cure}")


def check_overrides(section: str, overrides: Sequence, example: str) -> Iterator[Problem]:
    """Overrides that match nothing or change nothing."""
    for k, override in enumerate(overrides):
        if not override.pattern:
            yield Problem((section, "overrides", k), f"needs a pattern, e.g. pattern: '{example}'")
        if override.weight_bits is None and override.activation_bits is None:
            yield Problem((section, "overrides", k),
                          "changes nothing: give weight_bits or activation_bits")


def check_types(path, names: Sequence[str], known: Sequence[str]) -> Iterator[Problem]:
    """A list of op or layer types: known ones only, and at least one."""
    for k, name in enumerate(names):
        if name not in known:
            yield Problem((*path, k), f"must be one of {', '.join(known)}; got "
                          f"'{name}'.{did_you_mean(name, known)}")
    if not names:
        yield Problem(tuple(path), "is empty, so nothing would be quantized")
