# SPDX-License-Identifier: Apache-2.0
"""Walk through the network unit by unit with both streams; cost is linear in depth."""
import dataclasses
import time
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from ..config import MRECG
from ..data.amount import enough_samples
from ..graph.graph import Graph, Op
from ..graph.partition import Module, Unit
from .best_iterate import BestIterate, judging_rows
from .network_state import NetworkState
from .reconstruct import UnitTrainer
from .unit_loss import (MEASURE_CHUNK, Loss, UnitProblem, end_error, measure, quantized_values,
                        total)
from .scheme import Scheme
from .solved_rounding import solved_again
from .streams import ActivationStore, Stream
from .unit_runner import UnitRunner

LOSS_SAMPLES, LEAST_LOSS_SAMPLES = 16, 4  # for losses of units that are not trained


@dataclasses.dataclass
class Network:
    """Everything about the job that does not change while walking.

    ``reached`` are the ops that dygraph can run, in order; ``importance`` is
    set when the loss is ``fisher``; ``biases`` maps weights to the parameters that
    are corrected and trained with them. ``one_by_one`` says that the program takes one sample at a
    time; ``reached`` take several all the same.
    """

    graph: Graph
    scheme: Scheme
    reached: List[Op]
    constants: Dict[str, np.ndarray]
    samples: Dict[str, np.ndarray]
    store: ActivationStore
    seed: int = 0
    importance: Optional[Dict[str, np.ndarray]] = None
    biases: Dict[str, str] = dataclasses.field(default_factory=dict)
    one_by_one: bool = False

    def first(self, count: int) -> "Network":
        """The same with the first so many of its samples."""
        return dataclasses.replace(self, samples={n: v[:count] for n, v in self.samples.items()})

    def few(self) -> "Network":
        """The same with what losses of units need that nothing trains."""
        return self.first(enough_samples(LOSS_SAMPLES, self.samples, LEAST_LOSS_SAMPLES))


@dataclasses.dataclass
class UnitResult:
    """What happened to one unit; losses are sums over the unit's outputs."""

    unit: Unit
    iterations: int
    seconds: float
    start: Loss  # before training
    soft: Loss
    hard: Loss
    inner: List[tuple]  # (module, start Loss, hard Loss) at the inner block ends of a joined unit
    alphas: Dict[str, np.ndarray]
    kept: bool  # False when the start was better and stayed
    best: int = 0  # the step whose iterate was kept; 0 is the start
    restored: bool = False  # from an interrupted run
    skipped: bool = False  # its error was small enough without training

    def to_dict(self) -> Dict:
        """The numbers, JSON-able; the reverse is ``from_dict``."""
        pack = dataclasses.astuple
        return dict(iterations=self.iterations, seconds=self.seconds, kept=self.kept,
                    best=self.best, skipped=self.skipped,
                    start=pack(self.start), soft=pack(self.soft), hard=pack(self.hard),
                    inner=[(m.index, pack(a), pack(b)) for m, a, b in self.inner])

    @classmethod
    def from_dict(cls, unit: Unit, entry: Dict, alphas) -> "UnitResult":
        modules = {m.index: m for m in unit.modules}
        inner = [(modules[m], Loss(*a), Loss(*b)) for m, a, b in entry["inner"]]
        return cls(unit, entry["iterations"], entry["seconds"], Loss(*entry["start"]),
                   Loss(*entry["soft"]),
                   Loss(*entry["hard"]), inner, alphas, entry["kept"],
                   entry["best"], restored=True, skipped=entry["skipped"])


