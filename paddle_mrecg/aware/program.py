# SPDX-License-Identifier: Apache-2.0
"""From a frozen quant-aware model to the graph of its quantized program.

The float network is traced with a marker instead of every activation quanter: a ``scale`` op
that adds the quanter's number. In the graph each marker becomes the quantizer itself. Batch norms
that were not folded stay ops of their own; a runtime may fold them into the scales.
"""
from typing import Dict, Iterator, List, Optional, Tuple

import paddle

from ..errors import ConfigError, DataError, ModelError, listed
from ..graph.from_layer import graph_from_layer
from ..graph.graph import WEIGHT_SLOTS, Graph, Op, TensorInfo
from ..grids.affine import Encoding, quantize
from ..report.progress import get_logger
from .additions import SIDES, addition_quanters, intercepted, with_additions
from .conv1d import as_two_dimensional
from .first_batch import without_nothing
from .freeze import idle_layers, not_seen
from .layers import copied, detach, quantized_layers
from .table import forget
from ..deploy.qdq import QdqBuilder

TRAINING_TARGETS = ("paddle_lite", "simulation")
# numbers of markers start here: no scale op of a network adds such a number and multiplies by 1
MARKER_BASE = 4096.0


def training_graph(frozen, input_spec) -> Tuple[Graph, Dict[str, Encoding], List[str]]:
    """The graph with int8 weights and explicit activation quantizers, the encodings of its
    tensors, and the names of layers that are not in it, because only training runs them.

    An activation that is quantized in several ways gets a copy (``assign``) for every further one,
    so that each tensor has one encoding.

    Args:
        frozen(paddle.nn.Layer): what ``freeze`` returned.
        input_spec(list[paddle.static.InputSpec]): one per input.

    Raises:
        ModelError: the model cannot be exported, or runs differently when it is traced.
        DataError: it runs a layer whose input has not been seen yet.
    """
    quanters = {name: layer.activation_quanter for name, layer in quantized_layers(frozen)
                if layer.activation_quanter is not None}
    quanters.update(addition_quanters(frozen))
    numbers = {name: k for k, name in enumerate(quanters)}
    weights = {name: layer.weight_quanter.encoding() for name, layer in quantized_layers(frozen)}
    marked = _MarkedAdditions(numbers)
    skeleton, stored = _skeleton(frozen, numbers, weights, marked)
    with intercepted(marked):
        if skeleton._forward_pre_hooks:
            graph = graph_from_layer(_Called(skeleton), [input_spec], type(skeleton).__name__)
        else:
            graph = graph_from_layer(skeleton, input_spec)
    as_two_dimensional(graph, stored)
    idle = idle_layers(frozen)
    encodings = [None if name in idle else q.encoding() for name, q in quanters.items()]
    assembler = _Assembler(graph, encodings, list(quanters),
                           {layer.weight.name: name for name, layer in quantized_layers(frozen)})
    dropped = [name for name, layer in quantized_layers(frozen)
               if layer.weight.name not in graph.params and name not in assembler.met_names()]
    unseen = [name for name in idle if name not in dropped]
    if unseen:
        raise DataError(not_seen(unseen[0]))
    for name, layer in quantized_layers(frozen):
        if name in dropped:
            stored.pop(layer.weight.name, None)
    return (*assembler.assemble(stored, dropped), dropped)


def check_target(encodings: Dict[str, Encoding], target: str):
    """Refuse grids of activations that ``target``, 'paddle_lite' or 'simulation', cannot run.

    Raises:
        ConfigError: one sentence per tensor.
    """
    if target not in TRAINING_TARGETS:
        raise ConfigError(f"unknown target '{target}'; choose one of {', '.join(TRAINING_TARGETS)}")
    if target == "simulation":
        return
    reasons = {name: "has an offset, and its int8 kernels have no zero point"
               if e.zero_point.any() else
               "is unsigned, and its int8 kernels clip at ±127" for name, e in encodings.items()
               if e.zero_point.any() or not e.spec.signed}
    reasons.update((name, f"has {e.spec.bits} bits, and its int8 kernels clip at "
                    "±127 whatever the bits")
                   for name, e in encodings.items() if e.spec.bits < 8 and name not in reasons)
    if reasons:
        raise ConfigError([f"Paddle Lite cannot run this model: '{name}' {reason}; prepare it with "
                           "QuantAware.target: paddle_lite, or export it with target 'simulation'"
                           for name, reason in reasons.items()])


def _skeleton(frozen, numbers, weights, marked):
    """A float copy of the model with markers; and the encodings of weights by parameter name."""
    skeleton, stored = copied(frozen), {}
    for name, layer in list(quantized_layers(skeleton)):
        stored[layer.weight.name] = weights[name]
        detach(layer)
        if name in numbers:
            layer.register_forward_pre_hook(_Marker(numbers[name]))
    for prefix, part in list(with_additions(skeleton)):
        marked.follow(part, prefix)
        detach(part)
    forget(skeleton)
    without_nothing(skeleton)
    skeleton.eval()
    return skeleton, stored


