# SPDX-License-Identifier: Apache-2.0
"""Compare the granularity policies: a grid of policies, bits and seeds for a
network, one JSON per cell.

    python demo/compare_granularity.py run --model cifar_resnet20 --seeds 0 1 2
    python demo/compare_granularity.py run --model mobilenet_v1 \\
        --policies block "block + QDrop" loss_peaks
    python demo/compare_granularity.py summary --model mobilenet_v1

    python demo/compare_granularity.py study --study policies --bits W2A4 --seeds 0 1

``study`` settles whether joining pays, at equal passes over modules, and repeats the paper's own
studies (``--study curves|random|batch|ablation``); see ``granularity_studies.py``.
``run`` skips the cells that exist, so it can be stopped and started at will. ``--budget NAME``
names a set of overrides (``--set MRECG.num_iters=600 ...``) that both sides of a comparison get.
"""
import argparse
import sys
from pathlib import Path
from typing import NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import granularity_studies, results, sources  # noqa: E402
from demo.classification import cifar10, models  # noqa: E402
from demo.classification.quant_post import job_config, need_data  # noqa: E402
from demo.detection import models as detection_models  # noqa: E402
from demo.ocr import crops  # noqa: E402

PAIRS = {  # neighbours joined two by two, stage by stage; the last block and the classifier alone
    "cifar_resnet20": [[0, 0], [1, 2], [3, 4], [5, 6], [7, 8]],
}
POLICIES = {
    "layer": ["MRECG.granularity=layer"],
    "block": ["MRECG.granularity=block"],
    "block + QDrop": ["MRECG.granularity=block", "MRECG.keep_prob=0.5"],
    "explicit pairs": ["MRECG.granularity=explicit"],
    "explicit pairs, inner 0.1": ["MRECG.granularity=explicit", "MRECG.inner_weight=0.1"],
    "modcap": ["MRECG.granularity=modcap"],
    "loss": ["MRECG.granularity=loss"],
    "loss_peaks": ["MRECG.granularity=loss_peaks"],
    "loss_peaks + QDrop": ["MRECG.granularity=loss_peaks", "MRECG.keep_prob=0.5"],
    "optimal": ["MRECG.granularity=optimal"],
}
EXTRA = ("explicit pairs, inner 0.1", "loss_peaks + QDrop")  # run when asked for


class Network(NamedTuple):
    """Where a network's recipes and results are; ``{bits}`` as in w4a8."""

    results: str
    config: str
    bits: Tuple[str, ...]
    metric: str = "top1"


NETWORKS = {
    "cifar_resnet20": Network("classification/granularity",
                              "classification/cifar_resnet20_mrecg_{bits}.yaml",
                              ("W4A4", "W2A4")),
    "mobilenet_v1": Network("classification/imagenet",
                            "classification/mobilenet_v1_mrecg_{bits}.yaml",
                            ("W4A8", "W4A4")),
    "pplcnetv2": Network("classification/imagenet", "classification/pplcnetv2_mrecg_{bits}.yaml",
                         ("W4A8", "W4A4")),
    "ppocr_rec": Network("ocr/rec", "ocr/ppocrv4_rec_mrecg_{bits}.yaml", ("W4A8",),
                         "word accuracy"),
    "ppocr_det": Network("ocr/det", "ocr/ppocrv4_det_mrecg_{bits}.yaml", ("W4A8",), "hmean"),
    **{name: Network("detection/granularity", f"detection/{name}_mrecg_{{bits}}.yaml", ("W4A8",),
                     "AP50")
       for name in ("yolo_fastest", "yolo_fastest_xl", "picodet")},
}
STUDIED = ("cifar_resnet56",)  # by ``study`` alone


class CifarScores:
    """Top-1 and output error on the test images, computed once per program.

    The float program is that of every cell and the nearest-rounded one that of every policy;
    scoring them again would cost more than the reconstruction. Two programs that agree to the byte
    on the first images are the same. The output error is ``||y - y_float||^2 / ||y_float||^2`` in
    percent, of the logits: what reconstruction minimises, and far less noisy than top-1.
    """

    def __init__(self, data_dir: str):
        self._data_dir, self._scores, self._float = data_dir, {}, None

    def __call__(self, predict):
        images, labels = cifar10.test_set(self._data_dir)
        fingerprint = predict(images[:64])[0].tobytes()
        if fingerprint not in self._scores:
            logits = np.concatenate([predict(batch)[0] for batch in crops.batches(images, 250)])
            # a job scores its float program first
            self._float = logits if self._float is None else self._float
            error = np.square(logits - self._float).sum() / np.square(self._float).sum()
            self._scores[fingerprint] = {"top1": 100.0
                                         * float((logits.argmax(-1) == labels).mean()),
                                         "output error": 100.0 * float(error)}
        return self._scores[fingerprint]


def cell_config(args, setting, seed: int):
    """The network's recipe with a cell's policy, budget and seed."""
    network, model = NETWORKS[setting["model"]], setting["model"]
    path = sources.ROOT / "configs" / network.config.format(bits=setting["bits"].lower())
    policy = POLICIES[setting["policy"]]
    if setting["policy"].startswith("explicit pairs"):
        policy = [*policy, f"MRECG.units={PAIRS[model]}"]
    config = job_config(model, path, [*args.overrides, *policy], args.data_dir, seed)
    config.global_.visualdl, config.global_.tune_cpu = False, True
    return config


