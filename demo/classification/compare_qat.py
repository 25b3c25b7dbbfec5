# SPDX-License-Identifier: Apache-2.0
"""Compare quant-aware training on CIFAR-10: bits, bin regularization, its schedules and weight,
and PACT; one JSON per cell.

    # one core each, at the same time
    python demo/classification/compare_qat.py run --networks cifar_mobilenet_v2
    python demo/classification/compare_qat.py run --networks cifar_mobilenet_v3_small
    python demo/classification/compare_qat.py summary  # table, results file, pictures
    # PACT over seeds: 18 cells of 812 steps, 3 float trainings of 8300
    python demo/classification/compare_qat.py run --networks cifar_mobilenet_v3_small \\
        --bits W8A8 W4A4 --methods PaddleSlim PaddleSlim-PACT symmetric-PACT --seeds 0 1 2

``run`` trains the float network of every seed once and starts every cell from it.
Finished cells are skipped and a stopped one goes on after its last epoch, so it can be
stopped and started at will.

Size, for three seeds in three hours on two cores, one network on each. Seconds per step of 64
images on one core, with ``fast_depthwise`` (without it several times as many), Paddle 3.3.1:
MobileNetV2 (width 0.25) float 0.13, LSQ 0.22, LSQ + bin regularization 0.26; MobileNetV3-small
(width 0.5) 0.12, 0.22, 0.25, PaddleSlim 0.19, its PACT 0.26, ours 0.22. An epoch's 1000 test images
cost about 6 training steps, all 10,000 at the end about 60.

* Float: 40 epochs of 200 steps (512,000 images, ten times CIFAR-10) and scores, 8300
  steps: 1080 s and 1000 s.
* A cell: 9 epochs of 78 steps (a tenth of the paper's 90 epochs, and as there a third of
  them before bin regularization starts) and scores, 702 + 110 steps: at most 812 x 0.26 =
  211 s and 812 x 0.26 = 211 s.
* MobileNetV2, 3 seeds x (1080 s + 10 cells x 200 s) = 2.6 h; MobileNetV3-small, 3 x
  (1000 s + 12 x 185 s) = 2.7 h.
"""
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo import results, sources  # noqa: E402
from demo.classification import grid  # noqa: E402
from paddle_mrecg.compat import import_paddle  # noqa: E402

# The size, argued for above.
FLOAT_EPOCHS, FLOAT_EPOCH_IMAGES, FLOAT_LR = 40, 12800, 0.05
EPOCHS, EPOCH_IMAGES, LR = 9, 5000, 0.05
PACT_LR = 0.01  # of the cells that compare PACT: at 0.05 PaddleSlim's ends in NaN

HERE = Path(__file__).resolve().parent
CONFIGS = sources.ROOT / "configs" / "classification"
V2, V3 = "cifar_mobilenet_v2", "cifar_mobilenet_v3_small"
BR, PACT = "LSQ+BR", "symmetric-PACT"

# method -> (stem of the config behind the network's name, overrides of its settings)
METHODS = {
    "LSQ": ("lsq_w2a2", []),
    BR: ("bin_reg_w2a2", []),
    "LSQ+BR,S1": ("bin_reg_w2a2", ["BinRegularization.schedule=S1"]),
    "LSQ+BR,S3": ("bin_reg_w2a2", ["BinRegularization.schedule=S3"]),
    "LSQ+BR,0.1": ("bin_reg_w2a2", ["BinRegularization.lambda=0.1"]),
    "LSQ+BR,1.0": ("bin_reg_w2a2", ["BinRegularization.lambda=1.0"]),
    PACT: ("pact", []),
}
SLIM = {"PaddleSlim": None, "PaddleSlim-PACT": "PACT"}  # method -> activation_preprocess_type
CELLS = [  # (networks, bits, methods)
    ((V2, V3), ("W2A2", "W3A3", "W4A4"), ("LSQ", BR)),
    ((V2,), ("W2A2",), ("LSQ+BR,S1", "LSQ+BR,S3", "LSQ+BR,0.1", "LSQ+BR,1.0")),
    ((V3,), ("W8A8", "W4A4"), (*SLIM, PACT)),
]


def cells(network: str):
    """(bits, method) of a network's cells, those of the main table first."""
    return list(dict.fromkeys((bits, method) for networks, all_bits, methods in CELLS
                              if network in networks
                              for bits in all_bits for method in methods))


