# SPDX-License-Identifier: Apache-2.0
"""A look at what will be exported, before anything is trained: can the model be traced, and which
layers come first and last in it?
"""
import inspect
from typing import Dict, List, Optional, Tuple

import numpy as np
import paddle
from paddle import nn

from ..deploy.compare import in_front_of_choices, relative
from ..deploy.simulate import simulate
from ..errors import ConfigError, ModelError
from ..graph.carried import inside
from ..graph.ends import first_and_last
from ..graph.from_layer import graph_from_layer
from ..graph.graph import WEIGHT_SLOTS, Graph
from ..report.progress import get_logger
from .conv1d import as_two_dimensional
from .layers import copied, forward_replaced
from .norms import keep_weight

Layers = List[Tuple[str, nn.Layer]]
LOST = 0.01  # root mean square; a trace of the same operations is 1e-6 from the model


class Ends:
    """Which layers come first and last.

    Attributes:
        first(set[str]), last(set[str]): names of layers.
        idle(list[str] or None): those that evaluation does not run, such as heads for training
            only; they are neither. None where that is not known.
    """

    def __init__(self, first, last, idle: Optional[List[str]] = None):
        self.first, self.last, self.idle = set(first), set(last), idle

    @classmethod
    def in_order(cls, layers: Layers) -> "Ends":
        """Of a model of which nothing else is known: the first one and the last one."""
        return cls([layers[0][0]], [layers[-1][0]])


def ends_of(model, layers: Layers, run) -> Ends:
    """Trace a copy of the float model and follow its data.

    A model that cannot be traced can be trained and not be exported: a warning says so, with the
    reason, and the order in which layers run decides instead.

    Args:
        model(paddle.nn.Layer): float, in evaluation mode.
        layers(list): names and layers that will be quantized, in running order.
        run(callable): runs the model on the first batch.

    Raises:
        ConfigError: a layer that will be quantized runs inside of a loop or a branch.
    """
    arguments, outputs = _called(model, run)
    if arguments is None:
        return Ends.in_order(layers)
    try:
        graph, weights = _traced(model, layers, arguments, outputs)
    except ModelError as error:
        get_logger().warning("this model can be trained and not be exported as it is: %s; mend "
                             "that before training, e.g. with a forward that does in evaluation "
                             "only what paddle.jit.to_static can trace", error)
        return Ends.in_order(layers)
    _refuse_control_flow(graph, weights)
    for remark in graph.remarks:
        get_logger().warning(remark)
    ops = [op for op in graph.ops if _weight_name(op) in weights]
    if not ops:
        return Ends.in_order(layers)
    first, last = ([name for op in side for name in weights[_weight_name(op)]]
                   for side in first_and_last(graph.ops, set(ops).__contains__))
    met = {name for op in ops for name in weights[_weight_name(op)]}
    return Ends(first, last, [name for name, _ in layers if name not in met])


def _refuse_control_flow(graph, weights):
    """Export leaves loops and branches as they are, and what depends on them: a quantizer in there
    would be lost.
    """
    names = dict.fromkeys(name for op, outer in inside(graph)
                          for name in weights.get(outer.get(_weight_name(op)), ()))
    if names:
        raise ConfigError("control flow that depends on data stands in front of or around "
                          f"{', '.join(names)}; export leaves that part as it is, so quantizers in "
                          f"there would be lost: add QuantAware.skip: [{', '.join(names)}]")


def ends_without_data(model, layers: Layers) -> Ends:
    """First and last layers of a model of which no batch is known, from what it does with inputs
    that networks for images usually take; the order in which it was built where it takes none.

    Args:
        model(paddle.nn.Layer): float, in evaluation mode.
        layers(list): names and layers that will be quantized.
    """
    for given in _usual_inputs(model):
        def run():
            with paddle.no_grad():
                twin(given)
        try:
            # a try leaves traces: a tensor that a network keeps becomes a buffer of that name
            twin = copied(model)
            run()
        except Exception:  # whatever a network raises that is given what it does not take
            continue
        return ends_of(twin, layers, run)
    return Ends.in_order(layers)


