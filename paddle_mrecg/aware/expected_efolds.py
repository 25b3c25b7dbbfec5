# SPDX-License-Identifier: Apache-2.0
"""What bin regularization will do to the weights of a float program, said before a training; the
law is that of ``efolds.py``. The training itself says it again in its log, with the steps that its
quanters have by then.
"""
from typing import Callable, Dict, List, NamedTuple

import numpy as np
import paddle

from ..config.aware import BinRegularization, TrainingConfig, resolved
from ..config.layer_bits import layer_bits
from ..errors import ConfigError
from ..graph.ends import first_and_last
from ..graph.graph import WEIGHT_SLOTS, Graph, Op, channel_axis, weight_name
from ..graph.load import load_graph
from ..grids.affine import QuantSpec
from ..grids.samples import Samples, initial_step
from .efolds import RatePlan, predictable, rate_plan, weak_pull


class LayerPull(NamedTuple):
    """A weight and the e-folds of its distance to its levels."""

    name: str
    weights: int
    bins: int
    efolds: float


def layer_pulls(graph: Graph, op_types, codes: Callable[[Op, np.ndarray], np.ndarray],
                plan: RatePlan, bins: BinRegularization) -> List[LayerPull]:
    """Predicted e-folds of every weight.

    Args:
        graph(Graph): the float program.
        op_types(Collection[str]): types of the ops whose weights are quantized.
        codes(callable): an op and its weight -> the code of every weight at the start.
        plan(RatePlan): of the training.
        bins(BinRegularization): the term's settings.
    """
    found: Dict[str, LayerPull] = {}
    for op in graph.ops:
        name = weight_name(op, graph) if op.type in op_types else None
        if name is not None:
            weight = np.asarray(graph.params[name])
            occupied = len(np.unique(codes(op, weight)))
            size = weight.size / occupied
            lambda_ = (bins.lambda_ if bins.efolds is None
                       else plan.lambda_for(bins.efolds, size))
            found[name] = LayerPull(name, weight.size, occupied,
                                    plan.efolds(lambda_, size, plan.steps))
    return list(found.values())


def pull_lines(pulls: List[LayerPull], cure: str) -> List[str]:
    """A line for every layer, and a warning with its ``cure`` where the pull hardly acts."""
    lines = [f"{pull.efolds:.2g} e-folds in {pull.name} ({pull.weights} weights in {pull.bins} "
             "bins)" for pull in pulls]
    weak = weak_pull(pull.efolds for pull in pulls)
    if weak:
        lines.append(f"warning: {weak}: {cure}")
    return lines


def program_pull_lines(config: TrainingConfig, model_dir: str, optimizer, steps: int) -> List[str]:
    """The same for the user's own training of the network that a float program was exported from.

    Args:
        config(TrainingConfig): with BinRegularization.
        model_dir(str): the program; its weights are rounded as the quanters start.
        optimizer(paddle.optimizer.Optimizer): SGD or Momentum.
        steps(int): optimizer steps of the whole training.

    Raises:
        ConfigError: no BinRegularization, schedule S3 or a start counted in epochs, no steps, or
            an optimizer that cannot be planned for.
        ModelError: the program cannot be read.
    """
    bins, settings = config.bin_regularization, resolved(config.quant_aware)
    if bins is None:
        raise ConfigError("e-folds are those of bin regularization: add the section "
                          "BinRegularization, or leave the model out")
    if not predictable(bins):
        raise ConfigError("e-folds can be predicted for BinRegularization.schedule S1, and for S2 "
                          "with a start below 1")
    plan, graph = rate_plan(bins, optimizer, steps), load_graph(model_dir)
    first, last = first_and_last(graph.ops, lambda op: weight_name(op, graph) is not None)

    def codes(op, weight):
        bits = layer_bits([weight_name(op, graph)], settings, op in first, op in last)[0]
        axis = channel_axis(op) if settings.weight_per_channel else None
        spec = QuantSpec(bits, signed=True, symmetric=True, axis=axis)
        samples = Samples(axis, whole=True)
        samples.add(paddle.to_tensor(weight))
        step = initial_step(samples, spec, settings.weight_init)
        return np.clip(np.rint(samples.rows() / step[:, None]), spec.qmin, spec.qmax)
    return pull_lines(layer_pulls(graph, WEIGHT_SLOTS, codes, plan, bins),
                      "set BinRegularization.efolds: 2, or train longer")
