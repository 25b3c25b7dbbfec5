# SPDX-License-Identifier: Apache-2.0
"""PP-OCR's released direction classifier, trained at few bits by PaddleOCR's own slim script.

Needs a clone of PaddleOCR (tried with 2.8, its requirements installed). Text lines are rendered on
the spot, the released weights are put into PaddleOCR's network, and
deploy/slim/quantization/quant.py and export_model.py run for three methods: without our sections
switched on (8 bits, PaddleOCR's PACT), and with the two strategy files of configs/ocr. The
exported programs are scored on held-out lines. PaddleOCR shuffles without a seed, so runs differ:
--repeats says by how much.

    python demo/hosts/paddleocr_cls.py --paddleocr ../PaddleOCR --save_dir output/paddleocr_cls
    python demo/hosts/paddleocr_cls.py --paddleocr ../PaddleOCR --epochs 1 \\
        --methods "symmetric PACT + BR"
"""
import argparse
import itertools
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)
import yaml  # noqa: E402
from PIL import Image  # noqa: E402,F401

from demo import results, sources  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SLIM = "deploy/slim/quantization"
SHAPE = [3, 48, 192]
METHODS = {  # name -> strategy file; None: the scripts of PaddleOCR by themselves
    "PaddleOCR": None,
    "symmetric PACT": "configs/ocr/ppocr_cls_pact_w8a8.yaml",
    "symmetric PACT + BR": "configs/ocr/ppocr_cls_bin_reg_pact_w4a8.yaml",
}
BITS = {"PaddleOCR": "W8A8", "symmetric PACT": "W8A8", "symmetric PACT + BR": "W4A8"}
# the held-out split is for the final score alone
SETS = {"train": ("calibration", 1000), "test": ("calibration", 2000)}


def render_data(folder: Path, counts):
    """Images of lines in both directions, and PaddleOCR's ``train.txt`` and ``test.txt``."""
    from demo.quickstart.render import line
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in counts.items():
        rows = []
        for index in range(count):
            image, label, _ = line(*SETS[name], index)
            image.save(folder / f"{name}_{index}.png")
            rows.append(f"{name}_{index}.png\t{180 * label}\n")
        (folder / f"{name}.txt").write_text("".join(rows), encoding="utf-8")


def host_config(folder: Path, epochs: int, learning_rate: float):
    """A config of PaddleOCR for its direction classifier on that data."""
    def reader(name, batch, shuffle):
        transforms = [{"DecodeImage": {"img_mode": "BGR", "channel_first": False}},
                      {"ClsLabelEncode": None},
                      {"ClsResizeImg": {"image_shape": SHAPE}},
                      {"KeepKeys": {"keep_keys": ["image", "label"]}}]
        return {"dataset": {"name": "SimpleDataSet", "data_dir": str(folder / "data"),
                            "transforms": transforms,
                            "label_file_list": [str(folder / "data" / f"{name}.txt")]},
                "loader": {"shuffle": shuffle, "batch_size_per_card": batch, "drop_last": shuffle,
                           "num_workers": 0,
                           "use_shared_memory": False}}

    return {
        "Global": {"use_gpu": False, "distributed": False, "epoch_num": epochs,
                   "log_smooth_window": 20,
                   "print_batch_step": 20, "save_model_dir": "", "save_inference_dir": "",
                   "save_epoch_step": epochs,
                   "eval_batch_step": [10 ** 9, 1],
                   "cal_metric_during_train": True, "pretrained_model": None, "checkpoints": None,
                   "use_visualdl": False,
                   "infer_img": "", "label_list": ["0", "180"]},
        "Architecture": {"model_type": "cls", "algorithm": "CLS", "Transform": None, "Neck": None,
                         "Backbone": {"name": "MobileNetV3", "scale": 0.35, "model_name": "small"},
                         "Head": {"name": "ClsHead", "class_dim": 2}},
        "Loss": {"name": "ClsLoss"}, "PostProcess": {"name": "ClsPostProcess"},
        "Metric": {"name": "ClsMetric", "main_indicator": "acc"},
        "Optimizer": {"name": "Adam", "beta1": 0.9, "beta2": 0.999,
                      "regularizer": {"name": "L2", "factor": 0},
                      "lr": {"name": "Cosine", "learning_rate": learning_rate}},
        "Train": reader("train", 32, True), "Eval": reader("test", 100, False)}


