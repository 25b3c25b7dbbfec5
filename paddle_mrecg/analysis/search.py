# SPDX-License-Identifier: Apache-2.0
"""``auto``: the cheapest setting that loses at most so much, or the best one of a size.

In this order, and only as far as it is needed: the settings as they are; equalized channels;
activation ranges by the error of outputs; 8 bits for the smallest layers, which hold few weights;
then for the fewest of the layers that hurt most, and float where 8 bits for all are not enough
(``refine``: bisected along the errors of ``analyze``); a short reconstruction, where all that was
not enough.
"""
import copy
import dataclasses
import os
from typing import Any, Callable, Dict, List, Optional

from ..compat import seed_everything, tune_cpu
from ..config import MRECG, Config, Global
from ..config.dialect.post import accept_ptq_config
from ..config.io import config_to_dict, load_config, save_config
from ..config.shared_rules import FLOAT_BITS
from ..data.evaluation import make_evaluator
from ..data.hooks import refuse_foreign_hooks
from ..errors import ConfigError, numbered
from ..files import refuse_output
from ..graph.fold import fold
from ..graph.graph import Graph
from ..post.prepare import read_model
from ..post.scheme import build_scheme
from ..report.page.html import write_page
from ..report.progress import Progress, get_logger, rough_duration
from ..report.result_dir import ResultDir
from . import BITS, TRIES
from .allocate import allocate, average_bits, error_curves
from .goal import AutoResult, Goal
from .isolated import isolated_rounding
from .job import evaluator_of, prepare_to_measure
from .measure import Bench, given_bits, own_bits, quantizable_elements
from .page import auto_page
from .refine import FLOAT, REFINED, given, refining_order
from .sensitivity import LayerEffect, Sensitivity
from .tries import Try, TryLog, identity_of

Settings = Dict[str, Dict[str, Any]]
SMALL = 0.03  # of all weights: 8 bits for these grow the model by as little


def auto(model=None, data_loader=None, config=None, save_dir: str = None,
         evaluator: Callable = None, goal: Goal = None, tries: int = TRIES,
         metric: str = None) -> AutoResult:
    """Find the cheapest setting that loses at most ``goal.max_drop``, and quantize with it.

    Args:
        model(str|tuple, optional): as in ``quant_post_mrecg``.
        data_loader(iterable, optional): batches of inputs. Default: the ``Data`` section.
        config(str|dict|Config, optional): where the search begins: the bits that one would like
            to have. Default: all defaults.
        save_dir(str, optional): overrides ``Global.save_dir``; the log of the search lies in
            ``<save_dir>.auto``, and the next run with the same model, data and config goes on.
        evaluator(callable, optional): ``evaluator(predict) -> {metric: value}``, higher is
            better. Default: what ``Evaluation`` describes, else the error of the outputs.
        goal(Goal, optional): either of ``bits`` and ``size``, ``max_drop`` with or without it.
            Default: to lose at most 1.
        tries(int, optional): settings to try at most, each with one evaluation. Default: 16.
        metric(str, optional): which value of the evaluator counts. Default: the first.

    Returns:
        AutoResult: with ``reached`` False and the best that was found when the goal cannot be
        reached.

    Raises:
        ConfigError, ModelError, DataError, OutputError: with one sentence that names the cure.
    """
    path, config = config, load_config(accept_ptq_config(config))
    if isinstance(path, (str, os.PathLike)):
        refuse_foreign_hooks(config, path)
    goal = dataclasses.replace(goal or Goal(max_drop=1.0))
    goal.check()
    config.mrecg = MRECG(preset="none")  # the search decides whether to train
    if tries < 1:
        raise ConfigError(f"{tries} tries: give at least 1")
    config.global_.save_dir = save_dir or config.global_.save_dir
    _refuse_places(config.global_)
    tune_cpu(bool(config.global_.tune_cpu))
    seed_everything(config.global_.seed)
    evaluator = evaluator or (
        evaluator_of(config) if metric else make_evaluator(config.evaluation, config.global_.seed))
    graph = read_model(model, config)
    _check_reachable(goal, fold(graph), config)
    bench = Bench(graph, data_loader, config, evaluator, metric)
    if goal.size is not None:
        goal.bits = 8.0 * goal.size / sum(bench.elements().values())
    folder = _log_folder(config.global_)
    os.makedirs(folder, exist_ok=True)
    log = TryLog(os.path.join(folder, "tries.json"), _identity(bench, metric), tries, bench.measure)
    each = bench.try_seconds()
    get_logger().info("time: about %s on this machine for a try%s, %s for all of at most %s; "
                      "the log is %s", rough_duration(each),
                      " with its evaluation" if evaluator else "", rough_duration(tries * each),
                      numbered(tries, "try"), log.path)
    best = Search(bench, log, goal).run()
    final = bench.job(best.settings)
    recipe = os.path.join(folder, "recipe.yaml")
    save_config(final, recipe)
    final.global_.visualdl = config.global_.visualdl
    bench.quantize(final, evaluator)
    result = AutoResult(best, goal.reached(best), log.used, config.global_.save_dir, recipe,
                        bench.metric if evaluator else "")
    write_page(os.path.join(folder, "report.html"),
               lambda: auto_page(result, goal, ranked_layers(log), config))
    return result