class Walker:
    """Both streams, standing before the next unit.

    Args:
        network(Network): graph, scheme and samples.
        state(NetworkState): grids, codes and scales to start from.
        layers(list[Module], optional): the network cut into single layers, where roundings were
            solved or biases corrected: behind a trained unit this is done again. Default: none.

    Attributes:
        output_error(float): squared error of what leaves the last units over its power of
            variation, on the samples; of several outputs the largest.
    """

    def __init__(self, network: Network, state: NetworkState, layers: Sequence[Module] = ()):
        self.network, self.state, self.layers = network, state, layers
        self.output_error = 0.0
        self._moved = False  # whether training changed what the units to come were solved for
        self.float_stream = Stream(network.store, network.samples)
        self.quant_stream = Stream(network.store, network.samples)
        self.results: List[UnitResult] = []

    def step(self, unit: Unit, later: List[Unit], settings: MRECG, iters: int, alphas=None,
             on_step: Callable = None, keeper=None) -> UnitResult:
        """Reconstruct ``unit`` and advance both streams through it.

        Args:
            unit(Unit): the next unit.
            later(list[Unit]): the units after it; they say what stays alive.
            settings(MRECG): the section of the config.
            iters(int): optimizer steps; 0 leaves the unit as it is.
            alphas(dict, optional): rounding variables to start from. Default: None.
            on_step(callable, optional): called with (trainer, step, loss). Default: None.
            keeper(UnitKeeper, optional): saves the training now and then. Default: None.
        """
        begin = time.perf_counter()
        problem, inner = self._problem(unit, settings)
        before, outputs = self._start(problem, unit)
        if self.state.finished.issuperset(problem.runner.weights):
            # nothing is left to round: its weights, if any, were trained where they are read first
            iters = 0
        skipped = iters > 0 and total(before, unit.outputs).relative <= settings.train_above
        iters = 0 if skipped else iters
        after, trained, kept = before, {}, True
        state = self._finished(problem.runner)
        if iters:
            trainer = self._trainer(problem, unit, settings, alphas)
            best, iters = self._best(trainer, unit, iters, on_step, keeper)
            del trainer
            kept = best.committed is not None
            if kept:
                hard, trained_outputs = measure(problem, best.committed)
                kept = total(hard, unit.outputs).error < total(before, unit.outputs).error
            if kept:  # a rejected unit hands nothing on
                state, outputs, trained = best.committed, trained_outputs, best.snapshot["alphas"]
                after = hard
        result = UnitResult(
            unit, iters, 0.0, total(before, unit.outputs), total(after, unit.outputs),
            total(after, unit.outputs),
            [(m, total(before, names), total(after, names)) for m, names in inner], trained, kept,
            skipped=skipped)
        if iters and kept:
            result.best, result.soft = best.step, best.soft(result.hard)
        self._moved |= iters > 0 and kept
        self.state = state
        self._advance(problem, outputs, later)
        result.seconds = time.perf_counter() - begin
        self.results.append(result)
        return result

    def _start(self, problem: UnitProblem, unit: Unit):
        """Losses and outputs of the unit before training, its layers solved again where that helps.
        """
        before, outputs = measure(problem, self.state)
        again = solved_again(self, self.layers, unit) if self._moved and self.layers else None
        if again is not None:
            better, changed = measure(problem, again)
            if total(better, unit.outputs).error < total(before, unit.outputs).error:
                self.state, before, outputs = again, better, changed
        return before, outputs

    def _trainer(self, problem: UnitProblem, unit: Unit, settings: MRECG, alphas) -> UnitTrainer:
        trainer = UnitTrainer(problem, self.state, settings, self.network.graph.params,
                              self._seed(unit))
        trainer.warm_start(alphas or {})
        return trainer

    def _best(self, trainer: UnitTrainer, unit: Unit, iters: int, on_step, keeper):
        """The best iterate of a training, which is over, and the steps that it took."""
        problem = trainer.problem
        rows = judging_rows(problem.quant_stream.num_samples,
                            np.random.default_rng(self._seed(unit)))
        best = BestIterate(problem, rows, self.state)
        taken = trainer.train(iters, on_step, best, keeper)
        best.finish(trainer)
        return best, taken

    def _seed(self, unit: Unit) -> int:
        return self.network.seed * 100003 + unit.start

    def replay(self, later: List[Unit], state: NetworkState, result: UnitResult) -> UnitResult:
        """Advance through a unit that is finished in ``state`` without training it."""
        problem, _ = self._problem(result.unit, MRECG(), inner=False)
        self.state = state
        self._moved |= result.iterations > 0 and result.kept
        self._advance(problem, quantized_values(problem, state, problem.outputs), later)
        self.results.append(result)
        return result

    def _advance(self, problem: UnitProblem, outputs: Dict[str, np.ndarray], later: List[Unit]):
        """Move both streams behind the unit."""
        needed = {name for unit in later for name in unit.inputs}
        self.output_error = max(self.output_error, end_error(outputs, problem.targets, needed))
        self.float_stream.advance({n: problem.targets[n] for n in problem.outputs}, needed)
        self.quant_stream.advance(outputs, needed)

    def _problem(self, unit: Unit, settings: MRECG, inner: bool = True):
        network = self.network
        runner = UnitRunner(network.graph, network.graph.ops[unit.start:unit.stop], network.scheme,
                            network.constants)
        inner_ends = [(m, list(m.outputs)) for m in unit.modules[:-1]] if inner else []
        fetch = list(dict.fromkeys(list(unit.outputs)
                                   + [n for _, names in inner_ends for n in names]))
        targets = self.float_stream.computed(unit.inputs, fetch, runner.numpy(runner.run, fetch),
                                             MEASURE_CHUNK)
        inner_targets = {n: targets.pop(n) for n in fetch if n not in unit.outputs}
        importance = network.importance if settings.loss == "fisher" else None
        biases = [network.biases[n] for n in runner.weights if n in network.biases]
        return UnitProblem(runner, list(unit.inputs), list(unit.outputs), self.float_stream,
                           self.quant_stream, targets, inner_targets, importance,
                           biases), inner_ends

    def _finished(self, runner: UnitRunner) -> NetworkState:
        state = self.state.copy()
        state.finished.update(runner.weights, runner.activations,
                              [n for n in runner.fixed if n in self.network.biases.values()])
        return state