def method_config(network: str, bits: str, method: str):
    """The checked config of a cell that this package trains."""
    from paddle_mrecg.config.io import load_training_config
    stem, overrides = METHODS[method]
    weight_bits, activation_bits = bits[1], bits[3]
    if stem == "pact":
        return load_training_config(CONFIGS / f"{network}_pact_{bits.lower()}.yaml", overrides)
    overrides = [f"QuantAware.weight_bits={weight_bits}",
                 f"QuantAware.activation_bits={activation_bits}", *overrides]
    return load_training_config(CONFIGS / f"{network}_{stem}.yaml", overrides)


class Grid:
    """Runs cells on one data set.

    Args:
        args: of the command line.
    """

    def __init__(self, args):
        from demo.classification.training import data
        self.args, self.data = args, data.load("cifar10", args.data_dir, num_train=args.num_train)

    def recipe(self, seed: int, method=None):
        """Length and learning rate of a training, of the float network without ``method``."""
        from demo.classification.training.schedule import Recipe
        args = self.args
        common = dict(batch_size=args.batch_size, epoch_test_images=args.epoch_test_images,
                      seed=seed)
        if method:
            lr = args.pact_lr if method in (*SLIM, PACT) else args.lr
            return Recipe(epochs=args.epochs, epoch_images=args.epoch_images, lr=lr, **common)
        return Recipe(epochs=args.float_epochs, epoch_images=args.float_epoch_images,
                      lr=args.float_lr,
                      warmup_epochs=min(1.0, args.float_epochs / 4), **common)

    def train(self, network, recipe, place: Path, penalty=None, watch=None):
        """Train in ``place`` to the end, going on where it stopped."""
        from demo.classification.training.depthwise import fast_depthwise
        from demo.classification.training.loop import Trainer
        with fast_depthwise():
            trainer = Trainer(network, self.data, recipe, penalty, str(place), watch)
            return trainer.fit(resume=True, visualdl=False)

    def float_weights(self, network: str, seed: int) -> Path:
        """Weights of the float network, trained if they do not exist yet;
        their score is stored next to them.
        """
        from demo.classification.training import checkpoint, networks
        from paddle_mrecg.compat import seed_everything
        from paddle_mrecg.files import write_json
        place = Path(self.args.save_dir) / f"{network}_float_seed{seed}"
        path = place / "weights.pdparams"
        if not path.exists():
            print(f"=== {place.name}", flush=True)
            seed_everything(seed)
            with networks.same_names():
                model = networks.build(network, self.data.num_classes, self.args.scale)
                rows = self.train(model, self.recipe(seed), place)
            write_json(str(place / "rows.json"), rows)
            checkpoint.save(model.state_dict(), path)
        return path

    def run(self, network: str, bits: str, method: str, seed: int):
        """Train one cell; its record for the results file."""
        from demo.classification.training import checkpoint, networks
        from demo.classification.training.observe import watching
        from paddle_mrecg.compat import seed_everything
        setting = dict(network=network, bits=bits, method=method)
        weights = self.float_weights(network, seed)
        float_rows = json.loads((weights.parent / "rows.json").read_text(encoding="utf-8"))
        recipe, place = (self.recipe(seed, method),
                         grid.place(self.args, setting, seed))
        seed_everything(seed)
        with networks.same_names():
            model = networks.build(network, self.data.num_classes, self.args.scale)
            checkpoint.load_weights(model, weights)
            if method in SLIM:
                penalty, watch = (None,
                                  slim_quantized(model, int(bits[1]), int(bits[3]), SLIM[method]))
            else:
                model, penalty = self.ours(model, method_config(network, bits, method))
                watch = watching(model, penalty)
            start = dict(epoch=0, **watch([] if penalty is None else penalty.statistics()))
            rows = self.train(model, recipe, place, penalty, watch)
        measured = {"float": float_rows[-1]["test_top1"], "quantized": rows[-1]["test_top1"],
                    "weight error dB": rows[-1].get("weight_error_db"),
                    "near %": rows[-1].get("near"),
                    "seconds": sum(row["seconds"] for row in rows)}
        layers = penalty.statistics() if penalty is not None else []
        return results.run_record(setting, seed, measured, recipe=vars(recipe),
                                  curves=grid.rounded([start, *rows]),
                                  layers=grid.rounded(layers))

    def ours(self, model, config):
        """Prepared by the two-call API."""
        from demo.classification.training.data import calibration
        from paddle_mrecg.aware.job import quant_aware_prepare
        return quant_aware_prepare(model, config, calibration=calibration(self.data))


