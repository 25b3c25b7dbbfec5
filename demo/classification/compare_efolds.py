# SPDX-License-Identifier: Apache-2.0
"""Bin regularization from a strong float network: LSQ alone, with the paper's lambda, with a
wanted number of e-folds in every layer, and with other remedies.

    python demo/classification/compare_efolds.py time     # milliseconds per step, hours of the grid
    python demo/classification/compare_efolds.py run      # all cells that are not there yet
    python demo/classification/compare_efolds.py summary  # table and results file
    python demo/update_results.py                         # the table in README.md

    # the direction classifier: a step of 8 lines takes 0.2 s of a core, with a penalty 0.3
    python demo/classification/compare_efolds.py run --network text_direction --bits W4A4 \\
        --methods LSQ LSQ+BR LSQ+BR,efolds=1 LSQ+BR,efolds=2 LSQ+dampening LSQ+freezing \\
        "LSQ,last epoch gamma beta" --steps 2000 --batch_size 8 --lr 0.0005 --seeds 0 1 2
    # from solved roundings, at bits that plain training does not learn in these steps
    python demo/classification/compare_efolds.py run --network text_direction --bits W3A4 \\
        --methods LSQ "LSQ,solved start" "LSQ+BR,solved start" "LSQ+BR,efolds=2,solved start" \\
        --steps 2000 --batch_size 8 --lr 0.0001 --seeds 0 1 2
    # where the alphas of symmetric PACT start
    python demo/classification/compare_efolds.py run --bits W4A4 --methods PACT,percentile \\
        PACT,largest --steps 60 --epochs 2 --batch_size 32 --lr 0.002 \\
        --cells_dir demo/classification/results/pact_starts \\
        --results demo/classification/results/pact_start.json

Two networks with published weights: ResNet-20 on CIFAR-10 (91.73 %), and PP-OCR's text direction
classifier on rendered lines (``--network text_direction``), whose steps are cheap. Every cell of a
seed sees the same images in the same order and has the same steps. Methods of one seed run one
after the other, so that a stopped grid is a paired comparison too. Finished cells are skipped, and
a stopped one goes on after its last epoch.
"""
import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2  # noqa: E402,F401  before Paddle 2.6: loaded after its zlib, it crashes

from demo import results, sources  # noqa: E402
from demo.classification import grid  # noqa: E402
from paddle_mrecg.compat import import_paddle  # noqa: E402

HERE = Path(__file__).resolve().parent
RESNET, LINES = "cifar_resnet20", "text_direction"
NUM_LINES = 4096, 1000  # rendered to train on, and held out
# method -> sections and settings that it adds to plain LSQ
METHODS = {
    "LSQ": {},
    "LSQ+BR,efolds=2": dict(BinRegularization=dict(efolds=2.0, schedule="S1")),
    "LSQ+BR": dict(BinRegularization={}),
    "LSQ+BR,efolds=1": dict(BinRegularization=dict(efolds=1.0, schedule="S1")),
    "LSQ+BR,efolds=3": dict(BinRegularization=dict(efolds=3.0, schedule="S1")),
    "LSQ+dampening": dict(Dampening={}),
    "LSQ+freezing": dict(Freezing={}),
    "LSQ,averaged": dict(Recipe=dict(ema_decay=0.99)),
    "LSQ,last epoch gamma beta": dict(QuantAware=dict(affine_epochs=1)),
    "LSQ+BR,last epoch gamma beta": dict(BinRegularization={}, QuantAware=dict(affine_epochs=1)),
    # from post-training's roundings instead of the nearest
    "LSQ,solved start": dict(QuantAware=dict(rounding="solve")),
    "LSQ+BR,solved start": dict(BinRegularization={}, QuantAware=dict(rounding="solve")),
    "LSQ+BR,efolds=2,solved start": dict(BinRegularization=dict(efolds=2.0, schedule="S1"),
                                         QuantAware=dict(rounding="solve")),
    # where symmetric PACT's alpha starts: at the 99.9th percentile, or at the largest value
    "PACT,percentile": dict(SymmetricPACT=dict(init="percentile")),
    "PACT,largest": dict(SymmetricPACT=dict(init="abs_max")),
}


