# SPDX-License-Identifier: Apache-2.0
"""Train a classifier, float or quantized, on digits, CIFAR-10 or a folder of images."""
import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo import results, sources  # noqa: E402
from paddle_mrecg.errors import ConfigError, MrecgError  # noqa: E402
from paddle_mrecg.compat import import_paddle  # noqa: E402

OK, USER_ERROR, INTERRUPTED = 0, 2, 130
WEIGHTS, PROGRAM = "weights.pdparams", "model"

EPILOG = """\
examples:
  # digits that come with scikit-learn, a minute on one core
  python demo/classification/train.py --epochs 10 --save_dir output/digits

  # CIFAR-10: float first, then 2-bit weights and activations from its weights,
  # with LSQ and bin regularization
  python demo/classification/train.py --data cifar10 --model cifar_mobilenet_v2 \\
      --epochs 30 --warmup_epochs 2 \\
      --save_dir output/mbv2_float
  python demo/classification/train.py --data cifar10 --model cifar_mobilenet_v2 \\
      --epochs 9 --lr 0.05 \\
      --init output/mbv2_float/weights.pdparams --save_dir output/mbv2_w2a2 \\
      --config_path configs/classification/cifar_mobilenet_v2_bin_reg_w2a2.yaml

  # settings of the config can be given here too
  ... --config_path FILE QuantAware.weight_bits=3 BinRegularization.lambda=0.1

  # killed? the same command goes on after the last finished epoch, and ends with the same bits
  ... --resume

  # your images: flowers/train/<class>/*.jpg, flowers/val/<class>/*.jpg; two processes
  python -m paddle.distributed.launch --nproc_per_node 2 \\
      demo/classification/train.py --data flowers \\
      --model resnet18 --image_size 224 --num_workers 4 --save_dir output/flowers

--save_dir gets curves.json (one row per epoch), visualdl/ (visualdl --logdir DIR),
best.pdparams (best epoch on the test images), weights.pdparams (last epoch), checkpoint.pdparams
(for --resume) and model/ (the program: int8 QDQ with encodings.json when quantized,
else float, ready for `paddle-mrecg quant`).
"""


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what")
    what.add_argument("--model", default="cifar_mobilenet_v3_small", metavar="NAME",
                      help="any function of paddle.vision.models, cifar_resnet20/32/44/56, or "
                           "cifar_mobilenet_v2 and cifar_mobilenet_v3_small, which are made for "
                           "32x32 pixels (default: the last)")
    what.add_argument("--scale", type=float,
                      help="factor on the channels of MobileNets (default: the network's own)")
    what.add_argument("--init", metavar="FILE",
                      help="start from these weights.pdparams of another run, not at random")
    what.add_argument("--config_path", metavar="YAML",
                      help="quantize while training: sections QuantAware, "
                      "BinRegularization, SymmetricPACT; without it training is float")
    what.add_argument("overrides", nargs="*", metavar="Section.key=value",
                      help="settings that win over the YAML")
    data = parser.add_argument_group("data")
    data.add_argument("--data", default="digits",
                      help="digits (default), cifar10, or a folder with train/ and val/")
    data.add_argument("--data_dir", default="cache/cifar10",
                      help="sheets of CIFAR-10, see the head of cifar10.py "
                      "(default: cache/cifar10)")
    data.add_argument("--image_size", type=int, default=224,
                      help="side of the network's input; folders only (224)")
    data.add_argument("--num_train", type=int,
                      help="the first so many training images (default: all)")
    data.add_argument("--epoch_images", type=int,
                      help="images that make an epoch, drawn anew for each (default: all)")
    data.add_argument("--num_workers", type=int, default=0,
                      help="processes that load images; for folders (0)")
    how = parser.add_argument_group("how")
    how.add_argument("--epochs", type=int, default=10, help="(10)")
    how.add_argument("--batch_size", type=int, default=64, help="per process (64)")
    how.add_argument("--lr", type=float, default=0.05,
                     help="peak learning rate; about 0.01 for quantized runs (0.05)")
    how.add_argument("--weight_decay", type=float, default=1e-4, help="L2 (1e-4)")
    how.add_argument("--warmup_epochs", type=float, default=0.0,
                     help="linear rise before the cosine (0)")
    how.add_argument("--label_smoothing", type=float, default=0.0,
                     help="share of the label spread over all classes (0)")
    how.add_argument("--ema_decay", type=float, default=0.0,
                     help="score and save a moving average of the weights, "
                     "e.g. 0.999 (0: off)")
    how.add_argument("--seed", type=int, default=0,
                     help="of everything random: equal seeds give equal bits (0)")
    how.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    out = parser.add_argument_group("result")
    out.add_argument("--save_dir", default="output/train", help="(output/train)")
    out.add_argument("--resume", action="store_true",
                     help="go on after the last epoch in --save_dir, if there is one")
    out.add_argument("--no_visualdl", action="store_true", help="write no VisualDL records")
    out.add_argument("--results", metavar="JSON", help="add the scores to this results file")
    return parser.parse_intermixed_args(argv)


