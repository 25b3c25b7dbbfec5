# SPDX-License-Identifier: Apache-2.0
"""Runs of a model on calibration data, whatever form that data has; grids that follow from them."""
import contextlib
import inspect
import itertools
from typing import Callable, Dict, Iterable, List, Tuple

import numpy as np
import paddle

from ..errors import DataError, MrecgError, said
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
        DataError: there is not one batch, or this is not an iterable of them.
    """
    if callable(calibration) and not hasattr(calibration, "__iter__"):
        _check_function(calibration, model)
        return _first_call(model, calibration), [lambda: outputs_of(lambda: calibration(model))]
    if (isinstance(calibration, (str, bytes, dict, np.ndarray, paddle.Tensor))
            or not hasattr(calibration, "__iter__")):
        one = isinstance(calibration, (dict, np.ndarray, paddle.Tensor))
        raise DataError(f"calibration is a {type(calibration).__name__}: give a list of batches"
                        + (", [batch] for this one" if one else ", a data loader, or a function "
                           "that is called with the model"))
    batches = iter(calibration)
    try:
        first = next(batches)
    except StopIteration:
        raise DataError("calibration holds no batch: give a list of some, or a "
                        "loader that is not used up") from None
    takes = _parameters(model)  # now: while ends and grids are looked for, forward is another
    rest = (_on(model, takes, batch, k) for k, batch in enumerate(batches, 1))
    run = _on(model, takes, first, 0)
    return run, itertools.chain([run], rest)


def _check_function(function: Callable, model):
    """Raise DataError for a function that cannot be called with the model."""
    try:
        inspect.signature(function).bind(model)
    except TypeError as error:
        raise DataError(f"calibration is a function that cannot be called with the model ({error}):"
                        " give one that runs it, e.g. lambda model: model(batch)") from error
    except ValueError:  # some built-in callables have no signature
        pass


def outputs_of(call) -> List[np.ndarray]:
    """The tensors that ``call`` returns, however nested, without gradients."""
    with paddle.no_grad():
        return [t.numpy() for t in paddle.utils.flatten(call()) if isinstance(t, paddle.Tensor)]


def _on(model, takes: List[inspect.Parameter], batch, number: int) -> Callable:
    """A run on one batch.

    Raises:
        DataError: when run, whatever the model raises, with the cure.
    """
    def run():
        try:
            args, kwargs = _called_with(takes, batch)
            return outputs_of(lambda: model(*args, **kwargs))
        except (MrecgError, MemoryError):
            raise
        except Exception as error:  # whatever a network raises that is given something else
            reason = said(error, line=0)
            names = ", ".join(str(p.replace(annotation=p.empty)) for p in takes)
            raise DataError(f"the model does not run on batch {number} of calibration, "
                            f"{_description(batch)} ({reason}): give what forward({names}) takes, "
                            "in its shape and type, or a function that runs the model, e.g. "
                            "lambda model: model(batch)") from error
    return run


def _called_with(takes: List[inspect.Parameter], batch) -> Tuple[List, Dict]:
    """What the model is called with: a tensor, the entries of a dict by their names, or the dict
    where ``forward`` has one parameter, which is not named like an entry.
    """
    if not isinstance(batch, dict):
        return [_tensor(batch[0] if isinstance(batch, (list, tuple)) else batch)], {}
    if (len(takes) == 1 and takes[0].name not in batch
            and takes[0].kind in (takes[0].POSITIONAL_OR_KEYWORD, takes[0].POSITIONAL_ONLY)):
        return [{k: _tensor(v) if isinstance(v, np.ndarray) else v for k, v in batch.items()}], {}
    return [], {key: _tensor(value) for key, value in batch.items()}


def _description(batch) -> str:
    if isinstance(batch, dict):
        return f"a dict of {', '.join(map(str, batch)) or 'nothing'}"
    if isinstance(batch, (list, tuple)):
        return f"a {type(batch).__name__} of {len(batch)}, the first {_description(batch[0])}" if (
            len(batch)) else f"an empty {type(batch).__name__}"
    if hasattr(batch, "shape") and hasattr(batch, "dtype"):
        return f"{str(batch.dtype).replace('paddle.', '')} of shape {list(batch.shape)}"
    return f"a {type(batch).__name__}"


def _parameters(model) -> List[inspect.Parameter]:
    return list(inspect.signature(model.forward).parameters.values())


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
