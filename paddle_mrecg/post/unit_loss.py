# SPDX-License-Identifier: Apache-2.0
"""What a unit has to reproduce, and how far from it the quantized unit is."""
import dataclasses
import math
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np
import paddle

from .network_state import NetworkState
from .streams import PickedRows, Stream
from .sums import Powers
from .unit_runner import UnitRunner

# samples per forward pass without gradients: kernels gain nothing from more, and the values of a
# pass over large images would set the peak of a job's memory
MEASURE_CHUNK = 8


@dataclasses.dataclass
class Loss:
    """A reconstruction loss and the float output's power in the same norm."""

    error: float
    power: float

    @property
    def relative(self) -> float:
        return self.error / self.power if self.power > 0 else 0.0


@dataclasses.dataclass
class UnitProblem:
    """What one unit is asked to reproduce.

    ``targets`` are the float network's values of ``outputs`` for all samples,
    ``inner_targets`` those at the inner block ends of a joined unit;
    ``importance`` (shapes of ``targets``, mean 1) weighs squared errors when
    the loss is ``fisher``, else None; ``biases`` are the parameters that are
    trained with the weights.
    """

    runner: UnitRunner
    inputs: List[str]
    outputs: List[str]
    float_stream: Stream
    quant_stream: Stream
    targets: Dict[str, np.ndarray]
    inner_targets: Dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    importance: Optional[Dict[str, np.ndarray]] = None
    biases: List[str] = dataclasses.field(default_factory=list)

    def part(self, rows: np.ndarray) -> "UnitProblem":
        """The same for some samples, to measure on: quantized inputs and targets only, which stay
        where they are.
        """
        def picked(arrays):
            return {n: PickedRows(arrays[n], rows) for n in arrays}

        inputs = picked({n: self.quant_stream.values[n] for n in self.inputs})
        return dataclasses.replace(self, float_stream=None,
                                   quant_stream=Stream(self.quant_stream.store, inputs),
                                   targets=picked(self.targets), inner_targets={}, importance=None)

    def arrays(self, inner: Iterable[str], mixes: bool) -> Dict[Tuple[str, str], np.ndarray]:
        """What a training step reads of its samples, by kind and tensor.

        Args:
            inner(iterable[str]): the inner targets that count.
            mixes(bool): the float stream's inputs are read too (QDrop).
        """
        found = {("quant", n): self.quant_stream.values[n] for n in self.inputs}
        if mixes:
            found.update({("float", n): self.float_stream.values[n] for n in self.inputs})
        found.update({("target", n): self.targets[n] for n in self.outputs})
        found.update({("target", n): self.inner_targets[n] for n in inner})
        found.update({("importance", n): self.importance[n] for n in self.outputs
                      if self.importance})
        return found


def total(losses: Dict[str, Loss], names) -> Loss:
    """The sum over ``names``."""
    return Loss(sum(losses[n].error for n in names), sum(losses[n].power for n in names))


def squared_error(output: paddle.Tensor, target: paddle.Tensor, importance=None) -> paddle.Tensor:
    """||y - y_fp||^2 summed over channels, mean over samples and space
    (BRECQ eq. 10; MRECG.py line 66).

    Written as one dot product: several times faster on a CPU than square, sum
    and mean, forward and backward.
    """
    difference = (output - target).flatten()
    weighted = difference if importance is None else difference * importance.flatten()
    return paddle.dot(difference, weighted) * (1.0 / _position_count(target.shape))


def end_error(values: Dict[str, np.ndarray], targets: Dict[str, np.ndarray],
              read: Iterable[str]) -> float:
    """The largest ``relative_error`` of the tensors in ``values`` that no later op reads (``read``
    names those that one does); 0 where all are read.
    """
    ends = set(values).difference(read)
    return max((relative_error(values[n], targets[n]) for n in ends), default=0.0)


def relative_error(values: np.ndarray, targets: np.ndarray) -> float:
    """Squared difference over the targets' power of variation, chunk by chunk."""
    change, exact = Powers(), Powers()
    for start in range(0, len(targets), MEASURE_CHUNK):
        part = slice(start, start + MEASURE_CHUNK)
        change.add(values[part] - targets[part])
        exact.add(targets[part])
    return change.squares / max(exact.variation(), np.finfo(np.float64).tiny)


def _position_count(shape) -> int:
    """Samples x spatial positions; the channel axis is 1 for images, the last one otherwise."""
    channel = 1 if len(shape) == 4 else len(shape) - 1
    return int(np.prod(shape)) // int(shape[channel]) if len(shape) > 1 else int(shape[0])


def measure(problem: UnitProblem, state: NetworkState, weights=None):
    """Losses of outputs and inner targets over all samples, and the quantized outputs.

    Args:
        problem(UnitProblem): inputs and targets.
        state(NetworkState): grids, codes and scales to run with.
        weights(dict, optional): weights to use instead of the state's. Default: None.

    Returns:
        tuple: ``{tensor: Loss}`` and ``{output: array}``.
    """
    targets = {**problem.targets, **problem.inner_targets}
    values = quantized_values(problem, state, list(targets), weights)
    losses = {n: array_loss(values[n], targets[n]) for n in targets}
    return losses, {n: values[n] for n in problem.outputs}


def quantized_values(problem: UnitProblem, state: NetworkState, fetch: List[str],
                     weights=None) -> Dict[str, np.ndarray]:
    """Tensors of the quantized unit over all samples, nothing dropped; ``measure``'s arguments."""
    runner = problem.runner
    run = runner.numpy(runner.run_quantized, fetch,
                       weights=weights or state.parameters(runner),
                       quantizers=state.quantizers(runner.activations))
    return problem.quant_stream.computed(problem.inputs, fetch, run, MEASURE_CHUNK)


def array_loss(values: np.ndarray, targets: np.ndarray) -> Loss:
    """``squared_error`` over whole arrays, in chunks and float64."""
    error = power = 0.0
    for start in range(0, len(values), MEASURE_CHUNK):
        part = slice(start, start + MEASURE_CHUNK)
        target = np.asarray(targets[part], np.float32).ravel()
        difference = np.asarray(values[part], np.float32).ravel() - target
        error += float(np.dot(difference, difference))
        power += float(np.dot(target, target))
    positions = _position_count(targets.shape)
    if not (math.isfinite(error) and math.isfinite(power)):
        return Loss(math.inf, max(power, 0.0) / positions if math.isfinite(power) else math.inf)
    return Loss(error / positions, power / positions)
