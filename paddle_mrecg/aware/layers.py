# SPDX-License-Identifier: Apache-2.0
"""Convolutions and linear layers that quantize their weight and input.

A layer becomes quantized by changing its class in place, to a subclass of its
own with quanters as sublayers. It stays the same object: names of parameters
and keys of the state dict, references that the model keeps, hooks and
``isinstance`` all hold, and float checkpoints load.
"""
import contextlib
import copy
import functools
from typing import Iterator, List, Optional, Tuple

import paddle
from paddle import nn

from ..compat import has_static_forward, run_eagerly, static_values_shared
from ..errors import ModelError
from ..grids.form import is_loading

LAYER_CLASSES = {"Conv2D": nn.Conv2D, "Conv2DTranspose": nn.Conv2DTranspose, "Linear": nn.Linear,
                 "Conv1D": nn.Conv1D}


class QuantizedLayer:
    """What a layer gains; mixed in before its own class.

    Attributes:
        weight_quanter(Quanter): quantizes the weight.
        activation_quanter(Quanter or None): quantizes the input; None leaves it float.
        bias_quanter(Quanter or None): quantizes the bias.
        inject(callable or None): ``(weight, weight_quanter) -> weight`` before the weight is
            quantized; adds gradients.
        loads(LoadWatch or None): is told of checkpoints.
    """

    own_names = ("weight_quanter", "activation_quanter", "bias_quanter", "inject", "loads")

    def _state_dict_impl(self, *args, **kwargs):
        if self.loads is not None and is_loading(args, kwargs):
            self.loads.note(self)
        return super()._state_dict_impl(*args, **kwargs)

    def float_weight(self) -> paddle.Tensor:
        """What ``weight_quanter`` quantizes."""
        return self.weight

    def float_bias(self) -> Optional[paddle.Tensor]:
        """What ``bias_quanter`` quantizes, or None."""
        return self.bias

    @run_eagerly
    def forward(self, *inputs, **kwargs):
        self.begin()
        if not inputs:
            raise called_by_keyword(self.weight_quanter.place.partition(" of ")[2])
        x, *args = inputs
        x = x if self.activation_quanter is None else self.activation_quanter(x)
        with shadowed(self, weight=self.quantized_weight(self.float_weight()),
                      bias=self.quantized_bias(self.float_bias())):
            return super().forward(x, *args, **kwargs)

    def begin(self):
        """What comes before a forward pass."""
        refuse_tracing()
        if self.loads is not None:
            self.loads.settle()

    def quantized_weight(self, weight):
        if self.inject is not None:
            self.weight_quanter.ready(weight)
            weight = self.inject(weight, self.weight_quanter)
        return self.weight_quanter(weight)

    def quantized_bias(self, bias):
        return bias if bias is None or self.bias_quanter is None else self.bias_quanter(bias)

    def quanters(self) -> List[nn.Layer]:
        """Those that are there."""
        return [q for q in (self.weight_quanter, self.activation_quanter,
                            self.bias_quanter) if q is not None]


def called_by_keyword(what: str) -> ModelError:
    """For ``what``, a layer that was called without inputs by position: hooks, which calibration
    and export look through, see no others.
    """
    return ModelError(f"{what} is given its input as a keyword, where hooks do not see it: call it "
                      "with the input first, as in self.layer(x)")


def refuse_tracing():
    """What quanters learn and choose cannot be put into a static graph by tracing.

    Raises:
        ModelError: a quantized layer is being traced.
    """
    if not paddle.in_dynamic_mode():
        raise ModelError("a model that is being quantized cannot be traced by paddle.jit.to_static "
                         "with full_graph=True or saved by paddle.jit.save: use export_quantized, "
                         "or save_quantized_model of PaddleSlim's QAT")


@contextlib.contextmanager
def as_float(model):
    """Within this context quantized layers of ``model`` are float ones, for
    code that only looks at the graph.
    """
    classes = [(layer, type(layer)) for _, layer in quantized_layers(model)]
    for layer, cls in classes:
        while hasattr(cls, "float_class"):
            cls = cls.float_class
        layer.__class__ = cls
    try:
        yield
    finally:
        for layer, cls in classes:
            layer.__class__ = cls


@contextlib.contextmanager
def shadowed(layer, **tensors):
    """Within this context attributes of ``layer`` are ``tensors``: the float layer's
    own ``forward`` reads those.
    """
    # a bias of None is not a parameter
    before = {name: layer.__dict__[name] for name in tensors if name in layer.__dict__}
    layer.__dict__.update(tensors)
    try:
        yield
    finally:
        for name in tensors:
            del layer.__dict__[name]
        layer.__dict__.update(before)


@contextlib.contextmanager
def forward_replaced(model, function):
    """Within this context calls of ``model`` go to ``function``."""
    before = vars(model).get("forward")
    model.forward = function
    try:
        yield
    finally:
        del model.forward
        if before is not None:
            model.forward = before


