# SPDX-License-Identifier: Apache-2.0
"""Element-wise additions of a model, which are calls and not layers, given quanters of their own.

While the model's ``forward`` runs, ``a + b``, ``a += b``, ``paddle.add`` and ``Tensor.add``
of this thread go through ``intercepted``; at all other times, and in other threads, they are
Paddle's own. They are told apart by the order in which they run, so this order must not depend on
data, and what is counted must not depend on the size of a batch: every sum of two floating tensors
of as many dimensions, two at least, neither of them a parameter. On calibration data those are
quantized whose operands have the same shape: residual connections, not biases or embeddings of
positions. A name imported by ``from paddle import add`` before is not seen.
"""
import contextlib
import threading
from typing import Callable, List

import paddle
from paddle import nn

from ..compat import run_eagerly
from ..errors import ConfigError
from .layers import mixed_class

SIDES = ("left", "right", "result")
_LOCAL = threading.local()  # handlers of this thread, the innermost last
_LOCK, _REPLACED, _USERS = threading.Lock(), [], []


class QuantizedAdditions:
    """Model mixin: ``additions[k]`` quantizes the inputs and result of the k-th addition that
    ``which_additions`` has True for.
    """

    own_names = ("additions", "which_additions")

    @run_eagerly
    def forward(self, *args, **kwargs):
        hidden = self._sub_layers.pop("additions")  # nn.Sequential would run it
        quanters = self.in_order(hidden)

        def add(original, a, b):
            quanter = next(quanters, None)
            if quanter is None:  # not one of them, or beyond those of calibration: a branch
                return original(a, b)
            return quanter["result"](original(quanter["left"](a), quanter["right"](b)))
        try:
            with intercepted(add):
                return super().forward(*args, **kwargs)
        finally:
            self._sub_layers["additions"] = hidden

    def in_order(self, values):
        """One of ``values`` for each addition that is quantized, None for each other one."""
        values = iter(values)
        return (next(values) if wanted else None for wanted in self.which_additions)


def find_additions(run: Callable) -> List[bool]:
    """Of all additions while ``run()`` runs, in order, whether its operands have one shape."""
    alike = []

    def add(original, a, b):
        alike.append(list(a.shape) == list(b.shape))
        return original(a, b)
    with intercepted(add):
        run()
    return alike


def attach_additions(model, which: List[bool], make_quanter: Callable):
    """Quantize those additions of ``model`` that ``which`` has True for, in place.

    Raises:
        ConfigError: the model has a layer of the name that this takes.
    """
    if hasattr(model, "additions"):
        raise ConfigError("QuantAware.quantize_additions keeps its quantizers as 'additions', and "
                          "the model has that name: rename it there")
    model.__class__ = mixed_class(QuantizedAdditions, type(model))
    model.which_additions = which
    model.additions = nn.LayerList([nn.LayerDict({side: make_quanter() for side in SIDES})
                                    for _ in range(sum(which))])


def with_additions(model):
    """Name, with a dot behind it, and layer of ``model`` and of parts of it that were prepared on
    their own, where additions are quantized.
    """
    return ((name and f"{name}.", layer)
            for name, layer in model.named_sublayers(include_self=True)
            if isinstance(layer, QuantizedAdditions))


def addition_quanters(model):
    """Name and quanter of every side of every addition."""
    for prefix, part in with_additions(model):
        for k, sides in enumerate(part.additions):
            for side in SIDES:
                yield f"{prefix}additions.{k}.{side}", sides[side]


@contextlib.contextmanager
def intercepted(add: Callable):
    """Send additions through ``add(original, a, b)`` within this context; what
    ``add`` itself adds is not sent.
    """
    handlers = vars(_LOCAL).setdefault("handlers", [])
    handlers.append(add)
    _install()
    try:
        yield
    finally:
        handlers.pop()
        _uninstall()


def _install():
    """Redirect additions of the process, once; threads without a handler add as ever."""
    with _LOCK:
        if not _REPLACED:
            _REPLACED.extend((owner, name, getattr(owner, name))
                             for owner, name in _sum_functions())
            for owner, name, original in _REPLACED:
                setattr(owner, name, _redirected(original))
        _USERS.append(None)


def _uninstall():
    with _LOCK:
        _USERS.pop()
        if not _USERS:
            while _REPLACED:
                setattr(*_REPLACED.pop())


def _sum_functions():
    owners = [paddle.Tensor, paddle.static.Variable,
              getattr(getattr(paddle, "pir", None), "Value", None)]
    places = ([(paddle, "add")]
              + [(o, n) for o in owners if o is not None for n in ("__add__", "__radd__", "add")])
    return [(owner, name) for owner, name in places if hasattr(owner, name)]


def _redirected(original):
    def addition(x, y, *args, **kwargs):
        handlers = getattr(_LOCAL, "handlers", None)
        if not handlers or getattr(_LOCAL, "inside", False) or not _counts(x, y):
            return original(x, y, *args, **kwargs)
        _LOCAL.inside = True
        try:
            return handlers[-1](original, x, y)
        finally:
            _LOCAL.inside = False
    return addition


def _counts(x, y) -> bool:
    if not hasattr(x, "shape") or not hasattr(y, "shape") or not hasattr(y, "stop_gradient"):
        return False
    if _is_parameter(x) or _is_parameter(y) or not 2 <= len(x.shape) == len(y.shape):
        return False
    return _is_floating(x) and _is_floating(y)


def _is_parameter(x) -> bool:
    return isinstance(x, _PARAMETERS) or bool(getattr(x, "is_parameter", False))  # the latter: PIR


def _is_floating(x) -> bool:
    name = str(x.dtype).lower()  # paddle.float32, VarType.FP32 or DataType.FLOAT32
    return "float" in name or "fp" in name or "bf16" in name


_PARAMETERS = (paddle.base.framework.EagerParamBase, paddle.base.framework.Parameter)