def _usual_inputs(model):
    """Of classifiers and text detectors, of text recognition, and of PaddleDetection, whose heads
    may be built for one size.
    """
    for height, width in ((64, 64), (48, 320), (32, 320)):
        yield paddle.full([1, 3, height, width], 0.5)
    sizes = [getattr(layer, "eval_size", None) for layer in model.sublayers(include_self=True)]
    height, width = next(filter(None, sizes), (320, 320))
    yield dict(image=paddle.full([1, 3, height, width], 0.5),
               im_shape=paddle.to_tensor([[float(height), float(width)]]),
               scale_factor=paddle.ones([1, 2]))


def _traced(model, layers: Layers, arguments, outputs) -> Tuple[Graph, Dict[str, List[str]]]:
    """The graph of a copy, and the names of layers by their weight in it."""
    twin = copied(model)
    named, weights = dict(twin.named_sublayers(include_self=True)), {}
    for name, _ in layers:
        keep_weight(named[name])
        weights.setdefault(named[name].weight.name, []).append(name)
    graph = graph_from_layer(_Reading(twin), [[batch_free_spec(value) for value in arguments]],
                             type(model).__name__)
    _say_lost(graph, arguments, outputs)
    as_two_dimensional(graph, weights)
    return graph, weights


def _say_lost(graph: Graph, arguments, outputs: Optional[List[np.ndarray]]):
    """Warn where the trace computes something else than the model did on the first batch."""
    given = [np.asarray(value) for value in paddle.utils.flatten(arguments)]
    names = graph.outputs[:-len(given)]
    if outputs is None or len(given) != len(graph.inputs) or len(names) != len(outputs):
        return
    told = set(in_front_of_choices(graph))
    expected = {name: value for name, value in zip(names, outputs) if name in told}
    found = simulate(graph, dict(zip(graph.inputs, given)), list(expected))
    far = max((relative(expected[name], found[name]) for name in found), default=0.0)
    if far > LOST:
        get_logger().warning("what Paddle exports of this model is not what it computes (%.2g %% "
                             "apart on the first batch): of operations in place it loses those "
                             "whose result is not used; write x = x.add_(y) for x.add_(y)",
                             100 * far)


class _Reading(nn.Layer):
    """A network that hands out its inputs too: Paddle exports none that has inputs that it does not
    read, and a batch of a detector brings its boxes, its sizes and more.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, values):
        return self.model(*values), [paddle.assign(value) for value in paddle.utils.flatten(values)]


def _weight_name(op) -> Optional[str]:
    return op.input(WEIGHT_SLOTS[op.type][1]) if op.type in WEIGHT_SLOTS else None


def _called(model, run) -> Tuple[Optional[List], Optional[List[np.ndarray]]]:
    """What ``run`` calls the model with, by position, None for what no spec describes; and what it
    gets.
    """
    seen, forward = [], model.forward

    def noted(*args, **kwargs):
        seen.append((args, kwargs))
        return forward(*args, **kwargs)
    with forward_replaced(model, noted):
        outputs = run()
    try:
        bound = inspect.signature(forward).bind(*seen[0][0], **seen[0][1]).arguments
    except (IndexError, TypeError, ValueError):
        return None, outputs
    values = [v for value in bound.values()
              for v in (value if isinstance(value, tuple) else [value])]
    return values if all(_is_data(value) for value in values) else None, outputs


def _is_data(value) -> bool:
    if isinstance(value, dict):
        return all(_is_data(v) for v in value.values())
    return isinstance(value, (paddle.Tensor, np.ndarray))


def batch_free_spec(value, name=None):
    """With a free batch."""
    if isinstance(value, dict):
        return {key: batch_free_spec(v, key) for key, v in value.items()}
    shape = [None, *value.shape[1:]] if value.ndim else []
    dtype = str(value.dtype).rpartition(".")[2].lower()
    return paddle.static.InputSpec(shape, dtype, name)
