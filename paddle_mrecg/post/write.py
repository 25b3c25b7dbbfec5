# SPDX-License-Identifier: Apache-2.0
"""What a finished run leaves behind: the program, checked and scored, and its report."""
import dataclasses
import math
import os
import tempfile
import textwrap
from typing import Callable, Dict, List

from ..config.io import config_to_dict, save_config
from ..data.evaluation import scores_of
from ..errors import DataError
from .layer_errors import layer_errors
from .memory import return_freed_memory
from .network_state import NetworkState
from .solved_rounding import rounded_layers
from .walk import UnitResult
from ..deploy.predictor import last_line, scored_program
from ..deploy.speed import compare_speed
from .program import qdq_graph, verify
from ..files import write_json, write_json_table
from ..graph.inserted_factors import without_factors
from ..graph.writer import save_program
from ..report.advice import (advice, coarse_advice, equalize_cost_note, equalized_note,
                             float_note)
from ..report.layers import LayerReport
from ..report.page.html import page, write_page
from ..report.pictures import oscillation_picture
from ..report.progress import get_logger
from ..report.report import Report, peak_memory
from ..report.result_dir import PROGRAM
from ..report.sizes import code_sizes, file_sizes
from ..report.summary import summary_text
from ..report.units import InnerLoss, UnitReport, write_units_csv

# The means of a layer's output need no more samples, and the walk is for a baseline alone.
BASELINE_SAMPLES = 128
LINE = 100  # columns of the summary on a terminal


def score_float(job, result_dir, evaluator: Callable) -> Dict[str, float]:
    """The float program's scores, before hours are spent on units: what is wrong with an evaluator
    or its data shows here.

    Raises:
        DataError: see ``data.evaluation.checked_scores``; or a score is not finite.
    """
    if not evaluator:
        return {}
    with tempfile.TemporaryDirectory(dir=result_dir.staging) as scratch:
        prefix = os.path.join(scratch, "float")
        save_program(job.prepared.float_graph, prefix)
        scores = _evaluate(job, "float", prefix, evaluator)
    wrong = [name for name, value in scores.items() if not math.isfinite(value)]
    if wrong:
        raise DataError(f"the evaluator gives {wrong[0]} = {scores[wrong[0]]} for the float "
                        "program: scores must be finite numbers")
    job.prepared.clock.lap("evaluate")
    return scores