@functools.lru_cache(maxsize=None)
def mixed_class(mixin, base):
    """The subclass of both, one per pair; ``float_class`` leads back."""
    return type(f"{mixin.__name__}{base.__name__}", (mixin, base),
                {"mixin": mixin, "float_class": base, "__reduce_ex__": _reduced})


def _reduced(layer, protocol):
    """For pickle, which looks classes up by name and finds none that was made here."""
    mixins, cls = [], type(layer)
    while hasattr(cls, "float_class"):
        mixins.append(cls.mixin)
        cls = cls.float_class
    return _unreduced, (cls, mixins), vars(layer).copy()


def _unreduced(cls, mixins):
    for mixin in reversed(mixins):
        cls = mixed_class(mixin, cls)
    return cls.__new__(cls)


def attach(layer, weight_quanter, activation_quanter=None, bias_quanter=None):
    """Make ``layer`` a quantized one, in place; what was mixed in before stays in front."""
    cls = type(layer)
    if hasattr(cls, "float_class"):
        layer.__class__ = mixed_class(cls.mixin, mixed_class(QuantizedLayer, cls.float_class))
    else:
        layer.__class__ = mixed_class(QuantizedLayer, cls)
    layer.weight_quanter, layer.activation_quanter, layer.bias_quanter = (weight_quanter,
                                                                          activation_quanter,
                                                                          bias_quanter)
    layer.inject = layer.loads = None


def detach(layer):
    """Make a quantized layer, or what else was mixed in, a float one again;
    the present parameters stay.
    """
    while hasattr(type(layer), "float_class"):
        names = type(layer).mixin.own_names  # a model may have others of the same name
        layer.__class__ = type(layer).float_class
        for name in names:
            layer._sub_layers.pop(name, None)
            layer.__dict__.pop(name, None)


@contextlib.contextmanager
def float_where_it_fails(model):
    """After an error within this context all layers of ``model`` are float ones, with the
    parameters that they have: it can be prepared again.
    """
    try:
        yield
    except BaseException:
        for layer in model.sublayers(include_self=True):
            if hasattr(type(layer), "float_class"):
                detach(layer)
        raise


def copied(model) -> nn.Layer:
    """A deep copy whose parameters keep their names, and which can be traced."""
    # On a CPU recurrent layers keep tensors without memory, which cannot be copied.
    recurrent = [layer for layer in model.sublayers(include_self=True)
                 if hasattr(layer, "_dropout_state")]
    shared = {id(t): t for layer in recurrent
              for t in (layer._dropout_state, *(getattr(layer, "_flat_weight", None) or ()))}
    with static_values_shared():
        twin = copy.deepcopy(model, shared)
    for before, after in zip(model.parameters(), twin.parameters()):
        after.name = before.name  # a copy is given another
    for layer in twin.sublayers(include_self=True):
        if hasattr(layer, "_dropout_state"):  # an exporter wants it as it was before any run
            old = layer._dropout_state
            layer._dropout_state = layer.create_variable(dtype=old.dtype, name=old.name)
    return twin


def refuse_other_models(model):
    """Raise ModelError for what is not a ``paddle.nn.Layer``."""
    if not isinstance(model, nn.Layer):
        what = f"the class {model.__name__}" if isinstance(model, type) else (
            f"a {type(model).__name__}")
        raise ModelError(f"{what} is not a model to train: pass an instance of paddle.nn.Layer; "
                         "an exported program can be quantized by quant_post_mrecg only")


def alone(model) -> nn.Layer:
    """``model`` without a ``paddle.DataParallel`` around it."""
    return model._layers if isinstance(model, paddle.DataParallel) else model


def refuse_static(model):
    """A forward that was made static may have kept the float network, and would go on to run it.

    Raises:
        ModelError: ``model`` or a layer of it has one.
    """
    for name, layer in model.named_sublayers(include_self=True):
        if has_static_forward(layer):
            what = f"layer '{name}'" if name else "the model"
            raise ModelError(f"paddle.jit.to_static has made the forward of {what} a static one, "
                             "which may have kept the float network: quantize first and call "
                             "to_static afterwards, or undo it with forward.rollback()")


def quantizable(model, types: List[str]) -> List[Tuple[str, nn.Layer]]:
    """Layers of the named types, and of subclasses that keep their ``forward``."""
    forwards = {LAYER_CLASSES[name].forward for name in types}
    return [(name, layer) for name, layer in model.named_sublayers(include_self=True)
            if type(layer).forward in forwards]


def quantized_layers(model) -> Iterator[Tuple[str, nn.Layer]]:
    """Name and layer of every quantized layer; see ``QuantizedLayer`` for what they have.

    Args:
        model(paddle.nn.Layer): what ``quant_aware_prepare`` returned, in
            ``paddle.DataParallel`` or not.
    """
    return ((name, layer) for name, layer in model.named_sublayers(include_self=True)
            if isinstance(layer, QuantizedLayer))
