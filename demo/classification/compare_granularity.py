# SPDX-License-Identifier: Apache-2.0
"""Compare the granularity policies on one network: a grid of policies, bits and seeds, one JSON per cell.

    python demo/classification/compare_granularity.py run --data_dir cache/cifar10 --bits W4A4 W2A4 --seeds 0 1 2
    python demo/classification/compare_granularity.py summary

``run`` skips the cells that exist, so it can be stopped and started at will. ``--budget NAME`` names a set of
overrides (``MRECG.num_iters=600 ...``) that both sides of a comparison get.
"""
import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402
from demo.classification import cifar10, models  # noqa: E402
from demo.classification.quant_post import DEFAULT_CONFIG, job_config, measured  # noqa: E402

HERE = Path(__file__).resolve().parent
POLICIES = {
    "layer": ["MRECG.granularity=layer"],
    "block": ["MRECG.granularity=block"],
    "block + QDrop": ["MRECG.granularity=block", "MRECG.keep_prob=0.5"],
    "explicit pairs": ["MRECG.granularity=explicit", "MRECG.units=[[0, 0], [1, 2], [3, 4], [5, 6], [7, 8]]"],
    "modcap": ["MRECG.granularity=modcap"],
    "loss": ["MRECG.granularity=loss"],
    "loss_peaks": ["MRECG.granularity=loss_peaks"],
    "optimal": ["MRECG.granularity=optimal"],
}


class OncePerProgram:
    """Scores a program once: two that agree to the byte on the first images are the same.

    The float program is that of every cell and the nearest-rounded one that of every policy; scoring them
    again would cost more than the reconstruction.
    """

    def __init__(self, data_dir: str, num_eval: int):
        self._data = dict(data_dir=data_dir, num_samples=num_eval)
        self._scores = {}

    def __call__(self, predict):
        probe = cifar10.test_set(*self._data.values())[0][:64]
        fingerprint = predict(probe)[0].tobytes()
        if fingerprint not in self._scores:
            self._scores[fingerprint] = cifar10.evaluate(predict, **self._data)
        return self._scores[fingerprint]


def cell_path(cells_dir: Path, setting, seed: int) -> Path:
    """File of one cell, named after its setting."""
    words = "_".join([*setting.values(), f"seed{seed}"])
    return Path(cells_dir) / (re.sub(r"[^A-Za-z0-9_.-]+", "-", words) + ".json")


def run_cell(args, setting, seed: int, evaluator) -> dict:
    """Quantise once and return the record."""
    from paddle_mrecg import quant_post_mrecg
    weight_bits, activation_bits = re.fullmatch(r"W(\d+)A(\d+)", setting["bits"]).groups()
    overrides = [f"QuantPost.weight_bits={weight_bits}", f"QuantPost.activation_bits={activation_bits}",
                 *args.overrides, *POLICIES[setting["policy"]]]
    config = job_config(setting["model"], args.config_path, overrides, args.data_dir, seed)
    config.global_.visualdl = False
    save_dir = f"{args.save_dir}/{cell_path(Path(), setting, seed).stem}"
    result = quant_post_mrecg(models.inference_model(setting["model"]), None, config, save_dir=save_dir,
                              evaluator=evaluator)
    units = " ".join(str(len(unit.modules)) for unit in result.plan.units)
    return results.run_record(setting, seed, measured(result.report), num_eval=args.num_eval, units=units,
                              overrides=overrides)


def run(args) -> int:
    """All cells that are not there yet."""
    import paddle
    paddle.set_device(args.devices)
    evaluator = OncePerProgram(args.data_dir, args.num_eval)
    for seed in args.seeds:  # one seed of everything first: a stopped grid is still a comparison
        for bits in args.bits:
            for policy in args.policies:
                setting = dict(model=args.model, bits=bits, policy=policy, budget=args.budget)
                path = cell_path(args.cells_dir, setting, seed)
                if path.exists():
                    continue
                print(f"=== {path.stem}", flush=True)
                results.save_results(path, args.command, [run_cell(args, setting, seed, evaluator)])
    return summary(args)


def summary(args) -> int:
    """Collect the cells into one results file and print its table."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(args.cells_dir).glob("*.json"))]
    if not cells:
        print(f"no cells in {args.cells_dir}: run `compare_granularity.py run` first")
        return 1
    order = {policy: k for k, policy in enumerate(POLICIES)}
    runs = sorted((run for cell in cells for run in cell["runs"]), key=lambda r: (
        r["setting"]["model"], r["setting"]["bits"], r["setting"]["budget"], order[r["setting"]["policy"]], r["seed"]))
    path = results.save_results(args.results, cells[-1]["command"], runs)
    print(results.markdown_table(results.load_results(path)))
    return 0


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "summary"))
    parser.add_argument("--model", choices=[n for n in models.NAMES if n.startswith("cifar")], default="cifar_resnet20")
    parser.add_argument("--config_path", default=DEFAULT_CONFIG)
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--bits", nargs="+", default=["W4A4", "W2A4"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default="config", help="name of this budget in the table")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="section.key=value",
                        help="what makes this budget, e.g. MRECG.num_iters=600")
    parser.add_argument("--data_dir", default=cifar10.DATA_DIR)
    parser.add_argument("--num_eval", type=int, default=cifar10.SHEET_ROWS, help="test images")
    parser.add_argument("--cells_dir", default=str(HERE / "results" / "cells"))
    parser.add_argument("--results", default=str(HERE / "results" / "granularity.json"))
    parser.add_argument("--save_dir", default="output/granularity")
    parser.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    args = parser.parse_args(argv)
    args.command = results.command_line("demo/classification/compare_granularity.py", argv)
    return args


if __name__ == "__main__":
    arguments = parse_args()
    try:
        sys.exit({"run": run, "summary": summary}[arguments.action](arguments))
    except sources.Absent as error:
        sys.exit(f"skipped: {error}")
