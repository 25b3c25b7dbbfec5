# SPDX-License-Identifier: Apache-2.0
"""Job 1, post-training: from a float inference model to a verified low-bit program."""
import contextlib
import dataclasses
import math
import os
from typing import Callable, Dict, List, Optional

from ..compat import interruptible, seed_everything, tune_cpu
from ..config import LOSS_POLICIES, MRECG, Config
from ..config.io import load_config
from ..data.evaluation import make_evaluator
from ..data.hooks import refuse_foreign_hooks
from ..errors import numbered
from .checkpoint import Checkpoint, job_parts, relevant_settings
from .examine import examined
from .expected_time import ExpectedTime, tell_time
from .fisher import importance
from .memory import return_freed_memory
from .prepare import Prepared, prepare
from .reconstruct import annealed_beta
from .solved_rounding import LayerRounding, rounded_layers
from .unit_state import UnitKeeper
from .walk import UnitResult, Walker
from ..graph.partition import Plan, Unit
from .write import score_float, unit_report, write_outcome
from ..report.advice import taken_back_note, untrained_note
from ..report.progress import Progress, get_logger, unit_line
from ..report.report import Report
from ..report.result_dir import PROGRAM, ResultDir
from ..report.vdl import VisualDLWriter
from ..config.dialect.post import accept_ptq_config
from ..strategies.mrecg import make_plan

BOARD_POINTS = 50  # points per curve and unit in VisualDL


@dataclasses.dataclass
class Result:
    """Where the low-bit program is, and what was done.

    Attributes:
        save_dir(str): holds ``model.pdmodel``, ``model.pdiparams``, ``report.json`` and the rest.
        report(Report): the content of ``report.json``.
        plan(Plan): the units.
        interrupted(bool): True when Ctrl-C ended the reconstruction; units after
            it are rounded to nearest.
    """

    save_dir: str
    report: Report
    plan: Plan
    interrupted: bool = False

    @property
    def prefix(self) -> str:
        """What ``paddle.inference.Config`` and ``load_graph`` take, without suffix."""
        return os.path.join(self.save_dir, PROGRAM)


def quant_post_mrecg(model=None, data_loader=None, config=None, save_dir: str = None,
                     evaluator: Callable = None) -> Result:
    """Quantize a float inference model by MRECG reconstruction.

    Args:
        model(str|tuple, optional): directory or file prefix of an exported
            model, or ``(layer, input_spec)``. Default: ``Global.model_dir``.
        data_loader(iterable, optional): batches of calibration inputs: arrays,
            tensors, lists or dicts of them, ``paddle.io.DataLoader`` included.
            Default: what the ``Data`` section describes.
        config(str|dict|Config, optional): YAML file, dict of sections,
            dataclass, or a flat config dict of PaddleSlim
            (``{"weight_bits": 4, "algo": "KL"}``). Default: all defaults.
        save_dir(str, optional): overrides ``Global.save_dir``.
        evaluator(callable, optional): ``evaluator(predict) -> {metric: value}``,
            ``predict`` mapping a batch to the list of outputs; run on the float, the
            nearest-rounded and the reconstructed program. Default: that of ``Evaluation``.

    Returns:
        Result: directory, report and plan.

    Raises:
        ConfigError, ModelError, DataError, OutputError: with one sentence
            that names the cure; nothing is left half-written.
    """
    path, config = config, load_config(accept_ptq_config(config))
    if isinstance(path, (str, os.PathLike)):
        refuse_foreign_hooks(config, path)
    if save_dir:
        config.global_.save_dir = save_dir
    if isinstance(model, (str, os.PathLike)):
        config.global_.model_dir = os.fspath(model)  # resolved_config.yaml and the report name it
    return run_post(model, data_loader, config, evaluator)


def run_post(model, data_loader, config: Config, evaluator: Callable = None,
             say_time: Callable[[ExpectedTime], None] = tell_time) -> Result:
    """The job of complete settings: all of ``quant_post_mrecg``, and each try of a search, which
    leaves unsaid what it will take (``say_time``).
    """
    tuned = tune_cpu(bool(config.global_.tune_cpu))
    seed_everything(config.global_.seed)
    evaluator = evaluator or make_evaluator(config.evaluation, config.global_.seed)
    inputs = [config.global_.model_dir] if config.global_.model_dir else []
    with ResultDir(config.global_.save_dir, config.global_.resume, inputs,
                   config.global_.overwrite) as result_dir:
        job = Job(prepare(model, data_loader, config, result_dir.shown, say_time), result_dir)
        with contextlib.closing(job.prepared.network.store), contextlib.closing(job.board):
            scores = score_float(job, result_dir, evaluator)
            job.reconstruct()
            report = write_outcome(job, result_dir, evaluator, tuned, scores)
        result_dir.publish(keep_checkpoints=job.interrupted)
    return Result(config.global_.save_dir, report, job.plan, job.interrupted)


