# SPDX-License-Identifier: Apache-2.0
"""Bin regularization from a strong float network: LSQ alone, with the paper's lambda, and with a
wanted number of e-folds in every layer; ResNet-20 on CIFAR-10 at 2-bit weights and activations.

    python demo/classification/compare_efolds.py run      # all cells that are not there yet
    python demo/classification/compare_efolds.py summary  # table and results file

Every cell starts from the published float weights (91.73 %), sees the same images in the same
order for its seed, and has the same steps. Methods of one seed run one after the other, so that a
stopped grid is a paired comparison too. Finished cells are skipped, and a stopped one goes on
after its last epoch.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo import results, sources  # noqa: E402
from demo.classification.compare_qat import rounded  # noqa: E402
from paddle_mrecg.errors import MrecgError  # noqa: E402
from paddle_mrecg.compat import import_paddle  # noqa: E402

HERE = Path(__file__).resolve().parent
CONFIG = sources.ROOT / "configs" / "classification" / "cifar_resnet20_bin_reg_w2a2.yaml"
NETWORK = "cifar_resnet20"
# method -> what its section BinRegularization holds, None without the term
METHODS = {
    "LSQ": None,
    "LSQ+BR,efolds=2": dict(efolds=2.0, schedule="S1"),
    "LSQ+BR": {},
    "LSQ+BR,efolds=1": dict(efolds=1.0, schedule="S1"),
    "LSQ+BR,efolds=3": dict(efolds=3.0, schedule="S1"),
}


def method_config(bits: str, method: str):
    """The checked config of a cell."""
    from paddle_mrecg.config.io import load_training_config
    quant_aware = dict(target="simulation", weight_bits=int(bits[1]), activation_bits=int(bits[3]))
    bins = METHODS[method]
    return load_training_config(dict(QuantAware=quant_aware,
                                     **({} if bins is None else dict(BinRegularization=bins))))


def train_cell(args, data, bits: str, method: str, seed: int):
    """Train one cell to the end; its record for the results file."""
    from demo.classification.cifar_resnet import load_weights
    from demo.classification.training import networks
    from demo.classification.training.data import calibration
    from demo.classification.training.loop import Trainer
    from demo.classification.training.observe import watching
    from demo.classification.training.schedule import Recipe
    from paddle_mrecg.aware.job import quant_aware_prepare
    from paddle_mrecg.compat import seed_everything
    setting = dict(network=NETWORK, bits=bits, method=method)
    recipe = Recipe(epochs=args.epochs, epoch_images=args.epoch_images, lr=args.lr,
                    batch_size=args.batch_size, epoch_test_images=1000, seed=seed)
    place = results.cell_path(args.save_dir, setting, seed).with_suffix("")
    seed_everything(seed)
    with networks.same_names():
        model = networks.build(NETWORK, data.num_classes)
        load_weights(model, sources.shared_data("weights/cifar10-resnet/cifar10_resnet20.npz"))
        model, penalty = quant_aware_prepare(model, method_config(bits, method),
                                             calibration=calibration(data))
        watch = watching(model, penalty)
        trainer = Trainer(model, data, recipe, penalty, str(place), watch)
        start = dict(epoch=0, **watch(penalty.statistics()))
        rows = trainer.fit(resume=True, visualdl=False)
    layers = penalty.statistics()
    measured = {"quantized": rows[-1]["test_top1"], "train": rows[-1]["train_top1"],
                "weight error dB": rows[-1]["weight_error_db"], "near %": rows[-1]["near"],
                **efolds_of(layers), "seconds": sum(row["seconds"] for row in rows)}
    return results.run_record(setting, seed, measured, recipe=vars(recipe),
                              curves=rounded([start, *rows]), layers=rounded(layers))


def efolds_of(layers):
    """Predicted and measured e-folds, the mean over layers."""
    return {f"{name} e-folds": sum(row[f"{name}_efolds"] for row in layers) / len(layers)
            for name in ("predicted", "measured") if f"{name}_efolds" in layers[0]}


def run(args) -> int:
    """All cells that are not there yet, seed by seed."""
    import_paddle()
    from demo.classification.training import data
    loaded = data.load("cifar10", args.data_dir)
    for seed in args.seeds:
        for method in args.methods:
            setting = dict(network=NETWORK, bits=args.bits, method=method)
            path = results.cell_path(args.cells_dir, setting, seed)
            if not path.exists():
                print(f"=== {path.stem}", flush=True)
                record = train_cell(args, loaded, args.bits, method, seed)
                results.save_results(path, args.command, [record])
                print(record["measured"], flush=True)
    return summary(args)


def summary(args) -> int:
    """Collect the cells into one results file and print its table."""
    found = results.load_cells(args.cells_dir)
    runs = [run for cell in found for run in cell["runs"]]
    if not runs:
        print(f"no cells in {args.cells_dir}: run `compare_efolds.py run` first")
        return 1
    order = {method: k for k, method in enumerate(METHODS)}
    runs.sort(key=lambda r: (r["setting"]["bits"], order[r["setting"]["method"]], r["seed"]))
    table = [{k: v for k, v in run.items() if k not in ("curves", "layers")} for run in runs]
    path = results.save_results(args.results, found[-1]["command"], table, found)
    print(results.markdown_table(results.load_results(path)))
    return 0


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "summary"))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS)[:3],
                        help="default: the first three")
    parser.add_argument("--bits", default="W2A2", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data_dir", default="cache/cifar10")
    size = parser.add_argument_group("size of every cell")
    size.add_argument("--epochs", type=int, default=4, help="(%(default)s)")
    size.add_argument("--epoch_images", type=int, default=20000,
                      help="images per epoch, drawn anew (%(default)s)")
    size.add_argument("--batch_size", type=int, default=64, help="(%(default)s)")
    size.add_argument("--lr", type=float, default=0.01, help="(%(default)s)")
    size.add_argument("--cells_dir", default=str(HERE / "results" / "efolds_cells"))
    size.add_argument("--results", default=str(HERE / "results" / "efolds.json"))
    size.add_argument("--save_dir", default="output/compare_efolds", help="checkpoints")
    args = parser.parse_args(argv)
    args.command = results.command_line("demo/classification/compare_efolds.py", argv)
    return args


def main(argv=None) -> int:
    args = parse_args(argv)
    try:
        return {"run": run, "summary": summary}[args.action](args)
    except (MrecgError, sources.Absent) as error:
        print(f"compare_efolds.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare_efolds.py: interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
