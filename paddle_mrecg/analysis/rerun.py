# SPDX-License-Identifier: Apache-2.0
"""Run a network once, then again and again with one layer changed: only what the change reaches.

The whole network runs once per batch. Of it stay the tensors from which a change may set out, and
those that meet a changed tensor further on; a run with one layer changed starts at that layer and
computes nothing that the change does not reach.
"""
import time
from typing import Dict, Iterable, List, Mapping, Sequence

import numpy as np
import paddle

from ..graph.graph import QUANTIZED, WEIGHT_SLOTS, Op
from ..graph.ops import run_op
from ..post.scheme import FAKE_QUANTIZE


class Rerunner:
    """One batch of a network, whose values are kept as far as changes need them.

    Args:
        view(list[Op]): the ops, with ``fake_quantize`` in front of quantized readers
            (``Scheme.quantized_view``); of the float network simply its ops.
        params(dict): tensors of all parameters and constants that the ops read.
        quantizers(dict): activation name -> function of a tensor; every activation that
            ``view`` or a changed view quantizes.
        outputs(list[str]): what ``changed`` returns.
    """

    def __init__(self, view: Sequence[Op], params: Mapping[str, paddle.Tensor],
                 quantizers: Mapping, outputs: Sequence[str]):
        self.view, self.params, self.quantizers = list(view), params, quantizers
        self.outputs = list(outputs)
        self.values: Dict[str, paddle.Tensor] = {}
        self.seconds: Dict[str, float] = {}  # first output of an op -> duration
        self._inputs = {op.output_names[0]: op.input_names for op in self.view}
        self._kept = self._to_keep()

    def run(self, feed: Mapping[str, np.ndarray]) -> Dict[str, paddle.Tensor]:
        """The network as it is; what it returned and computed before is forgotten.

        Args:
            feed(dict): input name -> array ``[batch, ...]``.
        """
        values = dict(self.params, **{n: paddle.to_tensor(v) for n, v in feed.items()})
        last_use = {n: k for k, op in enumerate(self.view) for n in op.input_names}
        self.values = {n: values[n] for n in feed}
        with paddle.no_grad():
            for k, op in enumerate(self.view):
                begin = time.perf_counter()
                written = self._run(op, values)
                self.seconds[op.output_names[0]] = time.perf_counter() - begin
                values.update(written)
                self.values.update({n: v for n, v in written.items() if n in self._kept})
                for name in op.input_names:
                    if last_use[name] == k:
                        values.pop(name, None)
        return {n: self.values[n] for n in self.outputs}

    def changed(self, view: Iterable[Op],
                params: Mapping[str, paddle.Tensor]) -> Dict[str, paddle.Tensor]:
        """The outputs with some ops reading other tensors, and some parameters replaced.

        Args:
            view(list[Op]): the same ops, reading quantized or float activations as they should.
            params(dict): the parameters that differ.
        """
        new: Dict[str, paddle.Tensor] = dict(params)
        values = _Layered(new, self.values, self.params)
        reached = self.reached(view, params)
        last_use = {n: k for k, op in enumerate(reached) for n in op.input_names}
        with paddle.no_grad():
            for k, op in enumerate(reached):
                new.update(self._run(op, values))
                for name in op.input_names:
                    if last_use[name] == k and name not in self.outputs:
                        new.pop(name, None)
        return {n: values[n] for n in self.outputs}

    def reached(self, view: Iterable[Op], params: Iterable[str]) -> List[Op]:
        """The ops that must run again for a change; see ``changed``."""
        new, ops = set(params), []
        for op in view:
            same = self._inputs.get(op.output_names[0]) == op.input_names
            if not same or not new.isdisjoint(op.input_names):
                ops.append(op)
                new.update(op.output_names)
        return ops

    def cost(self, view: Iterable[Op], params: Iterable[str]) -> float:
        """Seconds that ``changed`` will take for a batch like the one that ran last."""
        return sum(self._seconds(op) for op in self.reached(view, params))

    def _seconds(self, op: Op) -> float:
        if op.output_names[0] in self.seconds:
            return self.seconds[op.output_names[0]]
        # a quantizer that the network as it is does not have: as fast as what writes its input
        return self.seconds.get(op.input_names[0], 0.0)

    def _run(self, op: Op, values) -> Dict[str, paddle.Tensor]:
        if op.type != FAKE_QUANTIZE:
            return run_op(op, values)
        name = op.input("X")
        return {name + QUANTIZED: self.quantizers[name](values[name])}

    def _to_keep(self):
        """Where a change may set out (inputs of layers and quantizers), where one may meet
        what it has not reached (ops that read several activations), and the outputs.
        """
        kept = set(self.outputs)
        for op in self.view:
            read = {n for n in op.input_names if n not in self.params}
            if op.type in WEIGHT_SLOTS or op.type == FAKE_QUANTIZE or len(read) > 1:
                kept |= read
        return kept | set(self.quantizers)


class _Layered(Mapping):
    """Looks a name up in several mappings, the first one that has it wins."""

    def __init__(self, *layers: Mapping):
        self._layers = layers

    def __getitem__(self, name):
        for layer in self._layers:
            if name in layer:
                return layer[name]
        raise KeyError(name)

    def __iter__(self):
        return iter({n for layer in self._layers for n in layer})

    def __len__(self):
        return len(set(self))
