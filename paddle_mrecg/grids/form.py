# SPDX-License-Identifier: Apache-2.0
"""What a grid was made for, kept in a buffer, so that it travels with the checkpoint; and whether a
checkpoint has brought it.

Paddle has no hook for loading. ``set_state_dict`` asks every layer for its tensors before it sets
them: the first entry is made negative there, and a checkpoint that knows the quanter makes it
positive again.
"""
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


def check_form(form: paddle.Tensor, wanted: paddle.Tensor):
    """The checkpoint that was loaded has the grid that the settings ask for.

    Raises:
        ConfigError: it was trained with other bits.
    """
    trained, wanted = form.abs().round().numpy().tolist(), wanted.numpy().tolist()
    if trained != wanted:
        raise ConfigError(f"the checkpoint was trained with {_described(*trained)}, the "
                          f"settings ask for {_described(*wanted)}: prepare the model with the "
                          "settings, QuantAware.skip among them, of the training")


def _described(bits: float, narrow: float) -> str:
    return f"{bits:.0f} bits" + (" without the lowest code" if narrow else "")
