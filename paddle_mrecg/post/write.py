# SPDX-License-Identifier: Apache-2.0
"""What a finished run leaves behind: the program, checked and scored, and its report."""
import os
import tempfile
from typing import Callable, Dict

from ..config.io import config_to_dict, save_config
from .walk import UnitResult
from ..deploy.predictor import Predictor
from .program import qdq_graph, verify
from ..files import write_json
from ..graph.writer import save_program
from ..report.advice import advice, coarse_advice
from ..report.pictures import oscillation_picture
from ..report.progress import get_logger
from ..report.report import Report
from ..report.sizes import code_sizes, file_sizes
from ..report.units import InnerLoss, UnitReport, write_units_csv

PROGRAM = "model"  # stem of the written program


def write_outcome(job, result_dir, evaluator: Callable, tuned: Dict) -> Report:
    """Write the program, check it against the simulation, score it, and write
    every file of the report.

    Args:
        job(Job): a reconstructed (or interrupted) job.
        result_dir(ResultDir): receives the files.
        evaluator(callable): scores ``predict``, or None.
        tuned(dict): what ``tune_cpu`` applied.
    """
    prepared, network = job.prepared, job.prepared.network
    quantized = result_dir.path(PROGRAM)
    inputs = [network.graph.tensors[n] for n in network.graph.inputs]
    save_program(qdq_graph(network.graph, network.scheme, job.state), quantized)
    report = _report(job, tuned)
    report.verification = verify(network, job.state, quantized)
    prepared.clock.lap("export and verify")
    with tempfile.TemporaryDirectory(dir=result_dir.staging) as scratch:
        baselines = {stage: os.path.join(scratch, stage) for stage in ("float", "nearest")}
        save_program(prepared.float_graph, baselines["float"])
        if evaluator:
            save_program(qdq_graph(network.graph, network.scheme, prepared.state),
                         baselines["nearest"])
            for stage, prefix in dict(baselines, quantized=quantized).items():
                report.metrics[stage] = evaluator(Predictor(prefix, inputs))
                get_logger().info("%s: %s", stage,
                                  ", ".join(f"{k} {v:.4f}"
                                            for k, v in report.metrics[stage].items()))
            prepared.clock.lap("evaluate")
        report.sizes = dict(float_file=_program_size(baselines["float"]),
                            quantized_file=_program_size(quantized),
                            codes=code_sizes(job.state.codes,
                                             {n: s.bits
                                              for n, s in network.scheme.weights.items()}))
    report.seconds = dict(prepared.clock.laps)
    _write_files(job, report, result_dir)
    get_logger().info("result in %s\n%s", result_dir.shown, report.table())
    return report


def _program_size(prefix: str) -> Dict:
    return file_sizes([prefix + ".pdmodel", prefix + ".pdiparams"])


def _write_files(job, report: Report, result_dir):
    path = result_dir.path
    save_config(job.config, path("resolved_config.yaml"))
    write_json(path("plan.json"), job.plan.to_dict())
    write_json(path("encodings.json"), {n: e.to_dict() for table in (job.state.weight_encodings,
                                                                    job.state.activation_encodings)
                                        for n, e in table.items()})
    write_units_csv(path("units.csv"), report.units)
    oscillation_picture(path("oscillation.png"), report.curves())
    report.save(path("report.json"))


def _report(job, tuned: Dict) -> Report:
    config, network, state = job.config, job.prepared.network, job.state
    report = Report(seed=config.global_.seed, config=config_to_dict(config))
    report.units = [unit_report(k, r, network.graph.params) for k, r in enumerate(job.results)]
    report.first_pass = [unit_report(k, r, network.graph.params)
                         for k, r in enumerate(job.first_pass)]
    scale = "per_channel" if config.quant_post.weight_per_channel else "per_tensor"
    report.weights = {n: dict(bits=s.bits, scale=scale) for n, s in network.scheme.weights.items()}
    report.activations = {n: dict(bits=e.spec.bits, signed=e.spec.signed)
                          for n, e in state.activation_encodings.items()}
    report.float_tensors = dict(job.prepared.float_tensors)
    report.samples = dict(calibration=len(next(iter(network.samples.values()))))
    report.status = "interrupted" if job.interrupted else "complete"
    report.cpu_tuning = tuned
    report.notes += coarse_advice(job.prepared.coarse) + advice(report.units, config.mrecg)
    return report


def unit_report(index: int, result: UnitResult, params: Dict) -> UnitReport:
    """A unit's row."""
    unit = result.unit
    note = "" if result.kept else "training made the output worse; nearest rounding stays"
    return UnitReport(index, unit.name, unit.modules[0].index, [m.name for m in unit.modules],
                      len(unit.weights),
                      sum(params[n].size for n in unit.weights), result.iterations, result.seconds,
                      result.nearest.error, result.soft.error, result.hard.error, result.hard.power,
                      [InnerLoss(m.index, m.name, a.error, b.error, b.power)
                       for m, a, b in result.inner],
                      result.reused, note)
