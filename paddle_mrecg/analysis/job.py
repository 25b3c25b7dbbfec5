# SPDX-License-Identifier: Apache-2.0
"""``analyze``: rank the layers of a model by what their quantization does to its output."""
import contextlib
import copy
import os
import time
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..compat import seed_everything, tune_cpu
from ..config import Config
from ..config.dialect.post import accept_ptq_config
from ..config.io import load_config, save_config
from ..data import collect_samples, open_loader
from ..data.evaluation import make_evaluator, scores_of
from ..data.hooks import refuse_foreign_hooks
from ..deploy.predictor import scored_program
from ..errors import ConfigError, numbered
from ..files import refuse_output
from ..graph.writer import save_program
from ..post.expected_time import ExpectedTime, leave_unsaid
from ..post.network_state import NetworkState
from ..post.prepare import Prepared, prepare, read_model
from ..post.program import qdq_graph
from ..post.scheme import Scheme
from ..report.page.html import write_page
from ..report.progress import Progress, duration, get_logger, rough_duration
from ..scratch import scratch_folder
from . import FEWEST_SAMPLES, RANKING_SAMPLES, RANKING_VALUES
from .causes import explain_effects
from .findings import Findings
from .isolated import isolated_rounding
from .page import findings_page
from .sensitivity import LayerEffect, Sensitivity

LAYER_PASSES = 4.0  # of a sample: six runs, each of what a layer reaches
CALIBRATION = 32  # samples that grids and roundings come from


def analyze(model=None, data_loader=None, config=None, save_dir: str = None,
            evaluator: Callable = None, samples: Optional[int] = None) -> Findings:
    """Measure what every layer's quantization does to the network's output.

    Every layer is quantized alone, and left float alone: weights, activations, both. The network
    runs once; each of these runs starts at its layer. The cost is about that of 3 float and 3
    quantized passes per layer over ``samples`` inputs, and is logged before it is spent.

    Args:
        model(str|tuple, optional): as in ``quant_post_mrecg``.
        data_loader(iterable, optional): batches of inputs. Default: the ``Data`` section.
        config(str|dict|Config, optional): bits, observers and what to skip, as for
            ``quant_post_mrecg``; reconstruction is not run. Default: all defaults.
        save_dir(str, optional): where sensitivity.csv, .json, .png, suggested.yaml,
            resolved_config.yaml and report.html go. Default: None, nothing is written.
        evaluator(callable, optional): ``evaluator(predict) -> {metric: value}``; run once for the
            float network and once for every layer. Default: None, no metric.
        samples(int, optional): inputs on which errors are measured. Default: 8, fewer of large
            images.

    Returns:
        Findings: the layers, ranked, with causes and suggestions.

    Raises:
        ConfigError, ModelError, DataError, OutputError: with one sentence that names the cure.
    """
    path, config = config, load_config(accept_ptq_config(config))
    if isinstance(path, (str, os.PathLike)):
        refuse_foreign_hooks(config, path)
    if samples is not None and samples < FEWEST_SAMPLES:
        raise ConfigError(f"samples is {samples}: give at least {FEWEST_SAMPLES}")
    if save_dir:
        refuse_output(save_dir, "save_dir", True)
    tune_cpu(bool(config.global_.tune_cpu))
    seed_everything(config.global_.seed)
    begin = time.perf_counter()
    prepared, measured = prepare_to_measure(model, data_loader, config, samples,
                                            _time_teller(evaluator))
    with contextlib.closing(prepared.network.store):
        alone = isolated_rounding(prepared)
        findings = _measure(prepared, alone, measured)
        if evaluator:
            _score_each(prepared, alone, findings, evaluator)
    findings.seconds = time.perf_counter() - begin
    if save_dir:
        findings.save(save_dir)
        recipe = os.path.join(save_dir, "resolved_config.yaml")
        save_config(config, recipe)
        write_page(os.path.join(save_dir, "report.html"),
                   lambda: findings_page(findings, config, recipe))
    return findings


def evaluator_of(config: Config):
    """What the ``Evaluation`` section describes.

    Raises:
        ConfigError: it describes nothing.
    """
    evaluator = make_evaluator(config.evaluation, config.global_.seed)
    if evaluator is None:
        raise ConfigError("no evaluator: set Evaluation.data or Evaluation.evaluator, or leave out "
                          "--metric")
    return evaluator


