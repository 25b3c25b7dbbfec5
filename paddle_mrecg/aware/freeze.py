# SPDX-License-Identifier: Apache-2.0
"""A trained model as it will run: weights and biases on their grids, nothing that trains left."""
from typing import Dict, List

import paddle

from ..errors import DataError, ModelError, MrecgError
from ..graph.specs import make_eager
from ..grids.quanter import Quanter
from .fold import FoldedConv
from .layers import (QuantizedLayer, alone, copied, mixed_class, quantized_layers,
                     refuse_other_models)
from .norms import keep_weight
from .table import say_replaced


def freeze(model) -> paddle.nn.Layer:
    """A copy for deployment: weights and biases lie on their grids, batch norms that were
    folded are gone for good.

    Steps are those of training to the last bit, every weight is an integer times its step, and the
    copy computes what the model computes in evaluation mode. Layers that have not run while the
    others did, such as heads for training only, have no range for their input: they raise when
    the copy runs them.

    Args:
        model(paddle.nn.Layer): a prepared model, trained or not;
            ``paddle.DataParallel`` is unwrapped.

    Raises:
        ModelError: not a Layer, or nothing is quantized.
        ConfigError: the checkpoint comes from a model with other bits or quantized layers.
        DataError: a step is NaN or infinite, or the model has not seen a batch yet.
    """
    refuse_other_models(model)
    model = alone(model)
    if not any(quantized_layers(model)):
        raise ModelError("nothing in this model is quantized: call quant_aware_prepare first")
    say_replaced(model)
    frozen = copied(model)
    frozen.eval()
    for layer in frozen.sublayers(include_self=True):
        keep_weight(layer)
    make_eager(frozen)
    _untie(frozen)
    idle = idle_layers(frozen)
    for name, layer in quantized_layers(frozen):
        layer.inject = layer.loads = None
        layer.weight_quanter.ready(layer.float_weight())
        for quanter in layer.quanters():
            try:
                quanter.check_form()
                if quanter.initialized:
                    quanter.encoding()
            except MrecgError as error:
                raise type(error)(f"layer '{name}': {error}") from error
        if name not in idle:
            _freeze(layer)
    for quanter in frozen.sublayers():
        if isinstance(quanter, Quanter):
            quanter.held = True
    return frozen


def idle_layers(model) -> List[str]:
    """Layers that have not run while others did: the range of their input is unknown.

    Raises:
        DataError: none has run.
    """
    layers = list(quantized_layers(model))
    for _, layer in layers:
        if layer.loads is not None:
            layer.loads.settle()
        for quanter in layer.quanters():
            quanter.settle()
    inputs = [(name, layer.activation_quanter) for name, layer in layers
              if layer.activation_quanter is not None]
    idle = [name for name, quanter in inputs if not quanter.initialized]
    if idle and len(idle) == len(inputs):
        raise DataError(not_seen(idle[0]))
    return idle


def not_seen(name: str) -> str:
    """What is wrong with a layer that evaluation runs and nothing has run yet."""
    return (f"the input of layer '{name}' has not been seen yet, so its range is unknown: run the "
            "model on a batch, or give quant_aware_prepare calibration data")


def _untie(model):
    """Give quantized layers a weight of their own where a float one, such as an embedding, has the
    same: that one keeps it as it is.
    """
    quantized = [layer for _, layer in quantized_layers(model)]
    others = {id(parameter) for layer in model.sublayers(include_self=True)
              if not any(layer is one for one in quantized)
              for parameter in layer._parameters.values()}
    own: Dict[int, paddle.Tensor] = {}
    for layer in quantized:
        shared = layer._parameters.get("weight")
        if id(shared) not in others:
            continue
        if id(shared) not in own:
            own[id(shared)] = layer.create_parameter(shared.shape, dtype=shared.dtype)
            own[id(shared)].set_value(shared)
        layer.weight = own[id(shared)]


def _freeze(layer):
    """Put weight and bias of one layer on their grids."""
    with paddle.no_grad():
        weight, bias = layer.float_weight(), layer.float_bias()
        weight, bias = layer.quantized_weight(weight), layer.quantized_bias(bias)
    # another layer may share the weight, which now lies on the grid
    layer.weight_quanter.held = True
    if isinstance(layer, FoldedConv):
        base = layer.float_class.float_class
        layer.__class__ = mixed_class(QuantizedLayer, base)
        for name in FoldedConv.own_names:
            layer.__dict__.pop(name)
        if layer.bias is None:
            layer.bias = layer.create_parameter([weight.shape[0]], is_bias=True)
    layer.weight.set_value(weight)
    if bias is not None:
        layer.bias.set_value(bias)