def run_cell(args, setting, seed: int, evaluator) -> dict:
    """Quantize once and return the record."""
    from paddle_mrecg import quant_post_mrecg
    model = setting["model"]
    model_dir = (detection_models if model in detection_models.NAMES
                 else models).inference_model(model)
    save_dir = f"{args.save_dir}/{results.cell_path('', setting, seed).stem}"
    result = quant_post_mrecg(model_dir, None, cell_config(args, setting, seed), save_dir=save_dir,
                              evaluator=evaluator)
    units = " ".join(str(len(unit.modules)) for unit in result.plan.units)
    measured = results.measured(result.report, NETWORKS[model].metric)
    if evaluator:
        measured["output error"] = result.report.metrics["quantized"]["output error"]
    return results.run_record(setting, seed, measured, units=units, overrides=args.overrides,
                              seconds=round(sum(result.report.seconds.values()), 1))


def run(args) -> int:
    """All cells that are not there yet."""
    cells = _missing(args)
    if not cells:
        print(f"nothing was run: all cells asked for are in {args.cells_dir}; `summary` prints "
              "their table")
        return 0
    need_data(args.model, args.data_dir)
    import paddle
    paddle.set_device(args.devices)
    evaluator = (CifarScores(args.data_dir or cifar10.DATA_DIR) if args.model.startswith("cifar")
                 else None)
    for path, setting, seed in cells:
        print(f"=== {path.stem}", flush=True)
        results.save_results(path, args.command, [run_cell(args, setting, seed, evaluator)])
    return summary(args)


def _missing(args):
    """Path, setting and seed of the cells that are not there yet."""
    found = []
    for seed in args.seeds:  # one seed of everything first: a stopped grid is still a comparison
        for bits in args.bits or NETWORKS[args.model].bits:
            for policy in args.policies:
                setting = dict(model=args.model, bits=bits, policy=policy, budget=args.budget)
                path = results.cell_path(args.cells_dir, setting, seed)
                if not path.exists() and (args.model in PAIRS
                                          or not policy.startswith("explicit pairs")):
                    found.append((path, setting, seed))
    return found


def summary(args) -> int:
    """Collect the cells of the network's results file and print its table."""
    together = [name for name, network in NETWORKS.items()
                if network.results == NETWORKS[args.model].results]
    cells = [cell for cell in results.load_cells(args.cells_dir)
             if cell["runs"][0]["setting"]["model"] in together]
    runs = [run for cell in cells for run in cell["runs"]]
    if not runs:
        print(f"no cells of {args.model} in {args.cells_dir}: run "
              "`compare_granularity.py run` first")
        return 1
    order = list(POLICIES)
    runs.sort(key=lambda r: (together.index(r["setting"]["model"]), r["setting"]["bits"],
                             r["setting"]["budget"] != "config",
                             r["setting"]["budget"], order.index(r["setting"]["policy"]),
                             r["seed"]))
    _keep_common_measures(runs)
    path = results.save_results(args.results, "python demo/compare_granularity.py run "
                                f"--model {args.model}", runs, cells)
    print(results.markdown_table(results.load_results(path)))
    return 0


def _keep_common_measures(runs):
    """Drop seeds that only some cells have: means over different seeds do not compare."""
    compared = {}
    for run in runs:
        compared.setdefault(tuple(run["setting"][k] for k in ("model", "bits", "budget")),
                            []).append(run["measured"])
    for cells in compared.values():
        common = set.intersection(*map(set, cells))
        for measured in cells:
            for name in set(measured) - common:
                del measured[name]


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "summary", "study"))
    parser.add_argument("--model", choices=[*NETWORKS, *STUDIED], default="cifar_resnet20")
    parser.add_argument("--study", choices=list(granularity_studies.STUDIES), default="policies")
    parser.add_argument("--num_iters", type=int, default=60, help="study: steps per unit")
    parser.add_argument("--num_calib", type=int, default=1024, help="study: calibration images")
    parser.add_argument("--num_eval", type=int, default=2000, help="study: test images")
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES),
                        default=[p for p in POLICIES if p not in EXTRA])
    parser.add_argument("--bits", nargs="+",
                        help="e.g. W4A4 (default: all that the network has a recipe for)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default="config", help="name of this budget in the table")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[],
                        metavar="section.key=value",
                        help="what makes this budget, e.g. MRECG.num_iters=600")
    parser.add_argument("--data_dir", help=f"CIFAR-10 sheets (default {cifar10.DATA_DIR}) or "
                                           "ImageNet calib and val")
    parser.add_argument("--cells_dir", help="default: results/cells in the demo's folder")
    parser.add_argument("--results", help="default: the file that the README's table is made of")
    parser.add_argument("--save_dir", default="output/granularity")
    parser.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    args = parser.parse_args(argv)
    name = NETWORKS["cifar_resnet20" if args.action == "study" else args.model].results
    area, _, file = name.rpartition("/")
    file += f"_{args.study}" if args.action == "study" else ""
    folder = sources.ROOT / "demo" / area / "results"
    args.cells_dir, args.results = (args.cells_dir or folder / "cells",
                                    args.results or folder / f"{file}.json")
    args.command = results.command_line("demo/compare_granularity.py", argv)
    return args


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    if args.action == "study":
        from paddle_mrecg.compat import tune_cpu
        tune_cpu(True)
        return granularity_studies.study(args)
    return {"run": run, "summary": summary}[args.action](args)


if __name__ == "__main__":
    sys.exit(main())
