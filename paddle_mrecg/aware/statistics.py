# SPDX-License-Identifier: Apache-2.0
"""Batch norms in calibration: with their running statistics, or with each batch's, as in training.

Behind batch norms whose running statistics are not those of a batch (a fresh network, a momentum
of 0.99, another data set), training sees activations of another size than evaluation. Ranges that
were found in evaluation then clip nearly everything, and gradients grow layer by layer:
MobileNetV3-small after 40 steps reaches 70,000 instead of 3 at 8 bits.
"""
import contextlib
from typing import Dict, List, Optional, Tuple

import paddle
from paddle import nn

from ..report.progress import get_logger

NORMS = (nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.BatchNorm)
FACTOR = 2.0  # between the sizes of a layer's input in the two modes; costs a bit of its grid
ENOUGH = 8  # samples in a batch whose statistics say something


@contextlib.contextmanager
def batch_statistics(norms: List[nn.Layer]):
    """Within this context ``norms`` use each batch's statistics; the running ones stay."""
    kept = [(norm, norm.training, norm._mean.clone(), norm._variance.clone()) for norm in norms]
    for norm in norms:
        norm.training = True
    try:
        yield
    finally:
        for norm, training, mean, variance in kept:
            norm.training = training
            norm._mean.set_value(mean)
            norm._variance.set_value(variance)


def as_training_sees_it(norms: List[nn.Layer], layers: List[Tuple[str, nn.Layer]], run):
    """A context for calibration: with the batches' statistics where the running ones would give
    other ranges, else as it is. Says so.

    Args:
        norms(list[Layer]): batch norms that training lets use a batch's statistics.
        layers(list): name and layer of those whose inputs are quantized.
        run(callable): runs the model on the first batch.
    """
    if not norms:
        return contextlib.nullcontext()
    running, count = _input_sizes(layers, run)
    with batch_statistics(norms):
        batch, _ = _input_sizes(layers, run)
    found = _largest(running, batch)
    if found is None:
        return contextlib.nullcontext()
    name, ratio = found
    size = (f"the input of layer '{name}' is {ratio:.3g} times as large with a batch's statistics "
            "as with the running ones of its batch norms")
    if count < ENOUGH:
        get_logger().warning("%s, and training may clip it: give quant_aware_prepare batches of at "
                             "least %d samples, or train the float model until they agree",
                             size, ENOUGH)
        return contextlib.nullcontext()
    get_logger().info("%s: ranges are calibrated with a batch's statistics, as training sees "
                      "them; evaluation follows when the running ones do", size)
    return batch_statistics(norms)


def trained_norms(model) -> List[nn.Layer]:
    """Batch norms that use a batch's statistics in training."""
    return [layer for layer in model.sublayers(include_self=True) if isinstance(layer, NORMS)
            and not getattr(layer, "_use_global_stats", None)]


def _input_sizes(layers, run) -> Tuple[Dict[str, float], int]:
    """Root mean square of each layer's input, and how many samples a batch has."""
    sizes: Dict[str, float] = {}
    counts, hooks = [1], []

    def note(name):
        def hook(layer, inputs):
            sizes.setdefault(name, float(inputs[0].cast("float32").square().mean().sqrt()))
            counts.append(inputs[0].shape[0] if inputs[0].ndim else 1)
        return hook
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers]
    try:
        with paddle.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return sizes, max(counts)


def _largest(running: Dict[str, float], batch: Dict[str, float]) -> Optional[Tuple[str, float]]:
    """The layer with the largest factor between the two, if that is more than ``FACTOR``."""
    ratios = {name: batch[name] / size for name, size in running.items()
              if size > 0.0 and batch.get(name, 0.0) > 0.0}
    if not ratios:
        return None
    name = max(ratios, key=lambda n: max(ratios[n], 1.0 / ratios[n]))
    return (name, ratios[name]) if max(ratios[name], 1.0 / ratios[name]) > FACTOR else None