def _evaluate(job, stage: str, prefix: str, evaluator: Callable) -> Dict[str, float]:
    scores = scores_of(scored_program(prefix, job.prepared.network.graph), evaluator)
    return_freed_memory()
    get_logger().info("%s: %s", stage, ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
    return scores


def write_outcome(job, result_dir, evaluator: Callable, tuned: Dict,
                  float_scores: Dict[str, float]) -> Report:
    """Write the program, check it against the simulation, score it, and write
    every file of the report.

    Args:
        job(Job): a reconstructed (or interrupted) job.
        result_dir(ResultDir): receives the files.
        evaluator(callable): scores ``predict``, or None.
        tuned(dict): what ``tune_cpu`` applied.
        float_scores(dict): from ``score_float``.
    """
    prepared, network = job.prepared, job.prepared.network
    quantized = result_dir.path(PROGRAM)
    program = qdq_graph(network.graph, network.scheme, job.state)
    save_program(program, quantized)
    report = _job_report(job, tuned)
    report.verification = verify(network, job.state, quantized)
    prepared.clock.lap("export and verify")
    report.layers = _layer_reports(network, job.state)
    prepared.clock.lap("measure layers")
    if job.config.global_.measure_speed:
        _measure_speed(prepared, program, report)
        prepared.clock.lap("measure speed")
    with tempfile.TemporaryDirectory(dir=result_dir.staging) as scratch:
        float_program = os.path.join(scratch, "float")
        save_program(prepared.float_graph, float_program)
        if evaluator:
            report.metrics["float"] = float_scores
            for stage, state in _baseline_states(job).items():
                prefix = os.path.join(scratch, stage)
                save_program(qdq_graph(network.graph, network.scheme, state), prefix)
                report.metrics[stage] = _evaluate(job, stage, prefix, evaluator)
            report.metrics["quantized"] = _evaluate(job, "quantized", quantized, evaluator)
            prepared.clock.lap("evaluate")
        report.sizes = dict(float_file=_program_size(float_program),
                            quantized_file=_program_size(quantized),
                            codes=code_sizes(job.state.codes,
                                             {n: s.bits
                                              for n, s in network.scheme.weights.items()}))
    report.seconds, report.peak_memory = dict(prepared.clock.laps), peak_memory()
    _write_files(job, report, result_dir)
    get_logger().info("result in %s\n%s\n\n%s", result_dir.shown,
                      textwrap.fill(summary_text(report), LINE),
                      report.table())
    return report


def _measure_speed(prepared, program, report: Report):
    """Float against int8 and, where multiplications were inserted, int8 with and without them."""
    sample = {n: v[:1] for n, v in prepared.network.samples.items()}
    graphs = {"float": prepared.float_graph, "int8": program}
    if any(entry["way"] == "multiply" for entry in report.equalized):
        graphs["plain"] = without_factors(program)
    report.speed = compare_speed(graphs, sample)
    report.equalize_cost = {name: found["added"] for name, found in report.speed.items()
                            if "added" in found}
    report.notes += equalize_cost_note(report.equalize_cost)


def _layer_reports(network, state: NetworkState) -> List[LayerReport]:
    """Errors of the layers; a result is whole without them, so nothing here may end a job."""
    try:
        return layer_errors(network, state)
    except Exception as error:  # whatever a rare op makes of one sample
        get_logger().warning("the report does not rank the layers, for they cannot be run one by "
                             "one: %s", last_line(error))
        return []


def _baseline_states(job) -> Dict[str, NetworkState]:
    """What the result is compared with: rounding to nearest, the same with corrected biases as
    well-kept tools have it by default, and the solve where reconstruction went on from it.
    """
    settings, states = job.config.quant_post, {"nearest": job.prepared.state}
    trained = any(r.iterations for r in job.results)
    if settings.bias_correction and (settings.rounding == "solve" or trained):
        states["nearest_bias"] = (rounded_layers(job.prepared, "nearest", BASELINE_SAMPLES).state
                                  if settings.rounding == "solve" else job.start)
    if settings.rounding == "solve" and trained:
        states["solved"] = job.start
    return states


def _program_size(prefix: str) -> Dict:
    return file_sizes([prefix + ".pdmodel", prefix + ".pdiparams"])


def _write_files(job, report: Report, result_dir):
    path = result_dir.path
    save_config(job.config, path("resolved_config.yaml"))
    write_json(path("plan.json"), job.plan.to_dict())
    encodings = {**job.state.weight_encodings, **job.state.activation_encodings}
    write_json_table(path("encodings.json"), {n: e.to_dict() for n, e in encodings.items()})
    write_units_csv(path("units.csv"), report.units)
    oscillation_picture(path("oscillation.png"), report.curves())
    write_page(path("report.html"), lambda: page(report))
    report.save(path("report.json"))


def _job_report(job, tuned: Dict) -> Report:
    config, network, state = job.config, job.prepared.network, job.state
    report = Report(seed=config.global_.seed, config=config_to_dict(config))
    report.units = [unit_report(k, r, network.graph.params) for k, r in enumerate(job.results)]
    for unit in report.units:
        unit.curve = job.curves.get(unit.index, [])
    report.first_pass = [unit_report(k, r, network.graph.params)
                         for k, r in enumerate(job.first_pass)]
    scale = "per_channel" if config.quant_post.weight_per_channel else "per_tensor"
    report.weights = {n: dict(bits=s.bits, scale=scale) for n, s in network.scheme.weights.items()}
    report.activations = {n: dict(bits=e.spec.bits, signed=e.spec.signed)
                          for n, e in state.activation_encodings.items()}
    report.output_error = job.output_error
    report.float_tensors = dict(job.prepared.float_tensors)
    report.samples = dict(calibration=len(next(iter(network.samples.values()))))
    report.expected_memory = int(job.prepared.expected.peak)
    report.temporary_files = network.store.spilled
    report.status = "interrupted" if job.interrupted else "complete"
    report.cpu_tuning = tuned
    report.equalized = [dataclasses.asdict(e) for e in job.prepared.equalized]
    report.notes += job.prepared.notes + float_note(report.float_tensors)
    report.notes += equalized_note(report.equalized)
    report.notes += coarse_advice(job.prepared.coarse, config.quant_post.equalize)
    report.notes += job.notes
    report.notes += advice(report.units, job.mrecg, config.quant_post.rounding == "solve")
    return report


def unit_report(index: int, result: UnitResult, params: Dict) -> UnitReport:
    """A unit's row."""
    unit = result.unit
    note = "" if result.kept else "training made the output worse; the rounding before it stays"
    note = "not trained: its output error is small enough" if result.skipped else note
    return UnitReport(index, unit.name, unit.modules[0].index, [m.name for m in unit.modules],
                      len(unit.weights),
                      sum(params[n].size for n in unit.weights), result.iterations, result.seconds,
                      result.start.error, result.soft.error, result.hard.error, result.hard.power,
                      [InnerLoss(m.index, m.name, a.error, b.error, b.power)
                       for m, a, b in result.inner],
                      restored=result.restored, note=note, best_step=result.best)
