# SPDX-License-Identifier: Apache-2.0
"""Runs of a model on calibration data, whatever form that data has; grids that follow from them."""
import contextlib
import itertools
from typing import Callable, Iterable, List, Tuple

import numpy as np
import paddle

from ..errors import DataError
from .additions import addition_quanters
from .layers import forward_replaced, quantized_layers


class _Stop(BaseException):
    """Ends a calibration function after the model's first call; no Exception, for those are
    often caught.
    """


def calibration_runs(model, calibration) -> Tuple[Callable, Iterable[Callable]]:
    """A run of the model on the first batch, once, and runs on all of them, to be made in order.

    A run returns the model's outputs as arrays. Batches are taken one by one, so a data loader
    needs no more memory than for one of them.

    Args:
        model(paddle.nn.Layer): what is run.
        calibration(iterable|callable): see ``quant_aware_prepare``.

    Raises:
        DataError: there is not one batch.
    """
    if callable(calibration) and not hasattr(calibration, "__iter__"):
        return _first_call(model, calibration), [lambda: outputs_of(lambda: calibration(model))]
    batches = iter(calibration)
    try:
        first = next(batches)
    except StopIteration:
        raise DataError("calibration holds no batch: give a list of some, or a "
                        "loader that is not used up") from None
    rest = (_on(model, batch) for batch in batches)
    return _on(model, first), itertools.chain([_on(model, first)], rest)


def outputs_of(call) -> List[np.ndarray]:
    """The tensors that ``call`` returns, however nested, without gradients."""
    with paddle.no_grad():
        return [t.numpy() for t in paddle.utils.flatten(call()) if isinstance(t, paddle.Tensor)]


def _on(model, batch) -> Callable:
    if isinstance(batch, dict):
        return lambda: outputs_of(lambda: model(**{k: _tensor(v) for k, v in batch.items()}))
    batch = batch[0] if isinstance(batch, (list, tuple)) else batch
    return lambda: outputs_of(lambda: model(_tensor(batch)))


def _first_call(model, function) -> Callable:
    """The model's first call within ``function``; the function itself where it makes none."""
    seen = []

    def stop(*args, **kwargs):
        seen.append((args, kwargs))
        raise _Stop()
    with contextlib.suppress(_Stop), paddle.no_grad(), forward_replaced(model, stop):
        function(model)
    if not seen:
        return lambda: outputs_of(lambda: function(model))
    args, kwargs = seen[0]
    return lambda: outputs_of(lambda: model(*args, **kwargs))


def _tensor(value):
    return value if isinstance(value, paddle.Tensor) else paddle.to_tensor(value)


@contextlib.contextmanager
def evaluating(model):
    """Evaluation mode within this context; afterwards every layer's own mode,
    which its new quanters share.
    """
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training
        for _, layer in quantized_layers(model):
            for quanter in layer.quanters():
                quanter.training = layer.training
        for _, quanter in addition_quanters(model):
            quanter.training = model.training


def find_grids(model, runs):
    """Find all grids: of weights at once, of activations from what the float
    network computes in ``runs``.
    """
    quanters = {id(q): q for _, layer in quantized_layers(model) for q in layer.quanters()}
    quanters.update((id(q), q) for _, q in addition_quanters(model))
    with contextlib.ExitStack() as stack:
        for quanter in quanters.values():
            stack.enter_context(quanter.observing())
        with paddle.no_grad():
            for _, layer in quantized_layers(model):
                layer.quantized_weight(layer.float_weight())
                layer.quantized_bias(layer.float_bias())
            for run in runs:
                run()
