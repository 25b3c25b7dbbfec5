# SPDX-License-Identifier: Apache-2.0
"""Element-wise additions of a model, which are calls and not layers, given quanters of their own.

While the model's ``forward`` runs, ``a + b``, ``a += b``, ``paddle.add`` and ``Tensor.add``
of this thread go through ``intercepted``; at all other times, and in other threads, they are
Paddle's own. An addition counts when
both operands are floating tensors of the same shape with at least two dimensions and neither
is a parameter: residual connections, not biases. They are told apart by the order in which
they run, so this order must not depend on data. A name imported by
``from paddle import add`` before is not seen.
"""
import contextlib
import threading
from typing import Callable

import paddle
from paddle import nn

from .layers import mixed_class

_SIDES = ("left", "right", "result")
_LOCAL = threading.local()  # handlers of this thread, the innermost last
_LOCK, _REPLACED, _USERS = threading.Lock(), [], []


class QuantizedAdditions:
    """Model mixin: ``additions[k]`` quantizes the inputs and result of the k-th addition."""

    def forward(self, *args, **kwargs):
        hidden = self._sub_layers.pop("additions")  # nn.Sequential would run it
        quanters = iter(hidden)

        def add(original, a, b):
            quanter = next(quanters, None)
            if quanter is None:  # more than at calibration: the model's own branch
                return original(a, b)
            return quanter["result"](original(quanter["left"](a), quanter["right"](b)))
        try:
            with intercepted(add):
                return super().forward(*args, **kwargs)
        finally:
            self._sub_layers["additions"] = hidden


def count_additions(run: Callable) -> int:
    """How many additions there are while ``run()`` runs."""
    seen = []

    def add(original, a, b):
        seen.append(original)
        return original(a, b)
    with intercepted(add):
        run()
    return len(seen)


def attach_additions(model, count: int, make_quanter: Callable):
    """Quantize the first ``count`` additions of ``model``, in place."""
    model.__class__ = mixed_class(QuantizedAdditions, type(model))
    model.additions = nn.LayerList([nn.LayerDict({side: make_quanter() for side in _SIDES})
                                    for _ in range(count)])


def addition_quanters(model):
    """Name and quanter of every side of every addition."""
    for k, sides in enumerate(getattr(model, "additions", ())):
        for side in _SIDES:
            yield f"additions.{k}.{side}", sides[side]


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
    if (isinstance(x, _PARAMETERS) or isinstance(y, _PARAMETERS) or len(x.shape) < 2
        or len(x.shape) != len(y.shape)):
        return False
    # free dimensions while a program is traced
    alike = all(a == b or -1 in (a, b) for a, b in zip(x.shape, y.shape))
    return alike and _is_floating(x) and _is_floating(y)


def _is_floating(x) -> bool:
    name = str(x.dtype).lower()  # paddle.float32, VarType.FP32 or DataType.FLOAT32
    return "float" in name or "fp" in name or "bf16" in name


_PARAMETERS = (paddle.base.framework.EagerParamBase, paddle.base.framework.Parameter)
