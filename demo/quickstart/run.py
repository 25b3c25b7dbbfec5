# SPDX-License-Identifier: Apache-2.0
"""Quantize the PP-OCR direction classifier and compare float, nearest rounding and MRECG.

One run is the quickstart; several ``--bits``, ``--seeds`` and ``--data`` are the measurement behind
the README's table, written to ``results/*.json``. A seed draws the calibration lines and everything
random in the reconstruction; the held-out lines are the same for all.
"""
import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402
from demo.ocr import crops  # noqa: E402
from demo.quickstart import render  # noqa: E402

CONFIG = "configs/ocr/ppocr_cls_mrecg_w4a8.yaml"
WORD_SETS = {"IIIT5K": "ocr/iiit5k_test", "IC15": "ocr/ic15_rec_test"}


def rendered_lines(num_calib: int, num_eval: int):
    """Rendered lines: ``calibrate(seed) -> array`` and
    ``evaluate(predict) -> {metric: percent}``.
    """
    def calibrate(seed):
        return render.rendered_set("calibration", num_calib, 1000 + seed)[0]

    return calibrate, lambda predict: render.evaluate(predict, num_eval)


def word_crops(num_calib: int):
    """The same on real word crops, each upright and turned; raises
    ``sources.Absent`` without the data.
    """
    train = crops.read_crops(sources.shared_data("ocr/iiit5k_train"))[0]
    tests = {name: crops.both_directions(crops.read_crops(sources.shared_data(folder))[0])
             for name, folder in WORD_SETS.items()}

    def calibrate(seed):
        images = crops.both_directions(train)[0]
        return images[np.random.default_rng(seed).permutation(len(images))[:num_calib]]

    def evaluate(predict):
        scores = {name: crops.accuracy(predict, *labelled) for name, labelled in tests.items()}
        together = np.average(list(scores.values()),
                              weights=[len(labels) for _, labels in tests.values()])
        return dict(scores, **{" + ".join(tests): float(together)})

    return calibrate, evaluate


def quantize(args, bits: int, seed: int, calibrate, evaluate, save_dir: Path):
    """One job; returns the report."""
    from paddle_mrecg import quant_post_mrecg
    from paddle_mrecg.config.io import load_config
    config = load_config(args.config_path)
    config.quant_post.weight_bits = bits
    config.global_.seed, config.global_.tune_cpu = seed, True
    batches = list(crops.batches(calibrate(seed), config.data.batch_size))
    return quant_post_mrecg(sources.model_dir("ppocr_cls"), batches, config, save_dir=str(save_dir),
                            evaluator=evaluate).report


def print_table(records, save_dirs):
    """Accuracy per data set and bits over seeds, and where the pictures are."""
    rows = [("data", "bits", *results.STAGES.values(), "recovered")]
    for row in results.summarise(records):
        measured = {k: results.cell(v) for k, v in row["measured"].items()}
        rows.append((row["setting"]["data"], row["setting"]["bits"],
                     *(measured.get(name, "–")
                       for name in (*results.STAGES.values(), "recovered %"))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print("\naccuracy in percent; recovered: share won back of what nearest + bias loses")
    for row in rows:
        print("  ".join(text.ljust(width) if i < 2 else text.rjust(width)
                        for i, (text, width) in enumerate(zip(row, widths))))
    for save_dir in save_dirs:
        print(f"picture: {save_dir / 'oscillation.png'}   program: {save_dir / 'model.pdmodel'}")


def measure(args, name, calibrate, evaluate):
    """All bits and seeds on one kind of data; returns records and save dirs."""
    records, save_dirs = [], []
    for bits in args.bits:
        for seed in args.seeds:
            save_dir = (Path(args.save_dir) / f"{name}_w{bits}a8_seed{seed}" if args.many
                        else Path(args.save_dir))
            start = time.perf_counter()
            report = quantize(args, bits, seed, calibrate, evaluate, save_dir)
            seconds = round(time.perf_counter() - start, 1)
            for metric in report.metrics["float"]:
                measured = results.recovery(report, metric)
                setting = dict(data="rendered lines" if name == "rendered" else metric,
                               bits=f"W{bits}A8")
                records.append(results.run_record(setting, seed, measured, seconds=seconds,
                                                  num_eval=args.num_eval if name == "rendered"
                                                  else None))
            save_dirs.append(save_dir)
    return records, save_dirs


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config_path", default=str(sources.ROOT / CONFIG))
    parser.add_argument("--save_dir", default="output/quickstart",
                        help="the result, or one folder per run below it")
    parser.add_argument("--bits", type=int, nargs="+", default=[4], help="weight bits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", nargs="+", choices=("rendered", "words"), default=["rendered"],
                        help="rendered lines, or real word crops (needs the measuring data)")
    parser.add_argument("--num_calib", type=int, default=512, help="unlabelled calibration samples")
    parser.add_argument("--num_eval", type=int, default=1000, help="held-out rendered lines")
    parser.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--results", help="write all runs to this JSON, e.g. "
                                          "demo/quickstart/results/direction.json")
    args = parser.parse_args(argv)
    args.many = len(args.bits) * len(args.seeds) * len(args.data) > 1
    return args


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    import paddle
    paddle.set_device(args.devices)
    makers = {"rendered": lambda: rendered_lines(args.num_calib, args.num_eval),
              "words": lambda: word_crops(args.num_calib)}
    records, save_dirs = [], []
    for name in args.data:
        try:
            calibrate, evaluate = makers[name]()
        except sources.Absent as error:
            print(f"skipped {name}: {error}")
            continue
        more, dirs = measure(args, name, calibrate, evaluate)
        records, save_dirs = records + more, save_dirs + dirs
        if args.results:  # after every kind of data, so that an interruption loses little
            results.save_results(args.results, results.command_line("demo/quickstart/run.py", argv),
                                 records)
    if not records:
        return 1
    print_table(records, save_dirs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