def prepared_network(args, data):
    """The network that is trained, and its penalty (None when float)."""
    from demo.classification.training import checkpoint, networks
    from demo.classification.training.data import calibration
    from paddle_mrecg.compat import seed_everything
    from paddle_mrecg.config.io import load_training_config
    from paddle_mrecg.aware.job import quant_aware_prepare
    if args.overrides and args.config_path is None:
        raise ConfigError(f"'{args.overrides[0]}' has no effect on float training: give "
                          "--config_path too")
    config = (None if args.config_path is None
              else load_training_config(args.config_path, args.overrides))
    seed_everything(args.seed)
    network = networks.build(args.model, data.num_classes, args.scale)
    if args.init:
        checkpoint.load_weights(network, args.init)
    if config is None:
        return network, None
    return quant_aware_prepare(network, config, calibration=calibration(data))


def export(network, data, args):
    """Write the trained network as a program below ``save_dir``."""
    import paddle
    from demo.classification.training.data import calibration
    from paddle_mrecg.aware.job import export_quantized
    size = data.view.size
    spec = [paddle.static.InputSpec([None, 3, size, size], "float32", "image")]
    target = os.path.join(args.save_dir, PROGRAM)
    if args.config_path is None:
        paddle.jit.save(network, os.path.join(target, "inference"), input_spec=spec)
    else:
        export_quantized(network, target, spec, samples=[calibration(data, 4)[0]])


def run(args) -> int:
    """Train, score, export."""
    import paddle
    from demo.classification.training import checkpoint, data, loop, networks, parallel
    from demo.classification.training.depthwise import fast_depthwise
    from demo.classification.training.observe import watching
    from demo.classification.training.schedule import Recipe
    paddle.set_device(args.devices)
    parallel.start()
    recipe = Recipe(args.epochs, args.batch_size, args.lr, args.weight_decay,
                    warmup_epochs=args.warmup_epochs,
                    label_smoothing=args.label_smoothing, ema_decay=args.ema_decay,
                    epoch_images=args.epoch_images,
                    seed=args.seed)
    start = time.monotonic()
    sets = data.load(args.data, args.data_dir, args.image_size, args.num_train)
    with networks.same_names(), fast_depthwise():
        network, penalty = prepared_network(args, sets)
        watch = None if penalty is None else watching(network, penalty)
        trainer = loop.Trainer(network, sets, recipe, penalty, args.save_dir, watch,
                               args.num_workers)
        rows = trainer.fit(args.resume, visualdl=not args.no_visualdl)
    if parallel.rank() == 0:
        checkpoint.save(network.state_dict(), os.path.join(args.save_dir, WEIGHTS))
        export(network, sets, args)
        print(f"top-1 {rows[-1]['test_top1']:.2f} % after epoch {len(rows)}, best "
              f"{trainer.best:.2f} %; all in {args.save_dir}")
        if args.results:
            record(args,
                   dict(top1=rows[-1]["test_top1"], best=trainer.best,
                        seconds=time.monotonic() - start))
    return OK


def record(args, measured):
    """Add this run to a results file; a run of the same setting and seed is replaced."""
    setting = dict(model=args.model, data=Path(args.data).name,
                   config=Path(args.config_path or "float").stem)
    if args.overrides:
        setting["overrides"] = " ".join(args.overrides)
    path = Path(args.results)
    kept = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    kept = [r for r in kept if (r["setting"], r["seed"]) != (setting, args.seed)]
    results.save_results(path, args.command,
                         [*kept, results.run_record(setting, args.seed, measured)])


def main(argv=None) -> int:
    args = parse_args(argv)
    args.command = results.command_line("demo/classification/train.py", argv)
    try:
        import_paddle()
        return run(args)
    except (MrecgError, sources.Absent) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command with --resume goes on after the last "
              "finished epoch", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
