# SPDX-License-Identifier: Apache-2.0
"""What a grid was made for, kept in a buffer, so that it travels with the checkpoint; and whether a
checkpoint has brought it.

Paddle has no hook for loading. ``set_state_dict`` asks every layer for its tensors before it sets
them: the first entry is made negative there, and a checkpoint that knows the quanter makes it
positive again.
"""
from typing import Collection, Tuple

import paddle

from ..errors import ConfigError

_USE_HOOK = 4  # position of the argument that is False while loading, in Paddle's recursion


def form_of(bits: int, narrow) -> paddle.Tensor:
    """The buffer of a new grid. Floats, which moving averages of a state dict leave nearly alone:
    PaddleDetection's are some percent too large after a few steps.
    """
    return paddle.to_tensor([float(bits), float(narrow)], "float32")


def is_loading(args, kwargs) -> bool:
    """Whether ``Layer._state_dict_impl``, called with these arguments, is called to load."""
    given = args[_USE_HOOK] if len(args) > _USE_HOOK else kwargs.get("use_hook", True)
    return given is False


def expect(form: paddle.Tensor):
    """A checkpoint is about to be loaded."""
    form.set_value(-form.abs())


def arrived(form: paddle.Tensor) -> bool:
    """Whether nothing is expected any more; nothing is afterwards."""
    positive = form[0].item() > 0
    form.set_value(form.abs())
    return positive


def check_form(form: paddle.Tensor, bits: int, narrow: bool,
               possible: Collection[int]) -> Tuple[int, bool]:
    """Bits of the checkpoint that was loaded, and whether the lowest code is left out: those that
    the settings ask for, ``bits`` and ``narrow``, or such with ``possible`` bits.

    Raises:
        ConfigError: it was trained with others.
    """
    first, second = form.abs().round().numpy().tolist()
    trained = int(first), bool(second)
    if trained != (bits, bool(narrow)) and trained[0] not in possible:
        raise ConfigError(f"the checkpoint was trained with {_described(*trained)}, the "
                          f"settings ask for {_described(bits, narrow)}: prepare the model with "
                          "the settings, QuantAware.skip among them, and the kind of calibration "
                          "data of the training")
    return trained


def _described(bits: int, narrow: bool) -> str:
    return f"{bits} bits" + (" without the lowest code" if narrow else "")
