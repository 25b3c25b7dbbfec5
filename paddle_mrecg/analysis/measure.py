# SPDX-License-Identifier: Apache-2.0
"""Quantize with some settings and say what was lost: one try of a search."""
import contextlib
import copy
import os
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..config import Config
from ..config.io import config_to_dict, load_config
from ..config.shared_rules import FLOAT_BITS
from ..data import collect_samples, open_loader
from ..data.evaluation import scores_of
from ..deploy.predictor import scored_program
from ..deploy.verify import values_in_program
from ..errors import ConfigError
from ..graph.fold import fold
from ..graph.graph import Graph, weight_name
from ..graph.writer import save_program
from ..post.expected_time import leave_unsaid
from ..post.job import Result, run_post
from ..post.prepare import expected_time_of, prepare, read_model
from ..post.scheme import Scheme, overridden_bits, override_of
from ..post.unit_loss import relative_error
from ..post.unit_runner import UnitRunner
from ..scratch import scratch_folder
from .findings import literal
from .sensitivity import measured_outputs

MEASURED_INPUTS = 16  # what the output's error is taken of, apart from inputs for calibration
LARGEST_SHARE = 1.0  # a float score up to this is a share, and 0.01 of it a point


def own_bits(graph: Graph, config: Config, scheme: Scheme) -> Dict[str, int]:
    """Weight -> bits, of the layers of a folded graph whose bits the config's overrides name."""
    return overridden_bits(graph, config.quant_post, [op for op in graph.ops
                                                      if scheme.is_quantized(op)])


def given_bits(bench: "Bench", bits: Mapping[str, int]) -> List[Dict]:
    """Overrides that give weights their bits, and leave the activations' to the config's own: of
    overrides the first that matches a layer counts.
    """
    graph, post = fold(bench.graph), bench.config.quant_post
    own = {weight_name(op, graph): override_of(op, graph, post) for op in graph.ops
           if weight_name(op, graph) in bits}
    inputs = {n: o.activation_bits for n, o in own.items() if o is not None and o.activation_bits}
    return [dict(pattern=literal(n), weight_bits=int(b),
                 **({"activation_bits": inputs[n]} if n in inputs else {}))
            for n, b in bits.items()]


def quantizable_elements(graph: Graph, config: Config) -> Dict[str, int]:
    """Weight of a folded graph -> number of its values, of all that may be quantized."""
    types = config.quant_post.quantizable_op_type
    names = {weight_name(op, graph) for op in graph.ops if op.type in types} - {None}
    return {n: graph.params[n].size for n in sorted(names)}


