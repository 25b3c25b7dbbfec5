# SPDX-License-Identifier: Apache-2.0
"""Quantize a detector after training, score it (float, nearest rounding,
reconstructed) and draw what it finds.

    python demo/detection/quant_post.py --model yolo_fastest_xl --save_dir output/yolo \\
        --config_path configs/detection/yolo_fastest_xl_w4a8.yaml

``section.key=value`` arguments override the config, as on the command line of ``paddle-mrecg``.
"""
import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import sources  # noqa: E402
from demo.detection import coco, models, pictures  # noqa: E402
from demo.ocr import det  # noqa: E402

CONFIGS = {**{name: f"detection/{name}" for name in models.NAMES}, "ppocr_det": "ocr/ppocrv4_det"}


def load(args):
    """The config with the command line's overrides and seed."""
    from paddle_mrecg.config.io import load_config
    path = args.config_path or sources.ROOT / f"configs/{CONFIGS[args.model]}_w4a8.yaml"
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


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="yolo_fastest_xl")
    parser.add_argument("--config_path", help="default: the model's recipe for W4A8")
    parser.add_argument("--save_dir", default="output/detection")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--pictures", type=int, default=3,
                        help="photographs in detections.png; 0 draws none")
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
    if args.pictures:
        print(f"picture: {draw(args, model_dir, result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
