# SPDX-License-Identifier: Apache-2.0
"""Quantize a detector after training, score it (float, nearest rounding,
reconstructed) and draw what it finds.

    python demo/detection/quant_post.py --model yolo_fastest_xl --save_dir output/yolo \\
        --config_path configs/detection/yolo_fastest_xl_mrecg_w4a8.yaml

``section.key=value`` arguments override the config, as on the command line of ``paddle-mrecg``.
"""
import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402
from demo.detection import coco, models, pictures  # noqa: E402
from demo.ocr import det  # noqa: E402

SCRIPT = "demo/detection/quant_post.py"
CONFIGS = {**{name: f"detection/{name}" for name in models.NAMES}, "ppocr_det": "ocr/ppocrv4_det"}


def load(args):
    """The config with the command line's overrides and seed."""
    from paddle_mrecg.config.io import load_config
    path = args.config_path or sources.ROOT / f"configs/{CONFIGS[args.model]}_mrecg_w4a8.yaml"
    return load_config(path, [*args.overrides, f"Global.seed={args.seed}"])


def draw(args, model_dir: str, result) -> Path:
    """``detections.png`` next to the quantized program."""
    from paddle_mrecg.deploy.predictor import Predictor
    from paddle_mrecg.graph.load import load_graph
    from paddle_mrecg.graph.writer import save_program
    paths = det.image_paths() if args.model == "ppocr_det" else coco.image_paths("val2017")
    with tempfile.TemporaryDirectory() as folder:
        save_program(load_graph(model_dir), f"{folder}/float")
        predicts = {"float": Predictor(f"{folder}/float"), "quantized": Predictor(result.prefix)}
        return pictures.side_by_side(Path(result.save_dir) / "detections.png", args.model, predicts,
                                     paths[:args.pictures])


def record(path: Path, args, config, report):
    """Put the run into a results file, in place of an earlier one of the same setting and seed."""
    bits = f"W{config.quant_post.weight_bits}A{config.quant_post.activation_bits}"
    method = config.mrecg.granularity if config.mrecg.num_iters else config.quant_post.rounding
    setting = dict(model=args.model, bits=bits, method=method,
                   **(dict(budget=args.budget) if args.budget else {}))
    new = [results.run_record(dict(setting, metric=metric), args.seed,
                              results.measured(report, metric), overrides=args.overrides)
           for metric in report.metrics["float"]]
    known = results.load_results(path)["runs"] if Path(path).exists() else []
    key = lambda run: (*run["setting"].values(), run["seed"])  # noqa: E731
    taken = {key(run) for run in new}
    runs = sorted([run for run in known if key(run) not in taken] + new,
                  key=lambda r: models.NAMES.index(r["setting"]["model"]))
    results.save_results(path, f"python {SCRIPT} --model {args.model} --config_path CONFIG "
                         f"--results {Path(path).name}", runs)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="yolo_fastest_xl")
    parser.add_argument("--config_path", help="default: the model's MRECG recipe for W4A8")
    parser.add_argument("--save_dir", default="output/detection")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--pictures", type=int, default=3,
                        help="photographs in detections.png; 0 draws none")
    parser.add_argument("--results", help="add the run to this JSON, e.g. "
                                          "demo/detection/results/quant_post.json")
    parser.add_argument("--budget",
                        help="name in that JSON of what the overrides make of the config")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    return parser.parse_intermixed_args(argv)


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    sources.need(args.model)
    import paddle
    from paddle_mrecg import quant_post_mrecg
    paddle.set_device(args.devices)
    config, model_dir = load(args), models.inference_model(args.model)
    config.global_.tune_cpu = True
    result = quant_post_mrecg(model_dir, None, config, save_dir=args.save_dir)
    if args.results:
        record(args.results, args, config, result.report)
    if args.pictures:
        print(f"picture: {draw(args, model_dir, result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
