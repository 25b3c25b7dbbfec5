# SPDX-License-Identifier: Apache-2.0
"""Predicted and measured peak memory of whole jobs on real models::

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_memory.py

Every job is a process of its own: 4-bit weights, solved roundings, a short reconstruction block by
block (memory does not depend on the number of steps). *Predicted* is what the log says before the
first step, *measured* the largest resident size of the process. For each model: two numbers of
samples under one limit, a higher limit, and activations held as float16.
Nothing is scored: what an evaluator holds is its own affair. *Output error* is that of the last
unit, over the power of its float output. Writes ``demo/results/memory_cells`` and, of all cells
that are there, ``demo/results/memory.json``; a cell that is there is not measured again.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demo.mobile.workloads import WORKLOADS, batches  # noqa: E402
from demo.results import (cell_path, command_line, complete_cell, load_cells,  # noqa: E402
                          run_record, save_results)

SCRIPT, MIB = "tests/benchmarks/bench_memory.py", 1 << 20
SEED = 0
# model -> samples of a step, and samples, limit in MiB and type of activations of each cell; the
# recognizer's peak is that of its verification, whatever the limit
MODELS = {
    "MobileNetV1": (8, ((8, 900, "float32"), (16, 900, "float32"), (16, 960, "float32"),
                        (16, 900, "float16"))),
    "PP-OCRv4 rec": (8, ((8, 900, "float32"), (16, 900, "float32"), (16, 900, "float16"))),
    "PP-OCRv2 cls": (16, ((32, 550, "float32"), (64, 550, "float32"), (64, 570, "float32"),
                          (64, 550, "float16"))),
}


def settings_of_cells(models):
    """What differs from one cell to the next is one thing."""
    for model in models:
        for count, limit, dtype in MODELS[model][1]:
            yield {"model": model, "samples": str(count), "memory_limit_mb": str(limit),
                   "cache_dtype": dtype}


def one(setting, output: Path):
    """Run the job of a cell in this process."""
    from paddle_mrecg import quant_post_mrecg
    name = setting["model"]
    work, (batch, _) = WORKLOADS[name], MODELS[name]
    config = {"Global": {"memory_limit_mb": int(setting["memory_limit_mb"]), "visualdl": False,
                         "cache_dtype": setting["cache_dtype"], "seed": SEED},
              "Data": {"num_samples": int(setting["samples"])},
              "QuantPost": {"weight_bits": 4},
              "MRECG": {"granularity": "block", "num_iters": 2, "batch_size": batch}}
    feed = work.calibration(int(setting["samples"]))
    with tempfile.TemporaryDirectory() as place:
        result = quant_post_mrecg(work.model_dir(), batches(feed, work.batch_size), config,
                                  f"{place}/out")
    report = result.report
    measured = dict(predicted=report.expected_memory / MIB, measured=report.peak_memory / MIB,
                    files=report.temporary_files / MIB)
    measured["error"] = 100.0 * (measured["predicted"] / measured["measured"] - 1)
    measured["output_error"] = 100.0 * report.units[-1].relative_hard
    save_results(output, command_line(SCRIPT, ["--one", json.dumps(setting)]),
                 [run_record(setting, SEED, measured, seconds=sum(report.seconds.values()))])


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