class Search:
    """The steps, each of which starts from the best so far.

    Args:
        bench(Bench): measures.
        log(TryLog): makes tries and keeps them.
        goal(Goal): when to stop.
    """

    def __init__(self, bench: Bench, log: TryLog, goal: Goal):
        self.bench, self.log, self.goal = bench, log, goal
        self.best: Optional[Try] = None

    def run(self) -> Try:
        """The cheapest try that reaches the goal, else the one that loses least."""
        post = self.bench.config.quant_post
        if self.goal.bits is None:
            self._take("as configured", {})
        else:
            self._take("bits by layer", self._allocated())
        if post.equalize != "auto" and self._goes_on():
            self._take("equalized channels", self._with(equalize="auto"))
        if post.activation_observer != "output_error" and self._goes_on():
            self._take("activation ranges by output error",
                       self._with(activation_observer="output_error"))
        if self.goal.bits is None:
            if post.weight_bits < BITS[-1] and post.small_layer_share < SMALL and self._goes_on():
                self._take("8 bits for the smallest layers", self._with(small_layer_share=SMALL))
            self._raise_layers()
        self._reconstruct()
        return self.best

    def _goes_on(self) -> bool:
        return bool(self.log.left) and not self._is_enough()

    def _is_enough(self) -> bool:
        """A search for a size alone has nothing that is good enough: it takes the best."""
        return self.goal.max_drop is not None and self.goal.reached(self.best)

    def _take(self, name: str, settings: Settings) -> Optional[Try]:
        """Try settings; they become the best when they lose less, or reach the goal cheaper."""
        found = self.log.run(name, settings)
        if found is not None and (self.best is None or self._is_better(found)):
            self.best = found
        return found

    def _is_better(self, found: Try) -> bool:
        if self.goal.max_drop is not None:
            ours, theirs = self.goal.reached(self.best), self.goal.reached(found)
            if ours != theirs:
                return theirs
            if ours and found.bits != self.best.bits:
                return found.bits < self.best.bits
        return found.loss < self.best.loss

    def _with(self, **post) -> Settings:
        """The settings of the best so far, and some keys of ``QuantPost``."""
        settings = copy.deepcopy(self.best.settings) if self.best else {}
        settings.setdefault("QuantPost", {}).update(post)
        return settings

    def _raise_layers(self):
        """More for the fewest layers.

        In a second round, where 8 bits for all were not enough, layers become float.
        """
        for turn, kind in enumerate((REFINED, FLOAT), 1):
            if not self._goes_on():
                return
            base = self.best
            effects = [LayerEffect(**e) for e in self.log.note(f"ranking {turn}", self._ranking)]
            order = refining_order(effects, kind)
            most = len(order) - (kind == FLOAT)  # one layer must stay

            def raised(count: int) -> Optional[Try]:
                return self._take(f"{count} of {len(order)} layers {kind}",
                                  self._more(base, order[:count], kind))

            if most > 0 and self.goal.reached(raised(most)):
                self._bisect(raised, most)

    def _bisect(self, raised: Callable[[int], Optional[Try]], high: int):
        """Look for the fewest layers that are enough; ``high`` are."""
        low = 0
        while high - low > 1 and self.log.left:
            middle = (low + high) // 2
            low, high = ((low, middle) if self.goal.reached(raised(middle)) else (middle, high))

    def _more(self, base: Try, effects: List[LayerEffect], kind: str) -> Settings:
        """The settings of a try, and more for some layers."""
        post, keys = self.bench.config.quant_post, given(effects, kind)
        settings = copy.deepcopy(base.settings)
        section = settings.setdefault("QuantPost", {})
        before = section.get("overrides", [dataclasses.asdict(o) for o in post.overrides])
        section.update(overrides=keys.get("overrides", []) + before,
                       skip=section.get("skip", list(post.skip)) + keys.get("skip", []))
        return settings

    def _reconstruct(self):
        """A short training on top of the best, where nothing else was enough.

        Left out where the best is so close that the preset would not train.
        """
        if not self._goes_on():
            return
        samples = len(next(iter(self.bench.samples.values())))
        settings = copy.deepcopy(self.best.settings)
        settings["MRECG"] = dict(preset="fast", batch_size=min(16, samples))
        close = self.best.output_error
        if close is not None and close <= self.bench.job(settings).mrecg.train_network_above:
            return
        get_logger().info("training: about %s more than the other tries, at most",
                          rough_duration(self.bench.training_seconds(settings)))
        self._take("short reconstruction", settings)

    def _ranking(self) -> List[Dict]:
        """Layers by the error that each makes alone, worst first."""
        prepared, samples = prepare_to_measure(
            self.bench.graph, self.bench.samples, self.bench.job(self.best.settings))
        sensitivity = Sensitivity(prepared.network, isolated_rounding(prepared), samples)
        with sensitivity.progress() as bar:
            layers = sensitivity.measure(bar.update)
        prepared.network.store.close()
        return [dataclasses.asdict(e)
                for e in sorted(layers, key=lambda e: e.on["both"], reverse=True)]

    def _allocated(self) -> Settings:
        """Overrides that give every layer the bits that take away most error."""
        bits = self.log.note(f"bits {self.goal.bits:g}", self._bits)
        own = [dataclasses.asdict(o) for o in self.bench.config.quant_post.overrides]
        return {"QuantPost": dict(overrides=given_bits(self.bench, bits) + own)}

    def _bits(self) -> Dict[str, int]:
        prepared, samples = prepare_to_measure(self.bench.graph, self.bench.samples,
                                               self.bench.config)
        with Progress("Bit allocation", None, "layer") as bar:
            curves = error_curves(prepared, samples, bar.update)
        prepared.network.store.close()
        own = own_bits(prepared.graph, self.bench.config, prepared.network.scheme)
        everything = self.bench.elements()
        self.goal.check_range(everything, curves, own)
        curves = {n: c for n, c in curves.items() if n not in own}
        elements = {n: everything[n] for n in curves}
        fixed = sum(own.get(n, FLOAT_BITS) * v for n, v in everything.items() if n not in curves)
        average = (self.goal.bits * sum(everything.values()) - fixed) / sum(elements.values())
        bits = allocate(curves, elements, average)
        get_logger().info("bits by layer: %s; %.2f on average", ", ".join(
            f"{sum(b == k for b in bits.values())} with {k}" for k in BITS
            if k in bits.values()), average_bits(bits, elements))
        return bits


