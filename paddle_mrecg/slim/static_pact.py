# SPDX-License-Identifier: Apache-2.0
"""Symmetric PACT in a static program, as a callable for ``quant_aware(act_preprocess_func=...)``.

Against PaddleSlim's own ``pact``: alpha starts from calibration data instead of
20, its decay acts at any size of alpha (the trained parameter is the distance
from the start), every alpha has a decay of its own (PaddleSlim's regularizer
writes all of them into one variable, so each alpha is pulled by another's value), and
alpha follows the learning rate of the network.
"""
from typing import Callable, Dict, Iterable, List

import numpy as np
import paddle
from paddle.base.layer_helper import LayerHelper

from ..config.aware import SymmetricPACTSettings
from ..data.batches import as_feed
from ..errors import DataError
from ..graph.graph import WEIGHT_SLOTS
from .modes import optimizer_ops

PACT_SUFFIX = "_symmetric_pact"  # of the parameter's name
SMALLEST = 1e-10
CALIBRATION_BATCHES = 10


def symmetric_pact(alphas: Dict[str, float], settings: SymmetricPACTSettings) -> Callable:
    """The callable for ``act_preprocess_func``: ``clip(x, -alpha, alpha)`` with a
    trained alpha per tensor.

    Args:
        alphas(dict): name of the activation -> where alpha starts; see ``activation_ranges``.
        settings(SymmetricPACT): lr and decay.

    Raises:
        DataError: (the callable) the range of a tensor is not known.
    """
    def clip(x):
        # what PaddleSlim's pass calls the input of the piece that it inserts
        name = x.name.split("_tmp_input")[0]
        if name not in alphas:
            raise DataError(f"the range of activation '{name}' is not known: "
                            "calibration did not reach it")
        start = max(float(alphas[name]), SMALLEST)
        shift = paddle.create_parameter([1], "float32", attr=paddle.ParamAttr(
            name=x.name + PACT_SUFFIX, initializer=paddle.nn.initializer.Constant(0.0),
            learning_rate=settings.lr,
            regularizer=_DecayOfAlpha(settings.decay, start)))
        alpha = shift + start
        return _elementwise("elementwise_min", _elementwise("elementwise_max", x, -alpha), alpha)

    return clip


def _elementwise(op_type: str, x, y):
    """One op of the program. ``paddle.maximum`` takes no variables of old programs on Paddle 3.

    Sums of ReLUs, as in PaddleSlim, are of types whose outputs its passes observe one by one: with
    them a detector's program took twice as long to build.
    """
    helper = LayerHelper(op_type)
    output = helper.create_variable_for_type_inference(x.dtype)
    helper.append_op(type=op_type, inputs={"X": [x], "Y": [y]}, outputs={"Out": [output]},
                     attrs={"axis": -1})
    return output


class _DecayOfAlpha(paddle.regularizer.WeightDecayRegularizer):
    """Gradient of ``decay alpha^2 / 2`` for a parameter that is alpha minus its start."""

    def __init__(self, decay: float, start: float):
        self._decay, self._start = decay, start

    def __call__(self, param, grad, block):
        term = block.create_var(name=param.name + ".decay", dtype=param.dtype, shape=param.shape)
        block.append_op(type="scale", inputs={"X": [param]}, outputs={"Out": [term]},
                        attrs=dict(scale=self._decay, bias=self._decay * self._start,
                                   bias_after_scale=True))
        return term


def activation_ranges(executor, program, loader: Iterable, op_types: List[str],
                      settings: SymmetricPACTSettings,
                      batch_nums: int = CALIBRATION_BATCHES) -> Dict[str, float]:
    """Moving averages over batches of abs-max (or of a percentile of |x|) of
    everything that quantized ops read.

    Args:
        executor(paddle.static.Executor): runs ``program`` in the current scope,
            which holds the parameters.
        program(paddle.static.Program): inference or training program; nothing is trained.
        loader(iterable|callable): batches: dicts by input name, or lists in the
            order of the program's inputs.
        op_types(list[str]): types of quantized ops.
        settings(SymmetricPACT): init, momentum, percentile.
        batch_nums(int, optional): use this many batches. Default: 10.

    Returns:
        dict: name of the activation -> range.

    Raises:
        DataError: no batch, or values that are not finite.
    """
    inference = program.clone(for_test=True)
    block = inference.global_block()
    names = sorted({name for op in block.ops if op.type in op_types
                    for name in _activations(op, block)})
    feeds = [v.name for v in block.vars.values()
             if getattr(v, "is_data", False) or getattr(v, "need_check_feed", False)]
    ranges: Dict[str, float] = {}
    batches = loader() if callable(loader) and not hasattr(loader, "__iter__") else loader
    for count, batch in enumerate(batches):
        if count == batch_nums:
            break
        feed = batch if isinstance(batch, dict) else as_feed(batch, feeds)
        for name, value in zip(names,
                               executor.run(inference, feed=feed, fetch_list=names,
                                            use_prune=True)):
            seen = _range(value, settings)
            if not np.isfinite(seen):
                raise DataError(f"calibration batch {count} makes activation '{name}' NaN or "
                                "infinite: check the data")
            ranges[name] = (ranges[name] * settings.momentum + seen * (1.0 - settings.momentum)
                            if name in ranges else seen)
    if not ranges:
        raise DataError("calib_config['data_loader'] gave no batch: symmetric PACT starts from "
                        "activation ranges")
    return ranges


def _activations(op, block) -> List[str]:
    """The non-persistable input of a quantized op."""
    slots = WEIGHT_SLOTS.get(op.type)
    return [n for n in op.input(slots[0]) if not block.var(n).persistable] if slots else []


def _range(value, settings: SymmetricPACTSettings) -> float:
    magnitude = np.abs(np.asarray(value))
    return float(magnitude.max() if settings.init == "abs_max"
                 else np.quantile(magnitude, settings.percentile))


def follow_learning_rate(program):
    """Let the alphas follow the learning rate and schedule of the network's optimizer."""
    optimizers = optimizer_ops(program)
    own = {op.input("Param")[0]: op for op in optimizers
           if op.input("Param")[0].endswith(PACT_SUFFIX)}
    network = [op.input("LearningRate")[0] for op in optimizers if op.input("Param")[0] not in own]
    if not network or not own:
        return
    for op in own.values():
        op._rename_input(op.input("LearningRate")[0], network[0])
