# SPDX-License-Identifier: Apache-2.0
"""Quantize a trained classification network; score it float, rounded and reconstructed.

    python demo/classification/quant_post.py --model cifar_resnet20 \\
        --config_path configs/classification/cifar_resnet20_mrecg_w4a4.yaml \\
            --save_dir output/cifar_resnet20

``section.key=value`` arguments override the config, as on the command line of ``paddle-mrecg``.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import sources  # noqa: E402
from demo.classification import cifar10, models  # noqa: E402

DEFAULT_CONFIG = str(sources.ROOT / "configs/classification/cifar_resnet20_mrecg_w4a4.yaml")


def job_config(model: str, config_path: str, overrides=(), data_dir: str = None, seed: int = 0):
    """The config with this machine's data folders and the seed filled in."""
    from paddle_mrecg.config.io import load_config
    config = load_config(config_path, list(overrides))
    config.global_.seed = seed
    if model.startswith("cifar"):
        place = dict(data_dir=data_dir or cifar10.DATA_DIR)
        config.data.loader_args = dict(config.data.loader_args, seed=seed, **place)
        config.evaluation.evaluator_args = dict(config.evaluation.evaluator_args, **place)
    elif config.data.loader is None:
        imagenet = Path(data_dir) if data_dir else sources.shared_data("imagenet")
        for data, part in ((config.data, "calib"), (config.evaluation.data, "val")):
            data.image_dir, data.label_file = str(imagenet / part), str(imagenet / f"{part}.txt")
    return config


def need_data(model: str, data_dir=None):
    """Ask for the model's data before anything starts; raises ``sources.Absent``."""
    sources.need(model, data_dir)
    if model.startswith("cifar"):
        cifar10.need(data_dir)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="cifar_resnet20")
    parser.add_argument("--config_path", default=DEFAULT_CONFIG)
    parser.add_argument("--save_dir", default="output/classification")
    parser.add_argument("--data_dir", help=f"CIFAR-10 sheets (default {cifar10.DATA_DIR}) or "
                                           "ImageNet calib and val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    return parser.parse_intermixed_args(argv)


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    need_data(args.model, args.data_dir)
    import paddle
    from paddle_mrecg import quant_post_mrecg
    paddle.set_device(args.devices)
    config = job_config(args.model, args.config_path, args.overrides, args.data_dir, args.seed)
    config.global_.tune_cpu = True
    quant_post_mrecg(models.inference_model(args.model), None, config, save_dir=args.save_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
