# SPDX-License-Identifier: Apache-2.0
"""PaddleSlim's post-training quantization and ours on the same models, images and bits.

    python demo/slim/compare_post.py                      # all models: hours; one job at a time
    python demo/slim/compare_post.py --models "PP-OCRv4 rec" --ways hist KL ours

Runs on Paddle 2.6.2, where PaddleSlim's quant_post_static works. Every job is a process of its
own and leaves one file in ``results/post_cells``; an interrupted run goes on where it stopped.
Scores are of the program that each job writes, run by Paddle's executor on the same inputs.
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

import numpy as np  # noqa: E402

from demo import results, sources  # noqa: E402
from demo.mobile.workloads import WORKLOADS, batches  # noqa: E402

HERE = Path(__file__).resolve().parent
CELLS = HERE / "results" / "post_cells"
SAMPLES = {  # model -> (calibration samples, evaluation samples)
    "PP-OCRv2 cls": (64, 1000), "PP-OCRv4 rec": (32, 250), "PP-LCNetV2": (48, 325),
    "MobileNetV1": (64, 325), "PicoDet-416": (16, 64), "Yolo-Fastest-xl": (32, 64),
}
SLIM = {f"{algo}{' + bias' if bias else ''}": dict(algo=algo, bias_correction=bias)
        for algo in ("hist", "KL", "avg", "mse", "emd") for bias in (False, True)}
OURS = {"ours": dict(weight_bits=8), "ours, 4-bit weights": dict(weight_bits=4)}
RECON = "quant_recon_static"  # PaddleSlim's own reconstruction, layer by layer, 20 epochs
WAYS = ["float", *SLIM, RECON, *OURS]


def loader(feeds):
    """A ``paddle.io.DataLoader``, which PaddleSlim insists on, that hands out ``feeds``."""
    import paddle

    class Loader(paddle.io.DataLoader):
        def __init__(self):
            """Nothing to collate."""

        def __call__(self):
            return iter(feeds)

        def __len__(self):
            return len(feeds)

        def __del__(self):
            """No workers to stop."""

    return Loader()


def files_of(model_dir):
    """(program, parameters) in a folder of an inference model."""
    program = next(Path(model_dir).glob("*.pdmodel"))
    return program.name, program.with_suffix(".pdiparams").name


def run_program(model_dir, feed, size):
    """Outputs of a written program for all samples."""
    import paddle
    paddle.enable_static()
    executor = paddle.static.Executor(paddle.CPUPlace())
    program, names, fetches = paddle.static.load_inference_model(
        str(model_dir), executor, model_filename=files_of(model_dir)[0],
        params_filename=files_of(model_dir)[1])
    parts = [executor.run(program, feed={n: b[n] for n in names}, fetch_list=fetches)
             for b in batches(feed, size)]
    paddle.disable_static()  # scoring may run ops of its own
    return [np.concatenate(p) for p in zip(*parts)]


def quantize(way, model_dir, feed, work, place):
    """Write the quantized program of one way into ``place``."""
    size = work.batch_size
    if way in OURS:
        from paddle_mrecg import quant_post_mrecg
        count = len(next(iter(feed.values())))
        config = dict(Global=dict(target="paddle_lite", visualdl=False),
                      Data=dict(num_samples=count, batch_size=size),
                      QuantPost=OURS[way], MRECG=dict(preset="none"))
        quant_post_mrecg(str(model_dir), batches(feed, size), config, save_dir=str(place))
        return
    import paddle
    from paddleslim.quant import quant_post_static, quant_recon_static
    paddle.enable_static()
    program, params = files_of(model_dir)
    job = quant_recon_static if way == RECON else quant_post_static
    job(paddle.static.Executor(paddle.CPUPlace()), str(model_dir), str(place),
        data_loader=loader(batches(feed, size)), model_filename=program, params_filename=params,
        **SLIM.get(way, {}))


def measure(model, way):
    """Score and seconds of one job as a results file."""
    work, (calibrate, evaluate) = WORKLOADS[model], SAMPLES[model]
    size = work.batch_size
    inputs, score = work.evaluation(evaluate)
    model_dir = work.model_dir()
    with tempfile.TemporaryDirectory() as place:
        seconds = None
        if way != "float":
            feed = work.calibration(calibrate)
            start = time.perf_counter()
            quantize(way, model_dir, feed, work, place)
            seconds, model_dir = time.perf_counter() - start, place
        value = score(run_program(model_dir, inputs, size))
    results.save_results(
        results.cell_path(CELLS, dict(model=model, way=way), 0),
        f"python demo/slim/compare_post.py --models '{model}' --ways '{way}'",
        [results.run_record(dict(model=model, metric=work.metric, way=way), 0,
                            {"score": value, "seconds": seconds},
                            samples=evaluate, calibration=calibrate)])


def table(folder: Path = CELLS) -> str:
    """One row per model: float, PaddleSlim's algorithms, ours."""
    cells = results.load_cells(folder)
    runs = [run for cell in cells for run in cell["runs"]]
    found = {(r["setting"]["model"], r["setting"]["way"]): r for r in runs}
    ways = [w for w in WAYS if any(way == w for _, way in found)]
    lines = ["| model | images, samples scored | " + " | ".join(ways) + " |",
             "|---|---|" + "---:|" * len(ways)]
    for model, counts in SAMPLES.items():
        if (model, "float") not in found:
            continue
        run = found[model, "float"]
        scores = {w: found[model, w]["measured"].get("score") for w in ways if (model, w) in found}
        theirs = (s for w, s in scores.items() if w in (*SLIM, RECON) and s is not None)
        best = max(theirs, default=None)
        shown = [_shown(scores.get(w), w in OURS, best) for w in ways]
        lines.append(f"| {model}, {run['setting']['metric']} | {counts[0]}, {counts[1]} | "
                     + " | ".join(shown) + " |")
    return "\n".join([*lines, "", "`python demo/slim/compare_post.py`: seed 0; "
                      + results.describe_place(results.common_place(cells))])


def _shown(score, ours, best):
    if score is None:
        return "–"
    return f"**{score:.2f}**" if ours and best is not None and score >= best else f"{score:.2f}"


@sources.explained
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    import paddle
    if not paddle.__version__.startswith("2."):
        raise sources.Absent("PaddleSlim's quant_post_static needs Paddle 2.6.2; here is "
                             f"{paddle.__version__}")
    return results.measure_cells(
        [(results.cell_path(CELLS, dict(model=model, way=way), 0),
          ["--models", model, "--ways", way], (model, way))
         for model in args.models for way in args.ways], __file__, args, measure, table)


if __name__ == "__main__":
    sys.exit(main())