class Bench:
    """A model with data, on which settings are tried.

    Args:
        model: as in ``quant_post_mrecg``.
        data_loader(iterable|None): as there.
        config(Config): what is common to all tries.
        evaluator(callable|None): ``evaluator(predict) -> {metric: value}``, higher is better.
        metric(str|None): which of the values counts; the first one without.
    """

    def __init__(self, model, data_loader, config: Config, evaluator: Callable = None,
                 metric: str = None):
        self.config, self.evaluator, self.metric = config, evaluator, metric
        self.graph = read_model(model, config)
        inputs = [self.graph.tensors[n] for n in self.graph.inputs]
        wanted = copy.deepcopy(config.data)
        wanted.num_samples += MEASURED_INPUTS
        loader = (open_loader(wanted, inputs, config.global_.seed) if data_loader is None
                  else data_loader)
        found = {n: np.asarray(v[:]) for n, v in
                 collect_samples(loader, inputs, wanted.num_samples).items()}
        count = len(next(iter(found.values())))
        apart = MEASURED_INPUTS if count >= 2 * MEASURED_INPUTS else 0
        self.samples = {n: v[:count - apart] for n, v in found.items()}
        self.measured = {n: v[-MEASURED_INPUTS:] for n, v in found.items()}
        begin = time.perf_counter()
        self.float_score = self._float()
        self.evaluation = time.perf_counter() - begin if evaluator else 0.0  # seconds

    def try_seconds(self) -> float:
        """What a try without training will take."""
        expected = expected_time_of(self.graph, self.samples, self.config)
        return expected.untrained + self.evaluation

    def training_seconds(self, settings: Dict[str, Dict[str, Any]]) -> float:
        """What the training of a try will take at most."""
        return expected_time_of(self.graph, self.samples, self.job(settings)).training

    def elements(self) -> Dict[str, int]:
        """Weight -> number of its values, of all that may be quantized."""
        return quantizable_elements(fold(self.graph), self.config)

    def job(self, settings: Dict[str, Dict[str, Any]]) -> Config:
        """The common config with some settings on top.

        Raises:
            ConfigError: they do not go together.
        """
        sections = config_to_dict(self.config)
        for section, values in settings.items():
            if section == "MRECG":  # a preset sets the rest of its section
                sections[section] = {}
            sections[section] = dict(sections.get(section, {}), **copy.deepcopy(values))
        sections["Global"].update(visualdl=False)
        return load_config(sections)

    def measure(self, settings) -> Tuple[float, float, float, float, Optional[float]]:
        """What a ``tries.Try`` holds behind its settings, of a job with ``settings``."""
        begin = time.perf_counter()
        with scratch_folder() as folder:
            config = self.job(settings)
            config.global_.resume = config.global_.overwrite = False
            config.global_.measure_speed = False  # of the result alone
            config.evaluation.data = config.evaluation.evaluator = None
            config.global_.save_dir = os.path.join(folder, "try")
            result = self.quantize(config)
            if result.interrupted:
                raise KeyboardInterrupt
            bits = self._average(result.report.weights)
            if self.evaluator:
                score = self._score(result.prefix)
                points = 100.0 if abs(self.float_score) <= LARGEST_SHARE else 1.0
                loss = points * (self.float_score - score)
            else:
                score = self._error(result.prefix)
                loss = 100.0 * score
        return loss, score, bits, time.perf_counter() - begin, result.report.output_error

    def quantize(self, config: Config, evaluator: Callable = None) -> Result:
        """A job of the search, whose time was said in front of all tries."""
        return run_post(self.graph, dict(self.samples), config, evaluator,
                        say_time=leave_unsaid)

    def _average(self, weights: Dict[str, Dict]) -> float:
        elements = self.elements()
        bits = {n: weights[n]["bits"] if n in weights else FLOAT_BITS for n in elements}
        return sum(bits[n] * elements[n] for n in elements) / sum(elements.values())

    def _float(self) -> float:
        """Score of the float program; without an evaluator, the values to compare with."""
        if self.evaluator:
            with scratch_folder() as folder:
                prefix = os.path.join(folder, "float")
                save_program(self.graph, prefix)
                return self._score(prefix)
        config = copy.deepcopy(self.config)
        config.mrecg.granularity, config.mrecg.num_iters, config.data.views = "layer", 0, 1
        config.quant_post.num_observe, config.quant_post.equalize = 2, "none"
        few = {n: v[:4] for n, v in self.samples.items()}
        prepared = prepare(self.graph, few, config, say_time=leave_unsaid)
        network = prepared.network
        with contextlib.closing(network.store):
            runner = UnitRunner(network.graph, network.reached, network.scheme, network.constants)
            self._outputs = measured_outputs(runner, network.graph)
            self._targets = runner.numpy(runner.run, self._outputs)(self.measured)
        return 0.0

    def _score(self, prefix: str) -> float:
        predict = scored_program(prefix, self.graph)
        scores = scores_of(predict, self.evaluator)
        name = self.metric or next(iter(scores))
        if name not in scores:
            raise ConfigError(f"the evaluator gives no metric '{name}': choose one of "
                              f"{', '.join(scores)}")
        self.metric = name
        return scores[name]

    def _error(self, prefix: str) -> float:
        """Mean over the outputs of squared error over variance."""
        values = values_in_program(self.graph, self._outputs, prefix, self.measured)
        return float(np.mean([relative_error(values[name], target)
                              for name, target in self._targets.items()]))