def method_config(network: str, bits: str, method: str):
    """The checked config of a cell. The classifier's hard-swish goes down to -0.375 and up to
    about 8: without an offset (LSQ+) a signed grid spends half of its levels on that.
    """
    from paddle_mrecg.config.io import load_training_config
    sections = {name: given for name, given in METHODS[method].items() if name != "Recipe"}
    quant_aware = dict(target="simulation", weight_bits=int(bits[1]), activation_bits=int(bits[3]))
    if network == LINES and "SymmetricPACT" not in sections:
        quant_aware["activation_quanter"] = "lsq_plus"
    return load_training_config(dict(sections, QuantAware={**quant_aware,
                                                           **sections.get("QuantAware", {})}))


def recipe_of(args, method: str, seed: int, steps: int):
    """Length and learning rate of a cell: ``steps`` in ``args.epochs`` epochs of equal length.

    Raises:
        ConfigError: there are fewer steps than epochs.
    """
    from demo.classification.training.schedule import Recipe
    from paddle_mrecg.errors import ConfigError
    if steps < args.epochs:
        raise ConfigError(f"--steps {steps}: give at least one for each of {args.epochs} epochs")
    images = round(steps / args.epochs) * args.batch_size
    return Recipe(epochs=args.epochs, epoch_images=images, lr=args.lr, batch_size=args.batch_size,
                  epoch_test_images=200, seed=seed, **METHODS[method].get("Recipe", {}))


def float_network(name: str):
    """The network with its published weights."""
    if name == LINES:
        from demo.classification import text_direction
        return text_direction.build()
    from demo.classification.cifar_resnet import load_weights
    from demo.classification.training import networks
    model = networks.build(RESNET, 10)
    load_weights(model, sources.shared_data("weights/cifar10-resnet/cifar10_resnet20.npz"))
    return model


def load_data(args):
    """What ``args.network`` is trained and scored on."""
    if args.network == LINES:
        from demo.classification import text_direction
        return text_direction.load(args.lines_dir, *NUM_LINES)
    from demo.classification.training import data
    return data.load("cifar10", args.data_dir)


def prepared(args, data, setting, seed: int, steps: int):
    """A cell's trainer before its first step, and what it is measured with."""
    from demo.classification.training.data import calibration
    from demo.classification.training.loop import Trainer
    from demo.classification.training.observe import watching
    from paddle_mrecg.aware.job import quant_aware_prepare
    from paddle_mrecg.compat import seed_everything
    seed_everything(seed)
    config = method_config(setting["network"], setting["bits"], setting["method"])
    model, penalty = quant_aware_prepare(float_network(setting["network"]), config,
                                         calibration=calibration(data))
    watch = watching(model, penalty)
    folder = None if args.action == "time" else str(grid.place(args, setting, seed))
    recipe = recipe_of(args, setting["method"], seed, steps)
    return Trainer(model, data, recipe, penalty, folder, watch), watch


def train_cell(args, data, setting, seed: int):
    """Train one cell to the end; its record for the results file."""
    from demo.classification.training import networks
    from demo.classification.training.depthwise import fast_depthwise
    with networks.same_names(), fast_depthwise():
        trainer, watch = prepared(args, data, setting, seed, int(setting["steps"]))
        start = dict(epoch=0, **watch(trainer.penalty.statistics()))
        rows = trainer.fit(resume=True, visualdl=False)
    layers = trainer.penalty.statistics()
    measured = {"quantized": rows[-1]["test_top1"], "train": rows[-1]["train_top1"],
                "weight error dB": rows[-1]["weight_error_db"], "near %": rows[-1]["near"],
                **efolds_of(layers), "seconds": sum(row["seconds"] for row in rows)}
    return results.run_record(setting, seed, measured, recipe=vars(trainer.recipe),
                              curves=grid.rounded([start, *rows]), layers=grid.rounded(layers))


