# SPDX-License-Identifier: Apache-2.0
"""Predicted and measured peak memory of whole jobs on real models, under two limits::

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_memory.py

Every job is a process of its own: 4-bit weights, solved roundings, a short reconstruction block by
block (memory does not depend on the number of steps). *Predicted* is what the log says before the
first step, *measured* the largest resident size of the process. PP-OCRv4's recognizer is scored as
well, with activations held as float32 and as float16. Writes ``demo/results/memory_cells`` and, of
all cells that are there, ``demo/results/memory.json``; a cell that is there is not measured again.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from demo.mobile.workloads import WORKLOADS, batches  # noqa: E402
from demo.results import (cell_path, command_line, complete_cell, load_cells,  # noqa: E402
                          run_record, save_results)

SCRIPT, MIB = "tests/benchmarks/bench_memory.py", 1 << 20
SEED = 0
# model -> samples, samples of a step, and both limits in MiB
MODELS = {"MobileNetV1": (128, 16, (1024, 2048)), "PP-OCRv4 rec": (128, 8, (1450, 1600)),
          "PicoDet-416": (64, 8, (2200, 2400))}
SCORED = ("PP-OCRv4 rec",)
WORDS = 250


def settings_of_cells(models):
    """All cells: both limits, and float16 under the smaller one where the model is scored."""
    for model in models:
        count, _, (low, high) = MODELS[model]
        for limit, dtype in ((low, "float32"), (high, "float32"),
                             *[(low, "float16")] * (model in SCORED)):
            yield {"model": model, "samples": str(count), "memory_limit_mb": str(limit),
                   "cache_dtype": dtype}


def one(setting, output: Path):
    """Run the job of a cell in this process."""
    from paddle_mrecg import quant_post_mrecg
    name = setting["model"]
    work, (_, batch, _) = WORKLOADS[name], MODELS[name]
    config = {"Global": {"memory_limit_mb": int(setting["memory_limit_mb"]), "visualdl": False,
                         "cache_dtype": setting["cache_dtype"], "seed": SEED},
              "Data": {"num_samples": int(setting["samples"])},
              "QuantPost": {"weight_bits": 4},
              "MRECG": {"granularity": "block", "num_iters": 2, "batch_size": batch}}
    feed = work.calibration(int(setting["samples"]))
    with tempfile.TemporaryDirectory() as place:
        result = quant_post_mrecg(work.model_dir(), batches(feed, work.batch_size), config,
                                  f"{place}/out", _evaluator(work, name))
    report = result.report
    measured = dict(predicted=report.expected_memory / MIB, measured=report.peak_memory / MIB,
                    files=report.temporary_files / MIB)
    measured["error"] = 100.0 * (measured["predicted"] / measured["measured"] - 1)
    for stage in ("float", "quantized"):
        if stage in report.metrics:
            measured[stage] = report.metrics[stage]["score"]
    save_results(output, command_line(SCRIPT, ["--one", json.dumps(setting)]),
                 [run_record(setting, SEED, measured, seconds=sum(report.seconds.values()))])


def _evaluator(work, name: str):
    """Scores of a model whose accuracy is asked for."""
    if name not in SCORED:
        return None
    feed, score = work.evaluation(WORDS)

    def evaluator(predict):
        outputs = [predict(part)[0] for part in batches(feed, work.batch_size)]
        return {"score": score([np.concatenate(outputs)])}
    return evaluator


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--output", type=Path, default=ROOT / "demo/results/memory.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    cells = args.output.with_name(args.output.stem + "_cells")
    if args.one:
        setting = json.loads(args.one)
        one(setting, cell_path(cells, setting, SEED))
        return
    for setting in settings_of_cells(args.models):
        complete_cell(cell_path(cells, setting, SEED), __file__,
                      [json.dumps(setting), "--output", str(args.output)])
    files = load_cells(cells)
    order = list(settings_of_cells(MODELS))
    runs = sorted((run for f in files for run in f["runs"]),
                  key=lambda run: order.index(run["setting"]))
    save_results(args.output, f"python {SCRIPT}", runs, files)


if __name__ == "__main__":
    main()
