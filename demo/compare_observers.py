# SPDX-License-Identifier: Apache-2.0
"""Observers of activation ranges compared: score of each model with solved roundings, no training.

    python demo/compare_observers.py                                   # all: hours of one core
    python demo/compare_observers.py --models "PP-OCRv4 rec" --bits W8A8 --observers mse kl
    python demo/compare_observers.py --table                           # of the cells that exist

Every job is a process of its own with one thread and leaves one file in
``results/observer_cells``; an interrupted run goes on where it stopped. ``--scored N`` scores the
first N evaluation samples only.
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

import numpy as np  # noqa: E402

from demo import results, sources  # noqa: E402
from demo.mobile.workloads import WORKLOADS, batches  # noqa: E402
from demo.slim.compare_post import SAMPLES  # noqa: E402

CELLS = ROOT / "demo" / "results" / "observer_cells"
OBSERVERS = ("output_error", "mse", "min_max", "percentile", "kl")
BITS = {"W8A8": 8, "W4A8": 4}  # of the weights


def measure(model, bits, observer, scored):
    """Quantize, score the written program, and leave the results file."""
    from paddle_mrecg import quant_post_mrecg
    from paddle_mrecg.deploy.predictor import Predictor
    work, (count, limit) = WORKLOADS[model], SAMPLES[model]
    scored = min(limit, scored or limit)
    size = work.batch_size
    config = dict(Global=dict(visualdl=False, tune_cpu=True),
                  Data=dict(num_samples=count, batch_size=size),
                  QuantPost=dict(weight_bits=BITS[bits], activation_observer=observer,
                                 equalize="none"),
                  MRECG=dict(preset="none"))
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        result = quant_post_mrecg(work.model_dir(), batches(work.calibration(count), size), config,
                                  save_dir=place + "/out")
        seconds, phases = time.perf_counter() - start, dict(result.report.seconds)
        predict = Predictor(result.prefix)
    inputs, score = work.evaluation(scored)
    parts = [predict(batch) for batch in batches(inputs, size)]
    value = score([np.concatenate(p) for p in zip(*parts)])
    setting = dict(model=model, metric=work.metric, bits=bits, observer=observer)
    results.save_results(
        results.cell_path(CELLS, setting, 0),
        f"python demo/compare_observers.py --models '{model}' --bits {bits} "
        f"--observers {observer}",
        [results.run_record(setting, 0, {"score": value, "seconds": seconds,
                                         "seconds of calibration": phases["calibrate"]},
                            samples=scored, calibration=count)])


def table(folder: Path = CELLS) -> str:
    """One row per model and bits, one column per observer; the best of a row is bold."""
    cells, found = results.load_cells(folder), {}
    if not cells:
        raise sources.Absent(f"no cells in {folder}: run without --table")
    for cell in cells:
        for run in cell["runs"]:
            setting = run["setting"]
            row = setting["model"], setting["bits"], setting["metric"], run["samples"]
            found.setdefault(row, {})[setting["observer"]] = run["measured"]["score"]
    lines = ["| model | bits | " + " | ".join(OBSERVERS) + " |",
             "|---|---|" + "---:|" * len(OBSERVERS)]
    for (model, bits, metric, samples), scores in sorted(found.items()):
        best = max(scores.values())
        shown = [f"**{scores[o]:.2f}**" if scores.get(o) == best else
                 f"{scores[o]:.2f}" if o in scores else "–" for o in OBSERVERS]
        lines.append(f"| {model}, {metric} of {samples} | {bits} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, "", "`python demo/compare_observers.py`: solved roundings, corrected "
                      "biases, one thread, seed 0; "
                      + results.describe_place(results.common_place(cells))])


@sources.explained
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--bits", nargs="+", choices=list(BITS), default=list(BITS))
    parser.add_argument("--observers", nargs="+", choices=OBSERVERS, default=OBSERVERS)
    parser.add_argument("--scored", type=int, default=0, help="samples; default: all of the model")
    parser.add_argument("--table", action="store_true", help="print the table and measure nothing")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    settings = [dict(model=model, metric=WORKLOADS[model].metric, bits=bits, observer=observer)
                for model in args.models for bits in args.bits for observer in args.observers]
    return results.measure_cells(
        [(results.cell_path(CELLS, setting, 0),
          ["--models", setting["model"], "--bits", setting["bits"], "--observers",
           setting["observer"], "--scored", str(args.scored)],
          (setting["model"], setting["bits"], setting["observer"], args.scored))
         for setting in settings], __file__, args, measure, table)


if __name__ == "__main__":
    sys.exit(main())
