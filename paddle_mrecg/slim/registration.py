# SPDX-License-Identifier: Apache-2.0
"""The switch: which functions of PaddleSlim understand our names after ``register()``.

PaddleSlim has no place where a third party's strategy could be announced, so
some of its functions and methods are replaced by ones that look for our names in
their arguments and otherwise call the original with exactly what they were
given. The table of what was replaced is kept, and ``unregister()`` goes back
through it.
"""
from . import patches

_patches = patches.Patches()


def register():
    """Make our names work in PaddleSlim's own APIs; calling it again changes nothing.

    PaddleSlim may have been imported before, with ``from ... import`` too.

    Raises:
        ConfigError: PaddleSlim is not installed, or not complete.
    """
    if _patches:
        return
    try:
        for install in _installers():
            install(_patches)
    except BaseException:
        _patches.restore()
        raise


def unregister():
    """Put back every object that ``register()`` replaced; without it, nothing happens."""
    _patches.restore()


def registered() -> bool:
    """Our names work in PaddleSlim now."""
    return bool(_patches)


def _installers():
    """One per API; imported here, because importing PaddleSlim takes seconds and
    has side effects of its own.
    """
    from . import act, post_static, ptq, qat, quanters, static_quant_aware
    return [module.install for module in (post_static, ptq, qat, quanters, static_quant_aware, act)]
