# SPDX-License-Identifier: Apache-2.0
"""What each step of post-training brings: float, nearest rounding, corrected biases, solved
roundings, reconstruction; and what it costs.

    python demo/compare_steps.py                                  # all models: hours of one core
    python demo/compare_steps.py --models MobileNetV1 --bits W4A8 W4A4
    python demo/compare_steps.py --models "PP-OCRv3 rec" --equalize none auto
    python demo/compare_steps.py --table                          # of the cells that exist

Every job is a process of its own with one thread and leaves one file in ``results/step_cells``; an
interrupted run goes on where it stopped. Seconds are those of the processor, so that other work on
the machine does not count; those of scoring are left out.
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
from demo.mobile import workloads  # noqa: E402
from demo.mobile.workloads import batches  # noqa: E402
from demo.slim.compare_post import SAMPLES as POST_SAMPLES  # noqa: E402

CELLS = ROOT / "demo" / "results" / "step_cells"
WORKLOADS = {**workloads.WORKLOADS, **workloads.RECOGNIZERS}
SAMPLES = {**POST_SAMPLES, "PP-LCNetV2": (64, 325), "PP-OCRv4 rec": (64, 250),
           **dict.fromkeys(workloads.RECOGNIZERS, (64, 250)),
           "ResNet-20": (1024, 5000)}  # model -> (calibration samples, evaluation samples)
BITS = ("W8A8", "W4A8", "W3A8", "W4A4", "W2A4")
STEPS = {**results.STAGES, "quantized": "reconstructed"}


def job(model, bits, equalize, preset, seed):
    """The config of one cell: defaults, but for what the cell names; training is not left out
    where it promises little, for what it brings is measured here.
    """
    weight_bits, activation_bits = (int(b) for b in bits[1:].split("A"))
    return dict(Global=dict(visualdl=False, tune_cpu=True, seed=seed,
                            target="paddle_lite" if activation_bits == 8 else "simulation"),
                Data=dict(num_samples=SAMPLES[model][0], batch_size=WORKLOADS[model].batch_size),
                QuantPost=dict(weight_bits=weight_bits, activation_bits=activation_bits,
                               equalize=equalize),
                MRECG=dict(preset=preset, granularity="block", train_network_above=0.0,
                           batch_size=min(32, SAMPLES[model][0])))


class Evaluator:
    """Scores each program on the same samples; keeps the processor seconds that it takes."""

    def __init__(self, work, count):
        self._size = work.batch_size
        self._inputs, self._score = work.evaluation(count)
        self.seconds = 0.0

    def __call__(self, predict):
        begin = time.process_time()
        value = self._score(self.outputs(predict))
        self.seconds += time.process_time() - begin
        return {"score": value}

    def outputs(self, predict):
        """Of all samples."""
        parts = [predict(batch) for batch in batches(self._inputs, self._size)]
        return [np.concatenate(p) for p in zip(*parts)]


def measure(setting, seed):
    """One job, and its results file."""
    from paddle_mrecg import quant_post_mrecg
    model = setting["model"]
    work, (count, scored) = WORKLOADS[model], SAMPLES[model]
    config = job(model, setting["bits"], setting["equalize"], setting["preset"], seed)
    evaluator, model_dir = Evaluator(work, scored), work.model_dir()
    feed = batches(work.calibration(count, seed), work.batch_size)
    with tempfile.TemporaryDirectory() as place:
        begin, wall = time.process_time(), time.perf_counter()
        result = quant_post_mrecg(model_dir, feed, config, place + "/out", evaluator)
        seconds, wall = time.process_time() - begin - evaluator.seconds, time.perf_counter() - wall
    report = result.report
    measured = {name: report.metrics[key]["score"] for key, name in STEPS.items()
                if key in report.metrics}
    measured["seconds"] = seconds
    trained = sum(u.iterations > 0 for u in report.units)
    results.save_results(
        results.cell_path(CELLS, setting, seed), f"python demo/compare_steps.py {options(setting)}",
        [results.run_record(setting, seed, measured, samples=scored, calibration=count,
                            wall=round(wall, 1), trained=f"{trained} of {len(report.units)} units",
                            verdict=report.verification.get("verdict"))])


def options(setting) -> str:
    """The command line of one cell."""
    return (f"--models '{setting['model']}' --bits {setting['bits']} "
            f"--equalize {setting['equalize']} --presets {setting['preset']}")


def rows(cells):
    """``((setting, scored, calibrated), runs of all seeds)`` of results files, in the order of the
    options.
    """
    found = {}
    for run in (run for cell in cells for run in cell["runs"]):
        key = tuple(run["setting"].items()), run["samples"], run["calibration"]
        found.setdefault(key, []).append(run)
    order = {name: k for k, name in enumerate(SAMPLES)}
    return sorted(found.items(), key=lambda item: (
        order[dict(item[0][0])["model"]], BITS.index(dict(item[0][0])["bits"]),
        dict(item[0][0])["equalize"], dict(item[0][0])["preset"]))


def table(folder: Path = CELLS) -> str:
    """One row per model, bits and way."""
    cells = results.load_cells(folder)
    if not cells:
        raise sources.Absent(f"no cells in {folder}: run without --table")
    names = list(STEPS.values())
    lines = ["| model | images, scored | bits | " + " | ".join(names)
             + " | seconds (one core) | units trained |",
             "|---|---|---|" + "---:|" * len(names) + "---:|---|"]
    for (setting, scored, count), runs in rows(cells):
        setting = dict(setting)
        extra = "" if setting["equalize"] == "auto" else f", equalize {setting['equalize']}"
        scores = [_spread([_score(r["measured"], n) for r in runs]) for n in names]
        seconds = np.mean([r["measured"]["seconds"] for r in runs])
        lines.append(f"| {setting['model']}, {setting['metric']} | {count}, {scored} "
                     f"| {setting['bits']}{extra} | " + " | ".join(scores)
                     + f" | {seconds:.0f} | {runs[0]['trained']} |")
    return "\n".join([*lines, "", "`python demo/compare_steps.py`: preset `fast`, "
                      "granularity `block`; mean ± standard deviation where there are several "
                      "seeds; " + results.describe_place(results.common_place(cells))])


def _score(measured, name: str):
    """A job that trains nothing ends with the solved roundings and scores them once."""
    return measured.get(name, measured.get("reconstructed") if name == "solved" else None)


def _spread(values) -> str:
    values = [v for v in values if v is not None]
    return results.cell(results.mean_and_deviation(values) if values else None)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--models", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    made.add_argument("--bits", nargs="+", choices=BITS, default=["W8A8", "W4A8"])
    made.add_argument("--equalize", nargs="+", choices=("none", "fold", "auto"), default=["auto"])
    made.add_argument("--presets", nargs="+", choices=("fast", "none"), default=["fast"])
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_argument("--table", action="store_true", help="print the table and measure nothing")
    made.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return made


@sources.explained
def main(argv=None) -> int:
    args = parser().parse_args(argv)
    cells = [(dict(model=model, metric=WORKLOADS[model].metric, bits=bits, equalize=equalize,
                   preset=preset), seed)
             for seed in args.seeds for model in args.models for bits in args.bits
             for equalize in args.equalize for preset in args.presets]
    return results.measure_cells(
        [(results.cell_path(CELLS, setting, seed),
          ["--models", setting["model"], "--bits", setting["bits"], "--equalize",
           setting["equalize"], "--presets", setting["preset"], "--seeds", str(seed)],
          (setting, seed)) for setting, seed in cells], __file__, args, measure, table)


if __name__ == "__main__":
    sys.exit(main())