def plan_post(model=None, data_loader=None, config=None) -> Plan:
    """The partition without reconstruction; loss policies use the losses of
    nearest rounding, in seconds. What would stop a run stops this too.
    """
    config = load_config(accept_ptq_config(config))
    with examined(config, model, data_loader) as prepared:
        losses = powers = None
        if config.mrecg.granularity in LOSS_POLICIES:
            walker = Walker(prepared.network, prepared.state)
            units = [Unit.single(m) for m in prepared.modules]
            for k, unit in enumerate(units):
                walker.step(unit, units[k + 1:], config.mrecg, iters=0)
            losses, powers = _loss_table(walker.results)
        return _plan(prepared, config.mrecg, losses, powers)


def _plan(prepared: Prepared, settings: MRECG, losses, powers) -> Plan:
    bits = {n: s.bits for n, s in prepared.network.scheme.weights.items()}
    return make_plan(prepared.graph, prepared.modules, settings, bits, losses, powers)


def _loss_table(results: List[UnitResult]):
    return [r.hard.error for r in results], [r.hard.power for r in results]


class Job:
    """One run: its parts in order, and what each found."""

    def __init__(self, prepared: Prepared, result_dir: ResultDir):
        self.prepared, self.result_dir = prepared, result_dir
        self.config, self.mrecg = prepared.config, prepared.config.mrecg
        self.solved_error = math.inf  # of the network's outputs before training; not measured
        self.output_error: Optional[float] = None  # of what the job ends with; None: interrupted
        self.notes: List[str] = []
        self.checkpoint = Checkpoint(result_dir.checkpoints,
                                     job_parts(relevant_settings(self.config), prepared.graph,
                                               prepared.network.samples))
        changed = self.checkpoint.discard_others()
        if changed:
            get_logger().warning("finished units of the interrupted run were deleted, for these "
                                 "have changed: %s", ", ".join(changed))
        self.board = VisualDLWriter(result_dir.path("visualdl"), self.config.global_.visualdl)
        self.start = self.state = prepared.state  # in front of any reconstruction
        self.layers: List[LayerRounding] = []
        self._stored = set()
        self.first_pass: List[UnitResult] = []
        self.results: List[UnitResult] = []
        self.curves: Dict[int, List] = {}  # unit -> (step, loss) at some of its steps
        self.plan: Optional[Plan] = None
        self.interrupted = False

    def reconstruct(self):
        """Plan, then walk; Ctrl-C keeps what is finished."""
        try:
            with interruptible():
                self._plan_and_walk()
        except KeyboardInterrupt:
            self.interrupted = True
            if self.plan is None:
                raise
            done = len(self.results), len(self.plan.units)
            get_logger().warning("interrupted: %d of %d units done, the others are as rounded; "
                                 "Global.resume=true goes on", *done)
        self.prepared.clock.lap("reconstruct")

    def _plan_and_walk(self):
        self._solve()
        losses = powers = None
        if self.mrecg.granularity in LOSS_POLICIES:
            losses, powers = self._measure_modules()
            self.prepared.clock.lap("first pass")
        plan = self.plan = _plan(self.prepared, self.mrecg, losses, powers)
        sizes = numbered(len(plan.modules), "module"), numbered(len(plan.units), "unit")
        get_logger().info("plan (%s): %s in %s\n%s", plan.policy, *sizes, plan.table())
        if self.mrecg.loss == "fisher" and self.mrecg.num_iters:
            outputs = sorted({n for u in self.plan.units for n in u.outputs})
            self.prepared.network.importance = importance(self.prepared.network, outputs)
        self._walk_units()

    def _solve(self):
        """Solve the roundings and correct the biases, as far as the settings ask for it."""
        settings = self.config.quant_post
        if settings.rounding == "solve" or settings.bias_correction:
            walk = rounded_layers(self.prepared, settings.rounding)
            self.start = self.state = walk.state
            self.layers = walk.layers
            self.solved_error = walk.output_error
            self._judge(walk.output_error)
            self.prepared.clock.lap("solve")

    def _judge(self, error: float):
        """Leave training out where the solve has left it little to gain."""
        settings = self.mrecg
        if settings.num_iters and error <= settings.train_network_above:
            plain = "block" if settings.granularity in LOSS_POLICIES else settings.granularity
            self.mrecg = dataclasses.replace(settings, granularity=plain, num_iters=0)
            self.notes = untrained_note(error, settings.train_network_above)
            get_logger().info(self.notes[0])

    def _measure_modules(self):
        """First pass of the data-dependent policies: a short reconstruction of each module."""
        settings = self.mrecg
        iters = int(round(settings.num_iters * settings.first_pass_ratio))
        walker = Walker(self.prepared.network, self.start, self.prepared.layers)
        units = [Unit.single(m) for m in self.prepared.modules]
        with Progress("First pass", len(units), "module") as bar:
            for k, unit in enumerate(units):
                bar.text(unit.name)
                self._step(walker, f"first_{k}", unit, units[k + 1:], iters)
                bar.update()
        self._stored.clear()  # the second pass starts again where the first did
        self.first_pass = walker.results
        return _loss_table(walker.results)

    def _walk_units(self):
        settings, units = self.mrecg, self.plan.units
        network = self.prepared.network if settings.num_iters else self.prepared.network.few()
        walker = Walker(network, self.start, self.prepared.layers)
        # The first pass is part of num_iters: every policy costs the same number of steps.
        left = 1.0 - (settings.first_pass_ratio if self.first_pass else 0.0)
        budget = [self._iters(unit, left) for unit in units]
        warm = ({n: a for r in self.first_pass for n, a in r.alphas.items()} if settings.warm_start
                else {})
        with Progress("Reconstruction", sum(budget), "iter") as bar:
            for k, unit in enumerate(units):
                bar.text(unit.name)
                result = self._step(walker, f"{k}", unit, units[k + 1:], budget[k], warm,
                                    self._watch(k, budget[k], bar))
                bar.update(budget[k] - (0 if result.restored else result.iterations))
                self.results.append(result)
                self.state = walker.state
                report = unit_report(k, result, self.prepared.graph.params)
                self.board.unit(report)
                get_logger().info(unit_line(report, len(units)))
        solved = not settings.num_iters and math.isfinite(self.solved_error)
        self.output_error = self.solved_error if solved else walker.output_error
        if any(r.iterations for r in self.results) and walker.output_error > self.solved_error:
            # units came closer to theirs, and the network did not
            self.state, self.output_error = self.start, self.solved_error
            self.notes += taken_back_note(self.solved_error, walker.output_error)
            get_logger().info(self.notes[-1])

    def _step(self, walker: Walker, key: str, unit: Unit, later, iters: int, warm=None,
              watch=None) -> UnitResult:
        """The stored result of an interrupted run, or a new one."""
        stored = self.checkpoint.load(key, walker.state)
        if stored:
            state, summary, alphas = stored
            self._stored.update(state.finished)
            return walker.replay(later, state, UnitResult.from_dict(unit, summary, alphas))
        curve = self.curves.setdefault(int(key), []) if key.isdigit() else []
        keeper = UnitKeeper(self.checkpoint, key, iters, curve)
        result = walker.step(unit, later, self.mrecg, iters, warm, watch, keeper)
        names = [n for n in walker.state.finished if n not in self._stored]
        self._stored.update(names)
        self.checkpoint.save(key, walker.state, sorted(names), result.to_dict(), result.alphas)
        keeper.done()
        return_freed_memory()
        return result

    def _iters(self, unit: Unit, share: float) -> int:
        """Optimizer steps of a unit that spends ``share`` of num_iters."""
        per_module = int(round(self.mrecg.num_iters * share))
        return per_module * (len(unit.modules) if self.mrecg.iters_scaling == "per_module" else 1)

    def _watch(self, index: int, iters: int, bar: Progress) -> Callable:
        """Called after every step: moves the bar and, now and then, feeds VisualDL."""
        every = max(1, iters // BOARD_POINTS)

        def on_step(trainer, step, loss):
            bar.update()
            shown = step % every == 0 or step == iters - 1
            if shown:
                self.curves.setdefault(index, []).append([step, float(loss)])
            if not self.config.global_.visualdl:
                return
            if shown:
                self.board.step(index, step, float(loss),
                                beta=annealed_beta(step, iters, trainer.settings),
                                settled=trainer.settled())
            if step == iters - 1:
                for name, h in trainer.h().items():
                    self.board.histogram(f"soft_rounding/{name}", h, index)
        return on_step