class _Called(paddle.nn.Layer):
    """A model whose own hooks run: Paddle traces ``forward`` of the outermost layer alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model(*inputs)


class _Marker:
    """Pre-hook that marks the first input of a layer."""

    def __init__(self, number: int):
        self.number = number

    def __call__(self, layer, inputs):
        return (_mark(inputs[0], self.number),) + tuple(inputs[1:])


def _mark(x, number: int):
    return paddle.scale(x, 1.0, MARKER_BASE + number)


class _MarkedAdditions:
    """Marks inputs and results of additions while layers that quantize them are traced."""

    def __init__(self, numbers: Dict[str, int]):
        self._numbers = numbers
        self._names: Dict[int, List[Optional[str]]] = {}  # of every addition of a layer
        self._running: List[Iterator[Optional[str]]] = []  # innermost last

    def follow(self, layer, prefix: str):
        """``layer`` is one of these; ``prefix`` stands in front of its quanters' names."""
        self._names[id(layer)] = [None if k is None else f"{prefix}additions.{k}"
                                  for k in layer.in_order(range(len(layer.additions)))]
        layer.register_forward_pre_hook(self._begin)
        layer.register_forward_post_hook(self._end)

    def __call__(self, original, a, b):
        name = next(self._running[-1], None) if self._running else None
        if name is None:
            return original(a, b)
        left, right, result = (self._numbers[f"{name}.{side}"] for side in SIDES)
        return _mark(original(_mark(a, left), _mark(b, right)), result)

    def _begin(self, layer, inputs):
        self._running.append(iter(self._names[id(layer)]))

    def _end(self, layer, inputs, output):
        self._running.pop()


class _Assembler:
    """Puts quantizers into a traced graph."""

    def __init__(self, graph: Graph, encodings: List[Optional[Encoding]], names: List[str],
                 layer_of: Dict[str, str]):
        self.graph, self.encodings, self.names, self._layer_of = graph, encodings, names, layer_of
        self.builder = QdqBuilder(graph)
        self.table: Dict[str, Encoding] = {}
        self._done: Dict[Tuple, str] = {}  # (tensor, encoding) -> its quantized view

    def met_names(self) -> List[str]:
        """Quanters whose marker is in the graph."""
        numbers = [self._number(op) for op in self.graph.ops]
        return [self.names[k] for k in numbers if k is not None]

    def assemble(self, stored: Dict[str, Encoding],
                 dropped: List[str]) -> Tuple[Graph, Dict[str, Encoding]]:
        ops, renamed, met = [], {}, set()
        for op in self.graph.ops:
            op = Op(op.type,
                    {s: [renamed.get(n, n) for n in names] for s, names in op.inputs.items()},
                    op.outputs, op.attrs)
            number = self._number(op)
            if number is None:
                ops.append(op)
                continue
            met.add(number)
            added, renamed[op.output("Out")] = self._quantizer(op.input("X"),
                                                               self.encodings[number])
            ops += added
        missing = [self.names[k] for k in range(len(self.names))
                   if k not in met and self.names[k] not in dropped]
        if missing:
            raise ModelError("the traced model does not run what training runs: the input of "
                             f"'{missing[0]}' is quantized there and not here; let forward do the "
                             "same in training and evaluation, or skip that layer")
        self.graph.outputs = [renamed.get(n, n) for n in self.graph.outputs]
        self._weights(ops, stored)
        return self.graph, self.table

    def _number(self, op: Op):
        bias = op.attrs.get("bias", 0.0)
        if (op.type != "scale" or op.attrs.get("scale", 1.0) != 1.0
            or not MARKER_BASE <= bias < MARKER_BASE + len(self.encodings)):
            return None
        return int(bias - MARKER_BASE)

    def _quantizer(self, source: str, encoding: Encoding):
        key = source, str(encoding.to_dict())
        if key in self._done:
            return [], self._done[key]
        ops = []
        if source in self.table:
            copied = self._tensor(f"{source}.copy", source)
            ops.append(Op("assign", {"X": [source]}, {"Out": [copied]}))
            source = copied
        self.table[source] = encoding
        ops += self.builder.activation(source, encoding)
        self._done[key] = ops[-1].output_names[0]
        return ops, self._done[key]

    def _tensor(self, stem: str, like: str) -> str:
        name = self.graph.unique_name(stem)
        self.graph.tensors[name] = TensorInfo(name, self.graph.tensors[like].shape, "float32")
        return name

    def _weights(self, ops: List[Op], stored: Dict[str, Encoding]):
        """Store codes and let the quantized layers read what is made of them."""
        for name, encoding in stored.items():
            readers = [op for op in ops
                       if op.type in WEIGHT_SLOTS and op.input(WEIGHT_SLOTS[op.type][1]) == name]
            if not readers:
                raise ModelError(f"weight '{name}' is not read by a layer of the traced model: "
                                 "skip layers that evaluation does not run, with QuantAware.skip")
            self.builder.weight(name, quantize(self.graph.params[name], encoding), encoding)
            self.table[name] = encoding
            self._say_others(ops, name, readers)
            for op in ops:
                op.inputs = {slot: [self.builder.dequantized[name] if n == name else n
                                    for n in names] for slot, names in op.inputs.items()}
        self.graph.ops = self.builder.prologue + ops

    def _say_others(self, ops: List[Op], name: str, readers: List[Op]):
        """Warn of ops that read a weight, other than the layers that quantize it."""
        views = set(self._done.values())
        own = [op for op in readers if op.input(WEIGHT_SLOTS[op.type][0]) in views] or readers
        others = sorted({op.type for op in ops
                         if name in op.input_names and all(op is not one for one in own)})
        if others:
            get_logger().warning("the weight of layer '%s' is read by %s too, which training gives "
                                 "float values and the program those of the levels: a layer of its "
                                 "own with the same parameter would keep it float",
                                 self._layer_of[name], listed(others))