def efolds_of(layers):
    """Predicted and measured e-folds, the mean over layers."""
    return {f"{name} e-folds": sum(row[f"{name}_efolds"] for row in layers) / len(layers)
            for name in ("predicted", "measured") if f"{name}_efolds" in layers[0]}


def cells_of(args):
    """Setting and seed of every cell, in the order in which they are trained."""
    methods = list(METHODS) if "all" in args.methods else args.methods
    return [(dict(network=args.network, bits=bits, method=method, steps=str(args.steps)), seed)
            for seed in args.seeds for bits in args.bits for method in methods]


def run(args) -> int:
    """All cells that are not there yet, seed by seed."""
    import_paddle()
    data = load_data(args)
    grid.run_missing(args, cells_of(args),
                     lambda setting, seed: train_cell(args, data, setting, seed))
    return summary(args)


def time_steps(args) -> int:
    """Print what a step of every method costs in time of a core, and what the grid would take."""
    import_paddle()
    from demo.classification.training import networks
    from demo.classification.training.depthwise import fast_depthwise
    data, hours = load_data(args), 0.0
    for setting, seed in cells_of(args):
        if seed == args.seeds[0]:
            with networks.same_names(), fast_depthwise():
                trainer, _ = prepared(args, data, setting, seed, args.epochs)
                cost = _milliseconds(trainer)
            hours += len(args.seeds) * args.steps * cost / 3.6e6
            print(f"{setting['bits']} {setting['method']}: {cost:.0f} ms a step", flush=True)
    print(f"{args.steps} steps, {len(args.seeds)} seeds: about {hours:.1f} hours without scoring")
    return 0


def _milliseconds(trainer, count: int = 5) -> float:
    """The median of ``count`` steps after a first one."""
    trainer.penalty.on_epoch(trainer.recipe.epochs - 1, trainer.recipe.epochs)
    trainer.network.train()
    images, labels = next(iter(trainer._batches))
    seconds = []
    for _ in range(count + 1):
        start = time.process_time()  # other work on the machine does not count
        trainer._step(images, labels)
        seconds.append(time.process_time() - start)
    return 1000.0 * statistics.median(seconds[1:])


def summary(args) -> int:
    """Collect the cells into one results file and print its table."""
    order = {method: k for k, method in enumerate(METHODS)}

    def rank(record):
        setting = record["setting"]
        return (setting["network"], setting["bits"], int(setting["steps"]),
                order[setting["method"]], record["seed"])
    command = "python demo/classification/compare_efolds.py run"
    return 0 if grid.collect(args, "compare_efolds.py", rank, command) else 1


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "summary", "time"))
    parser.add_argument("--network", choices=(RESNET, LINES), default=RESNET)
    parser.add_argument("--methods", nargs="+", choices=(*METHODS, "all"),
                        default=list(METHODS)[:3], help="default: the first three")
    parser.add_argument("--bits", nargs="+", default=["W2A2"], help="default: W2A2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data_dir", default="cache/cifar10")
    parser.add_argument("--lines_dir", default="cache/text_lines", help="rendered once, to here")
    size = parser.add_argument_group("size of every cell")
    size.add_argument("--steps", type=int, default=600,
                      help="optimizer steps of a cell, on images drawn anew (%(default)s)")
    size.add_argument("--epochs", type=int, default=6,
                      help="which schedules and scores count in: the steps in equal parts "
                           "(%(default)s)")
    size.add_argument("--batch_size", type=int, default=64, help="(%(default)s)")
    size.add_argument("--lr", type=float, default=0.01, help="(%(default)s)")
    size.add_argument("--cells_dir", default=str(HERE / "results" / "efolds_cells"))
    size.add_argument("--results", default=str(HERE / "results" / "efolds.json"))
    size.add_argument("--save_dir", default="output/compare_efolds", help="checkpoints")
    args = parser.parse_args(argv)
    args.words = argv
    return args


def main(argv=None) -> int:
    return grid.main("compare_efolds.py", parse_args(argv),
                     dict(run=run, summary=summary, time=time_steps))


if __name__ == "__main__":
    sys.exit(main())
