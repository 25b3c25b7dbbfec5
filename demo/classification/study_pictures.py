# SPDX-License-Identifier: Apache-2.0
"""Draw what ``demo/compare_granularity.py`` found, as the paper does: the loss behind every module
for each policy, and random partitions against the policies.

    python demo/classification/study_pictures.py      # results/study_partitions.png
"""
import argparse
import sys
from pathlib import Path
from typing import Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402

from demo import results, sources  # noqa: E402

FOLDER = Path(__file__).resolve().parent / "results"
PICTURE = FOLDER / "study_partitions.png"


def module_losses(run: Dict) -> List[Tuple[int, float]]:
    """Module and relative error behind it in percent, of one run; those inside of a unit too."""
    found = {}
    for unit in run["curve"]:
        found[unit["modules"][-1]] = unit["end"]
        found.update({int(module): loss for module, loss in unit["inner"].items()})
    return [(module, 100.0 * loss) for module, loss in sorted(found.items())]


def draw_losses(axes, runs: List[Dict]):
    """For each policy how much more or less is lost behind every module than with ``block``, which
    joins nothing: the losses themselves lie on top of one another.
    """
    lines: Dict[str, List[List[float]]] = {}
    for run in runs:
        if run.get("curve"):
            losses = [loss for _, loss in module_losses(run)]
            lines.setdefault(run["setting"]["policy"], []).append(losses)
    block = np.mean(lines["block"], axis=0)
    for policy, losses in lines.items():
        change = 100.0 * (np.mean(losses, axis=0) / block - 1.0)
        axes.plot(range(len(change)), change, marker="o", markersize=3, linewidth=1.2, label=policy)
    axes.set_xlabel("module")
    axes.set_ylabel("error of its output against block, %")
    axes.set_title("Loss behind every module")
    axes.legend(fontsize=8, frameon=False)


def draw_partitions(axes, runs: List[Dict]):
    """Random partitions as grey points, the policies named; bars are deviations over seeds."""
    for row in results.summarise(runs):
        policy, measured = row["setting"]["policy"], row["measured"]
        if "units" not in measured:
            continue
        units, (error, deviation) = measured["units"][0], measured["output error"]
        chance = policy.startswith("random")
        axes.errorbar(units, error, deviation, fmt="o", color="0.6" if chance else "C3",
                      elinewidth=0.8, zorder=1 if chance else 2,
                      label="random" if policy == "random 0" else None)
        if not chance:
            axes.annotate(policy, (units, error), xytext=(0, 6), textcoords="offset points",
                          fontsize=8, ha="right")
    axes.margins(0.15)
    axes.set_xlabel("units")
    axes.set_ylabel("error of the network's output, %")
    axes.set_title("Random partitions and the policies")
    axes.legend(fontsize=8, frameon=False)


@sources.explained
def main(argv=None) -> int:
    """Both panels in one picture."""
    argparse.ArgumentParser(description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    studies = {}
    for name in ("curves", "random"):
        path = FOLDER / f"study_{name}.json"
        if not path.exists():
            raise sources.Absent(f"no {path.name}: run demo/compare_granularity.py --study {name}")
        studies[name] = results.load_results(path)["runs"]
    from matplotlib.figure import Figure
    from paddle_mrecg.report.pictures import DPI, save_figure
    figure = Figure(figsize=(9, 3.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 2)
    draw_losses(axes[0], studies["curves"])
    draw_partitions(axes[1], studies["random"])
    save_figure(figure, str(PICTURE))
    print(PICTURE.relative_to(sources.ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
