# SPDX-License-Identifier: Apache-2.0
"""The picture of which layers hurt: ranked, and along the network."""
from typing import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..report.pictures import BLUE, DPI, GREEN, GREY, ORANGE, TEXT, TITLE, save_figure
from .causes import ranking
from .sensitivity import LayerEffect

MOST_RANKED = 20  # layers in the ranked part


def sensitivity_picture(path: str, layers: Sequence[LayerEffect], whole: float):
    """Left the worst layers with their parts, right all layers in execution order.

    Args:
        path(str): PNG to write.
        layers(list[LayerEffect]): measured, in execution order.
        whole(float): relative error with everything quantized.

    Raises:
        OutputError: the file cannot be written.
    """
    ranked = ranking(layers)[:MOST_RANKED]
    figure = Figure(figsize=(13, 2.6 + 0.25 * len(ranked)), dpi=DPI, layout="constrained")
    figure.suptitle("Error of the network's output, by layer", fontsize=TITLE + 1)
    left, right = figure.subplots(1, 2)
    _bars(left, ranked)
    _along(right, layers, whole)
    for axes in (left, right):
        axes.grid(color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.tick_params(labelsize=TEXT - 1)
    save_figure(figure, path)


def _bars(axes, ranked: Sequence[LayerEffect]):
    places = range(len(ranked))
    for offset, part, color in ((-0.2, "weights", BLUE), (0.2, "activations", ORANGE)):
        axes.barh([p + offset for p in places], [100 * e.on[part] for e in ranked], 0.36,
                  color=color, label=part)
    axes.plot([100 * e.on["both"] for e in ranked], places, linestyle="none", marker="D",
              markersize=4, color=GREY, label="both")
    axes.set_yticks(list(places), [e.weight.replace(".w_0", "") for e in ranked])
    axes.invert_yaxis()
    axes.set_title("this layer alone quantized, worst first", fontsize=TITLE)
    axes.set_xlabel("% of the output's variance", fontsize=TEXT)
    axes.legend(frameon=False, fontsize=TEXT)


def _along(axes, layers: Sequence[LayerEffect], whole: float):
    axes.plot([100 * e.on["both"] for e in layers], "-", color=BLUE, marker="o", markersize=3,
              label="alone quantized")
    axes.plot([100 * (whole - e.off["both"]) for e in layers], "--", color=GREEN, marker="^",
              markersize=3, label=f"gain if alone float (of {100 * whole:.3g} %)")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_title("along the network", fontsize=TITLE)
    axes.set_xlabel("layer", fontsize=TEXT)
    axes.set_ylabel("% of the output's variance", fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=TEXT)
