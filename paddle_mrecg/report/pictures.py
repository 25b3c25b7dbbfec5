# SPDX-License-Identifier: Apache-2.0
"""Pictures for people: the loss along the network, accuracies, weights on their grid.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart;
markers and line styles differ too. Figures are made without pyplot, so that a
caller's backend and open figures stay as they are.
"""
import dataclasses
from typing import Dict, List, Optional, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .files import write_png
from .oscillation import Curve, oscillation

GREY, ORANGE, BLUE, GREEN = "#5f6368", "#D55E00", "#0072B2", "#009E73"
STYLES = ((ORANGE, "o", "--"), (BLUE, "s", "-"), (GREEN, "^", "-."), (GREY, "D", ":"))
DPI = 150
TITLE, TEXT = 12, 10


def oscillation_picture(path: str, curves: Sequence[Curve], title: str = "Reconstruction loss along the network"):
    """The paper's oscillation figure for one's own model.

    Left the loss itself (log scale), right the loss as a share of the float
    output's power. The units of the last curve are shaded where they join
    modules; hollow markers show the inner block ends, which a joined unit does
    not train and whose error the flat run would hide.

    Args:
        path(str): PNG to write.
        curves(list[Curve]): one per partition, at most four; the last one is drawn on top.
        title(str, optional): headline.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 5.2), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=TITLE + 1)
    left, right = figure.subplots(1, 2)
    for curve, style in zip(curves, STYLES):
        _draw_curve(left, curve, curve.losses, {m: loss for m, (loss, _) in curve.inner.items()}, style)
        inner = {m: loss / power for m, (loss, power) in curve.inner.items() if power > 0}
        _draw_curve(right, curve, [100 * v for v in curve.relative_losses], {m: 100 * v for m, v in inner.items()}, style)
    left.set_title("absolute", fontsize=TITLE)
    left.set_ylabel("squared error per position", fontsize=TEXT)
    left.set_yscale("log")
    right.set_title("relative to the float output's power", fontsize=TITLE)
    right.set_ylabel("%", fontsize=TEXT)
    right.set_ylim(bottom=0)
    for axes in (left, right):
        _shade_joined(axes, curves)
        axes.set_xlabel("module", fontsize=TEXT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axes)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=TEXT)
    _save(figure, path)


def _draw_curve(axes, curve: Curve, values: List[float], inner: Dict[int, float], style):
    color, marker, line = style
    drops = oscillation(values)["sum_of_drops"]
    label = f"{curve.label} (sum of drops {drops:.3g})" if axes.get_subplotspec().colspan.start == 0 else curve.label
    axes.plot(range(len(values)), values, line, color=color, marker=marker, markersize=5, linewidth=1.8, label=label)
    if inner:
        axes.plot(list(inner), list(inner.values()), linestyle="none", marker=marker, markersize=7, markerfacecolor="none",
                  markeredgecolor=color, markeredgewidth=1.3, label=f"{curve.label}: inner block ends")


def _shade_joined(axes, curves: Sequence[Curve]):
    spans = [s for s in curves[-1].spans if s[1] > s[0]] if curves else []
    for k, (first, last) in enumerate(spans):
        axes.axvspan(first - 0.4, last + 0.4, color=GREY, alpha=0.12, linewidth=0, zorder=0,
                     label="joined modules" if k == 0 else None)


@dataclasses.dataclass
class AccuracyRow:
    """One group of bars.

    Attributes:
        label(str): setting, e.g. ``W4A8``.
        values(dict): method -> accuracies in %, one per seed.
    """

    label: str
    values: Dict[str, Sequence[float]]


def accuracy_picture(path: str, rows: Sequence[AccuracyRow], title: str, ylabel: str = "accuracy (%)"):
    """Grouped bars with values and, for more than one seed, the range over seeds.

    Args:
        path(str): PNG to write.
        rows(list[AccuracyRow]): one group per row; the methods of the first row set order and colours, at most four.
        title(str): headline.
        ylabel(str, optional): what is measured. Default: ``accuracy (%)``.
    """
    methods = list(rows[0].values)
    figure = Figure(figsize=(max(6.0, 2.0 + 1.1 * len(rows) * len(methods) * 0.75), 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(methods)
    for k, (method, color) in enumerate(zip(methods, (GREY, ORANGE, BLUE, GREEN))):
        seeds = [np.asarray(row.values[method], float) for row in rows]
        means = np.array([s.mean() for s in seeds])
        error = np.array([[s.mean() - s.min(), s.max() - s.mean()] for s in seeds]).T
        x = np.arange(len(rows)) + (k - (len(methods) - 1) / 2) * width
        axes.bar(x, means, width * 0.94, color=color, label=method)
        if error.any():
            axes.errorbar(x, means, error, fmt="none", ecolor="black", elinewidth=1.2, capsize=3)
        for position, mean, up in zip(x, means, error[1]):
            axes.annotate(f"{mean:.1f}", (position, mean + up), (0, 3), textcoords="offset points", ha="center",
                          fontsize=TEXT - 1)
    axes.set_xticks(range(len(rows)), [row.label for row in rows], fontsize=TEXT + 1)
    axes.set_ylabel(ylabel, fontsize=TEXT)
    axes.set_title(title, fontsize=TITLE)
    axes.margins(y=0.12)
    _tidy(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=TEXT)
    _save(figure, path)


def weight_histogram(path: str, name: str, weight: np.ndarray, scale: Optional[float] = None, buckets: int = 200):
    """Distribution of one weight, with its grid.

    Args:
        path(str): PNG to write.
        name(str): headline.
        weight(np.ndarray): float values, any shape.
        scale(float, optional): distance of grid points; None draws no grid. Default: None.
        buckets(int, optional): columns. Default: 200.
    """
    figure = Figure(figsize=(7, 4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.hist(np.asarray(weight).ravel(), buckets, color=BLUE)
    if scale:
        low, high = np.floor(np.min(weight) / scale), np.ceil(np.max(weight) / scale)
        for point in np.arange(low, high + 1):
            axes.axvline(point * scale, color=ORANGE, linewidth=0.8, alpha=0.6)
    axes.set_title(name, fontsize=TITLE)
    axes.set_xlabel("weight", fontsize=TEXT)
    axes.set_ylabel("count", fontsize=TEXT)
    _tidy(axes)
    _save(figure, path)


def _tidy(axes):
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=TEXT - 1)


def _save(figure: Figure, path: str):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    write_png(path, np.asarray(canvas.buffer_rgba())[..., :3])