def ranked_layers(log: TryLog) -> List[LayerEffect]:
    """The last ranking that a search made, worst first; empty where it needed none."""
    found = [log.notes[key] for key in ("ranking 2", "ranking 1") if key in log.notes]
    return [LayerEffect(**entry) for entry in found[0]] if found else []


def _check_reachable(goal: Goal, graph: Graph, config: Config):
    """Raise ConfigError for a size that the weights cannot have, before anything is measured."""
    scheme = build_scheme(graph, config.quant_post, config.global_.target)
    goal.check_range(quantizable_elements(graph, config), scheme.weights,
                     own_bits(graph, config, scheme))


def _log_folder(settings: Global) -> str:
    return settings.save_dir.rstrip("/") + ".auto"


def _refuse_places(settings: Global):
    """Raise OutputError before the search for what would stop the job that ends it."""
    refuse_output(_log_folder(settings), "next to Global.save_dir,", True)
    with ResultDir(settings.save_dir, resume=settings.resume or settings.overwrite,
                   inputs=[settings.model_dir] if settings.model_dir else []):
        pass


def _identity(bench: Bench, metric: Optional[str]) -> str:
    settings = config_to_dict(bench.config)
    settings["Global"] = {k: settings["Global"][k] for k in ("seed", "target")}
    settings["metric"] = dict(name=metric, float_score=bench.float_score)
    return identity_of(settings, bench.graph.params, {**bench.samples, **{
        f"{n} measured": v for n, v in bench.measured.items()}})
