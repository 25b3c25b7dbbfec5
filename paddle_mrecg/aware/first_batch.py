# SPDX-License-Identifier: Apache-2.0
"""``QuantAware.rounding: solve`` without calibration data: the first batch of training starts it.

Scripts of hosts quantize a network, load its weights and then train. So the solve waits until the
network is called in training mode, with the weights that it has by then.
"""
import time
from typing import Tuple

import paddle

from ..compat import full_precision
from ..errors import ModelError, MrecgError, said
from ..grids.processes import several, take_from_first
from ..report.progress import get_logger
from .calibration import evaluating, find_grids, outputs_of
from .layers import as_float, quantized_layers
from .statistics import batch_statistics, trained_norms


class FirstBatch:
    """A hook in front of a prepared model: its first call in training mode solves the roundings for
    the batch that it brings. A checkpoint of quant-aware training has roundings of its own, and is
    left as it is.

    Args:
        model(paddle.nn.Layer): prepared, from ``quant_aware_prepare``.
        loads(LoadWatch): knows what was loaded since.
    """

    def __init__(self, model, loads):
        self._loads, self._waits = loads, True
        model.register_forward_pre_hook(self)

    def __deepcopy__(self, memo):
        return _nothing  # a copy is a teacher, an average of weights, or to be exported

    def __call__(self, model, inputs):
        if not self._waits or not model.training or not paddle.in_dynamic_mode():
            return
        self._loads.settle()
        if self._loads.resumed:
            get_logger().info("weights keep the roundings of the checkpoint that was loaded; "
                              "QuantAware.rounding: solve is for a float one")
        else:
            self._start(model, inputs)
        self._waits = False  # and stays: a dict of hooks cannot change while they run

    @staticmethod
    def _start(model, inputs):
        begun = time.monotonic()
        with full_precision(), evaluating(model):
            start_from(model, what_is_read(model, inputs))
        if several():
            take_from_first([*model.parameters(), *model.buffers()])
        get_logger().info("roundings were solved for the first batch in %.0f s",
                          time.monotonic() - begun)


def _nothing(model, inputs):
    """In place of the hook in a copy."""


def without_nothing(model):
    """Take the place of the hook from a copy."""
    for key, hook in list(model._forward_pre_hooks.items()):
        if hook is _nothing:
            del model._forward_pre_hooks[key]


def start_from(model, inputs: Tuple):
    """Find grids for one batch, and move the weights to the codes that are solved for it.

    Args:
        model(paddle.nn.Layer): prepared, in evaluation mode.
        inputs(tuple): what it is called with.

    Raises:
        ModelError: see ``SolvedStart``.
    """
    from .solved_start import SolvedStart  # brings post-training, which others need not wait for
    layers = list(quantized_layers(model))

    def run():
        return outputs_of(lambda: model(*inputs))
    with as_float(model):
        start = SolvedStart(model, layers, run)
    with batch_statistics(trained_norms(model)):  # ranges as this batch's own step needs them
        find_grids(model, start.noting([run]))
    start.apply(layers)


def what_is_read(model, inputs: Tuple) -> Tuple:
    """``inputs`` with those entries of dicts that evaluation reads: a detector's batch brings its
    boxes too, which only its losses read.

    Raises:
        ModelError: evaluation does not run on a batch of the training data.
    """
    noted = tuple(_Noted(v) if isinstance(v, dict) else v for v in inputs)
    try:
        with as_float(model):
            outputs_of(lambda: model(*noted))
    except MrecgError:
        raise
    except Exception as error:  # whatever a network raises that misses something
        reason = said(error)
        raise ModelError("QuantAware.rounding: solve runs the model in evaluation mode on the "
                         f"first batch of training, and that fails ({reason}); set rounding: "
                         "nearest") from error
    return tuple(v.read() if isinstance(v, _Noted) else v for v in noted)


class _Noted(dict):
    """A dict that knows which of its entries were read."""

    def __init__(self, values):
        super().__init__(values)
        self._given, self._names = dict(values), set()

    def __getitem__(self, name):
        self._names.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        return self[name] if name in self else default

    def read(self) -> dict:
        """What was read, as it was given."""
        return {name: value for name, value in self._given.items() if name in self._names}