def released_checkpoint(paddleocr: Path, architecture, target: Path):
    """The released model as a checkpoint that PaddleOCR loads."""
    import copy

    import paddle
    from demo.hosts.released_weights import load_released
    sys.path.insert(0, str(paddleocr))
    from ppocr.modeling.architectures import build_model
    network = build_model(copy.deepcopy(architecture))
    load_released(network, sources.model_dir("ppocr_cls"), paddle.zeros([1, *SHAPE]))
    paddle.save(network.state_dict(), f"{target}.pdparams")


def run_host(paddleocr: Path, script: str, strategy, config: Path, options, log: Path):
    """One script of PaddleOCR through ``paddle-mrecg run``, which without sections of
    our sections switches nothing on.

    Raises:
        MrecgError: it failed; the message ends with the log's last line.
    """
    from paddle_mrecg.errors import MrecgError
    words = [sys.executable, "-m", "paddle_mrecg", "run",
             *([] if strategy is None else ["--strategy", str(ROOT / strategy)])]
    words += [str(paddleocr / SLIM / script), "-c", str(config), "-o",
              *(f"Global.{k}={v}" for k, v in options.items())]
    with open(log, "w", encoding="utf-8") as file:
        code = subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT,
                              check=False).returncode
    if code:
        last = (log.read_text(encoding="utf-8").strip().splitlines() or [""])[-1]
        raise MrecgError(f"{script} ended with exit code {code} ({last}): see {log}")


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paddleocr", required=True, type=Path, metavar="DIR",
                        help="a clone of PaddleOCR")
    parser.add_argument("--save_dir", type=Path, default=Path("output/paddleocr_cls"),
                        help="data, checkpoints, programs, logs")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS),
                        help="default: all")
    parser.add_argument("--repeats", type=int, default=1, help="runs of every method")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    parser.add_argument("--num_train", type=int, default=2048, help="rendered lines to train on")
    parser.add_argument("--num_eval", type=int, default=2000, help="held-out lines to score on")
    parser.add_argument("--resume", action="store_true",
                        help="keep what earlier runs with this budget trained in --save_dir")
    parser.add_argument("--results", metavar="FILE",
                        help="write all runs to this JSON, e.g. "
                             "demo/hosts/results/paddleocr_cls.json")
    return parser.parse_args(argv)


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    from paddle_mrecg.errors import ModelError
    if not (args.paddleocr / SLIM / "quant.py").is_file():
        raise ModelError(f"no {SLIM}/quant.py in '{args.paddleocr}': give --paddleocr a clone of "
                         "PaddleOCR, e.g. 2.8")
    paddleocr, folder = args.paddleocr.resolve(), args.save_dir.resolve()
    render_data(folder / "data", {"train": args.num_train, "test": 200})
    config = host_config(folder, args.epochs, args.learning_rate)
    path = folder / "cls.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    released_checkpoint(paddleocr, config["Architecture"], folder / "released")

    from demo.quickstart import render
    from paddle_mrecg.deploy.predictor import Predictor

    def score(prefix):
        return {"accuracy": render.evaluate(Predictor(str(prefix)),
                                            num_samples=args.num_eval)["direction accuracy"]}

    released = Path(sources.model_dir("ppocr_cls")) / "inference"
    runs = [results.run_record(dict(method="released", bits="float"), 0, score(released))]
    for repeat, method in itertools.product(range(args.repeats), args.methods):
        own = (folder
               / (method.replace(" ", "_").replace("+", "and") + (f"_{repeat}" if repeat else "")))
        own.mkdir(exist_ok=True)
        if not (args.resume and (own / "latest.pdparams").exists()):
            run_host(paddleocr, "quant.py", METHODS[method], path,
                     dict(pretrained_model=folder / "released", save_model_dir=own),
                     own / "quant.log")
        run_host(paddleocr, "export_model.py", METHODS[method], path,
                 dict(checkpoints=own / "latest", save_inference_dir=own / "program"),
                 own / "export.log")
        measured = score(own / "program" / "inference")
        runs.append(results.run_record(dict(method=method, bits=BITS[method]), repeat, measured))
        print(f"{method} {BITS[method]}: {measured['accuracy']:.2f} (float "
              f"{runs[0]['measured']['accuracy']:.2f})", flush=True)
        if args.results:
            # changes no number
            words = [word for word in (argv or sys.argv[1:]) if word != "--resume"]
            results.save_results(args.results,
                                 results.command_line("demo/hosts/paddleocr_cls.py", words), runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
