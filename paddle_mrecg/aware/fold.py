# SPDX-License-Identifier: Apache-2.0
"""Batch norms folded into the convolutions before them while both train (Jacob et
al., arXiv 1712.05877, 3.2).

In training the convolution runs twice: once with float weights for the batch's
mean and variance, then with the quantized product of weight and ``gamma /
sqrt(variance + eps)``. Evaluation takes the running statistics instead, as the
exported program does.
"""
from typing import Dict, List, Tuple

import numpy as np
import paddle
from paddle import nn

from ..compat import run_eagerly
from ..errors import ModelError
from .layers import QuantizedLayer, detach, mixed_class, shadowed

FOLDED_NORMS = (nn.BatchNorm2D, nn.BatchNorm)
CLOSE = 1e-3  # of the largest output: folding changes the order of operations, over all layers


class FoldedBatchNorm:
    """A batch norm that its convolution applies: passes its input. Parameters
    and statistics stay here.
    """

    own_names = ()

    def forward(self, x):
        return x


class FoldedConv:
    """A convolution that applies the batch norm behind it; ``batch_norm`` holds that in a list,
    unknown to the state dict.
    """

    own_names = ("batch_norm", "convolution")

    def float_weight(self) -> paddle.Tensor:
        """Folded with the running statistics."""
        return self.folded(*self.running())[0]

    def float_bias(self) -> paddle.Tensor:
        return self.folded(*self.running())[1]

    def running(self):
        return self.batch_norm[0]._mean, self.batch_norm[0]._variance

    def folded(self, mean, variance) -> Tuple[paddle.Tensor, paddle.Tensor]:
        """Weight and bias of convolution and batch norm in one."""
        norm = self.batch_norm[0]
        factor = paddle.rsqrt(variance + norm._epsilon)
        factor = factor if norm.weight is None else factor * norm.weight
        shift = -mean if self.bias is None else self.bias - mean
        bias = shift * factor
        return (self.weight * factor.reshape([-1, 1, 1, 1]),
                bias if norm.bias is None else bias + norm.bias)

    @run_eagerly
    def forward(self, x):
        quantized = isinstance(self, QuantizedLayer)
        if quantized:
            self.begin()
        if quantized and self.activation_quanter is not None:
            x = self.activation_quanter(x)
        weight, bias = self.folded(*(self._batch_statistics(x) if self._uses_batch()
                                     else self.running()))
        if quantized:
            weight, bias = self.quantized_weight(weight), self.quantized_bias(bias)
        return self._convolve(x, weight, bias)

    def _convolve(self, x, weight, bias):
        with shadowed(self, weight=weight, bias=bias):
            return self.convolution(self, x)

    def _uses_batch(self) -> bool:
        norm = self.batch_norm[0]
        return norm.training and not norm._use_global_stats

    def _batch_statistics(self, x):
        """Mean and variance of this batch; the running ones move towards them."""
        norm = self.batch_norm[0]
        y = self._convolve(x, self.weight, self.bias).cast("float32")
        last = self._data_format == "NHWC"
        others, shape = ([0, 1, 2], [1, 1, 1, -1]) if last else ([0, 2, 3], [1, -1, 1, 1])
        mean = y.mean(others)
        variance = (y - mean.reshape(shape)).square().mean(others)
        with paddle.no_grad():
            for running, now in ((norm._mean, mean), (norm._variance, variance)):
                running.set_value(running * norm._momentum + now.detach() * (1.0 - norm._momentum))
        return mean, variance


def fold_batch_norms(model, convolutions: List[nn.Layer], run) -> Dict[nn.Layer, nn.Layer]:
    """Fold every batch norm that directly follows one of ``convolutions``, in place.

    Args:
        model(paddle.nn.Layer): a float model in evaluation mode.
        convolutions(list[Layer]): Conv2D layers that may take a batch norm.
        run(callable): runs the model on some data and returns its outputs, a list of arrays.

    Returns:
        dict: convolution -> batch norm.

    Raises:
        ModelError: folding changed the outputs, because a convolution's
            output is read by others too.
    """
    pairs, before = norms_behind(model, [c for c in convolutions if isinstance(c, nn.Conv2D)], run)
    for convolution, norm in pairs.items():
        base = type(convolution)
        convolution.__class__ = mixed_class(FoldedConv, base)
        convolution.convolution = base.forward
        convolution.batch_norm = [norm]
        norm.__class__ = mixed_class(FoldedBatchNorm, type(norm))
    for want, got in zip(before, run()):
        if np.abs(want - got).max(initial=0.0) > CLOSE * np.abs(want).max(initial=1e-12):
            for layer in (*pairs, *pairs.values()):
                detach(layer)
            raise ModelError("batch norms cannot be folded into the convolutions of this model, "
                             "because the output of one is read by others than its batch norm; set "
                             "QuantAware.fold_batch_norm: false")
    return pairs


def norms_behind(model, layers: List[nn.Layer], run):
    """The batch norm that reads the output of one of ``layers`` and nothing else, both run once;
    and the model's outputs.
    """
    written, pairs, calls, hooks = {}, {}, {}, []

    def after(layer, inputs, output):
        calls[id(layer)] = calls.get(id(layer), 0) + 1
        written[id(output)] = (layer, output)  # holding the tensor keeps its id its own

    def before(layer, inputs):
        calls[id(layer)] = calls.get(id(layer), 0) + 1
        if id(inputs[0]) in written:
            pairs[written[id(inputs[0])][0]] = layer

    hooks += [layer.register_forward_post_hook(after) for layer in layers]
    hooks += [s.register_forward_pre_hook(before) for s in model.sublayers()
              if isinstance(s, FOLDED_NORMS)]
    try:
        outputs = run()
    finally:
        for hook in hooks:
            hook.remove()
    return {c: n for c, n in pairs.items() if calls[id(c)] == calls[id(n)] == 1}, outputs