def slim_quantized(model, weight_bits: int, activation_bits: int, preprocess):
    """Quantize ``model`` with PaddleSlim's QAT, in place; a function that
    reads the alphas of its PACT.
    """
    from paddleslim.dygraph.quant import qat
    config = dict(weight_bits=weight_bits, activation_bits=activation_bits,
                  activation_preprocess_type=preprocess)
    qat.QAT(config=config).quantize(model)

    def watch(_):
        alphas = {name: layer.alpha.item() for name, layer in model.named_sublayers()
                  if isinstance(layer, qat.PACT)}
        return dict(alphas=alphas) if alphas else {}
    return watch


def run(args) -> int:
    """All cells that are not there yet; one seed of everything first, so that a stopped
    grid is a comparison too.
    """
    import_paddle()
    import paddle
    paddle.set_device(args.devices)
    trainings = Grid(args)
    wanted = ((dict(network=network, bits=bits, method=method), seed)
              for seed in args.seeds for network in args.networks
              for bits, method in cells(network)
              if (not args.methods or method in args.methods)
              and (not args.bits or bits in args.bits))
    grid.run_missing(args, wanted, lambda setting, seed: trainings.run(**setting, seed=seed))
    return summary(args)


def summary(args) -> int:
    """Collect the cells into one results file, print its table, draw the pictures."""
    from demo.classification.qat_pictures import draw
    order = {method: k for k, method in enumerate((*METHODS, *SLIM))}

    def rank(record):
        setting = record["setting"]
        return setting["network"], setting["bits"], order[setting["method"]], record["seed"]
    runs = grid.collect(args, "compare_qat.py", rank,
                        "python demo/classification/compare_qat.py run")
    if not runs:
        return 1
    draw(runs, Path(args.results).parent)
    return 0


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "summary"))
    parser.add_argument("--networks", nargs="+", choices=(V2, V3), default=[V2, V3])
    parser.add_argument("--methods", nargs="+", choices=(*METHODS, *SLIM),
                        help="only these (default: all)")
    parser.add_argument("--bits", nargs="+", help="only these, e.g. W2A2 (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data_dir", default="cache/cifar10")
    parser.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    size = parser.add_argument_group("size, see above")
    size.add_argument("--scale", type=float,
                      help="factor on the channels (MobileNetV2 0.25, MobileNetV3-small 0.5)")
    size.add_argument("--num_train", type=int, help="training images (all)")
    size.add_argument("--batch_size", type=int, default=64, help="(%(default)s)")
    size.add_argument("--epoch_images", type=int, default=EPOCH_IMAGES,
                      help="images per epoch, drawn anew (%(default)s)")
    size.add_argument("--epoch_test_images", type=int, default=1000,
                      help="scored between epochs; the end has all (1000)")
    size.add_argument("--float_epochs", type=int, default=FLOAT_EPOCHS, help="(%(default)s)")
    size.add_argument("--float_epoch_images", type=int, default=FLOAT_EPOCH_IMAGES,
                      help="(%(default)s)")
    size.add_argument("--float_lr", type=float, default=FLOAT_LR, help="(%(default)s)")
    size.add_argument("--epochs", type=int, default=EPOCHS,
                      help="of every quantized cell (%(default)s)")
    size.add_argument("--lr", type=float, default=LR, help="of every quantized cell (%(default)s)")
    size.add_argument("--pact_lr", type=float, default=PACT_LR,
                      help="but of those that compare PACT (%(default)s)")
    size.add_argument("--cells_dir", default=str(HERE / "results" / "qat_cells"))
    size.add_argument("--results", default=str(HERE / "results" / "quant_aware.json"))
    size.add_argument("--save_dir", default="output/compare_qat", help="weights and checkpoints")
    args = parser.parse_args(argv)
    args.words = argv
    return args


def main(argv=None) -> int:
    return grid.main("compare_qat.py", parse_args(argv), dict(run=run, summary=summary))


if __name__ == "__main__":
    sys.exit(main())
