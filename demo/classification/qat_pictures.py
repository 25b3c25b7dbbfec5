# SPDX-License-Identifier: Apache-2.0
"""Pictures of compare_qat.py: curves, accuracy by bits, and PACT's alphas."""
import statistics
from pathlib import Path
from typing import Dict, List

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paddle_mrecg.report.pictures import BLUE, DPI, GREEN, GREY, ORANGE, save_figure

LSQ, BR = "LSQ", "LSQ+BR"
PACTS = ("PaddleSlim-PACT", "symmetric-PACT")
COLOURS = {LSQ: ORANGE, BR: BLUE}


def draw(runs: List[Dict], folder: Path):
    """Every picture for which there are runs, as ``qat_*.png`` in ``folder``.

    Args:
        runs(list[dict]): records with ``setting`` (network, bits, method),
            ``measured`` and ``curves``.
        folder(Path): made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    networks = list(dict.fromkeys(run["setting"]["network"] for run in runs))
    main = [run for run in runs if run["setting"]["method"] in COLOURS]
    if main:
        bits = sorted({run["setting"]["bits"] for run in main})
        save_figure(_curves(main, networks, bits), str(folder / "qat_curves.png"))
        save_figure(_bars(main, networks, bits), str(folder / "qat_bits.png"))
    traced = [run for run in runs
              if run["setting"]["method"] in PACTS and "alphas" in run["curves"][0]]
    if traced:
        save_figure(_alphas(traced), str(folder / "qat_alphas.png"))


def _curves(runs, networks, bits) -> Figure:
    """Top-1 over epochs: mean line, and all seeds' range."""
    figure = Figure(figsize=(4 * len(bits), 3.4 * len(networks)), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(networks), len(bits), squeeze=False)
    for axes, (network, width) in zip(grid.flat, ((n, b) for n in networks for b in bits)):
        for method, colour in COLOURS.items():
            curves = [[row["test_top1"] for row in run["curves"][1:]]
                      for run in _where(runs, network, width, method)]
            if not curves:
                continue
            columns = list(zip(*curves))
            epochs = range(1, len(columns) + 1)
            axes.plot(epochs, [statistics.fmean(c) for c in columns], color=colour, marker="o",
                      ms=3, label=method)
            axes.fill_between(epochs, [min(c) for c in columns], [max(c) for c in columns],
                              color=colour, alpha=0.2, lw=0)
        axes.set_title(f"{network.replace('cifar_', '')} {width}", fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0, 0].set_ylabel("top-1 %, mean and range of seeds")
    grid[0, 0].legend(frameon=False)
    return figure


def _bars(runs, networks, bits) -> Figure:
    """Top-1 at the end by bits, against the float network."""
    figure = Figure(figsize=(4.5 * len(networks), 3.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
    for axes, network in zip(panels, networks):
        for place, (method, colour) in enumerate(COLOURS.items()):
            for x, width in enumerate(bits):
                values = [run["measured"]["quantized"]
                          for run in _where(runs, network, width, method)]
                if values:
                    spread = statistics.stdev(values) if len(values) > 1 else 0.0
                    axes.bar(x + 0.38 * (place - 0.5), statistics.fmean(values), 0.36, yerr=spread,
                             capsize=3, color=colour,
                             label=method if x == 0 else None)
        level = statistics.fmean(run["measured"]["float"] for run in runs
                                 if run["setting"]["network"] == network)
        axes.axhline(level, color=GREY, ls=":", label="float")
        axes.set_xticks(range(len(bits)), bits)
        axes.set_title(network.replace("cifar_", ""), fontsize=10)
    panels[0].set_ylabel("top-1 %, mean and deviation of seeds")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper center",
                  ncols=3)
    return figure


def _alphas(runs) -> Figure:
    """Alpha of every layer over epochs, of the lowest seed."""
    bits = sorted({run["setting"]["bits"] for run in runs})
    figure = Figure(figsize=(4.5 * len(bits), 3.2 * len(PACTS)), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(PACTS), len(bits), squeeze=False, sharey=True)
    for axes, (method, width) in zip(grid.flat, ((m, b) for m in PACTS for b in bits)):
        found = [r for r in runs
                 if (r["setting"]["method"], r["setting"]["bits"]) == (method, width)]
        for row in found[:1]:
            for layer in row["curves"][0]["alphas"]:
                axes.plot([r["epoch"] for r in row["curves"]],
                          [r["alphas"][layer] for r in row["curves"]],
                          color=GREEN if method == PACTS[1] else ORANGE, lw=0.8, alpha=0.7)
        axes.set_yscale("log")
        axes.set_title(f"{method} {width}", fontsize=10)
        axes.set_xlabel("epoch")
    grid[0, 0].set_ylabel("alpha, a line per layer")
    return figure


def _where(runs, network, bits, method):
    wanted = dict(network=network, bits=bits, method=method)
    return [run for run in runs if run["setting"] == wanted]