def _time_teller(evaluator: Callable) -> Callable[[ExpectedTime, int], None]:
    """Logs what an analysis of so many samples will take."""
    def tell(expected: ExpectedTime, samples: int):
        seconds = expected.untrained + expected.layers * LAYER_PASSES * samples * expected.forward
        get_logger().info("time: about %s on this machine for %s%s",
                          rough_duration(seconds), numbered(expected.layers, "layer"),
                          f", and {expected.layers + 1} evaluations" if evaluator else "")
    return tell


def ranking_samples(found: Mapping[str, np.ndarray]) -> int:
    """On how many of the inputs a ranking is measured."""
    values = sum(int(np.prod(v.shape[1:])) for v in found.values())
    return max(FEWEST_SAMPLES, min(RANKING_SAMPLES, RANKING_VALUES // values))


def prepare_to_measure(model, data_loader, config: Config, samples: Optional[int] = None,
                       say_time: Callable = leave_unsaid) -> Tuple[Prepared, Dict]:
    """A job without reconstruction, and inputs that it has not seen.

    Args:
        model, data_loader: see ``analyze``.
        config(Config): not changed.
        samples(int, optional): inputs to keep apart; where there are fewer than twice as many, all
            serve both purposes. Default: ``ranking_samples``.
        say_time(callable, optional): told what the job will take, and the number of inputs apart.
            Default: says nothing.

    Returns:
        tuple: the prepared job, and input name -> ``[samples, ...]``.
    """
    config = copy.deepcopy(config)
    config.mrecg.granularity, config.mrecg.num_iters, config.data.views = "layer", 0, 1
    config.data.num_samples = min(config.data.num_samples,
                                  CALIBRATION + (samples or RANKING_SAMPLES))
    graph = read_model(model, config)
    inputs = [graph.tensors[n] for n in graph.inputs]
    loader = (open_loader(config.data, inputs, config.global_.seed) if data_loader is None
              else data_loader)
    found = collect_samples(loader, inputs, config.data.num_samples)
    samples, count = samples or ranking_samples(found), len(next(iter(found.values())))
    rest = count - samples if count >= 2 * samples else count
    measured = {n: v[-samples:] for n, v in found.items()}
    return prepare(graph, {n: v[:rest] for n, v in found.items()}, config,
                   say_time=lambda expected: say_time(expected, samples)), measured


def _measure(prepared: Prepared, alone, measured) -> Findings:
    sensitivity = Sensitivity(prepared.network, alone, measured)
    count = len(next(iter(measured.values())))
    get_logger().info("sensitivity: %s, 6 runs each on %s, will take about %s",
                      numbered(len(sensitivity.layers), "layer"), numbered(count, "sample"),
                      duration(sensitivity.seconds()))
    with sensitivity.progress() as bar:
        layers = sensitivity.measure(bar.update)
    explain_effects(layers, prepared.graph, alone, sensitivity.inputs)
    return Findings(layers, sensitivity.whole, sensitivity.outputs, count)


def _score_each(prepared: Prepared, alone, findings: Findings, evaluator: Callable):
    """The task's metric with each layer alone quantized."""
    graph, log = prepared.network.graph, get_logger()
    with scratch_folder() as folder:
        prefix = os.path.join(folder, "model")

        def score(scheme_graph):
            save_program(scheme_graph, prefix)
            return scores_of(scored_program(prefix, graph), evaluator)

        begin = time.perf_counter()
        findings.float_metric = score(prepared.float_graph)
        each = time.perf_counter() - begin
        log.info("metric: %s will take about %s", numbered(len(findings.layers), "evaluation"),
                 duration(1.5 * each * len(findings.layers)))
        with Progress("Metric", len(findings.layers), "layer") as bar:
            for effect in findings.layers:
                effect.metric = score(qdq_graph(graph, *only_layers(prepared, alone, [effect])))
                bar.update()


def only_layers(prepared: Prepared, alone: NetworkState, effects: Sequence[LayerEffect]):
    """Scheme and state of the network with some of its layers quantized.

    Args:
        prepared(Prepared): the job.
        alone(NetworkState): of ``isolated_rounding``.
        effects(list[LayerEffect]): the layers.
    """
    scheme = prepared.network.scheme
    names, read = {e.weight for e in effects}, {e.activation for e in effects}
    kept = Scheme({n: s for n, s in scheme.weights.items() if n in names},
                  {n: s for n, s in scheme.activations.items() if n in read},
                  scheme.quantize_shared)
    state = alone.copy()
    state.weight_encodings = {n: e for n, e in alone.weight_encodings.items() if n in names}
    state.codes = {n: c for n, c in alone.codes.items() if n in names}
    biases = {prepared.network.biases.get(n) for n in names}
    state.biases = {n: v for n, v in alone.biases.items() if n in biases}
    return kept, state
