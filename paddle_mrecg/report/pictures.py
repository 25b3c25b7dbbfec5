# SPDX-License-Identifier: Apache-2.0
"""The picture of the loss along the network.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart;
markers and line styles differ too. Figures are made without pyplot, so that a
caller's backend and open figures stay as they are.
"""
from typing import List, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..files import write_png
from .loss_curve import LossCurve, oscillation

GREY, ORANGE, BLUE, GREEN = "#5f6368", "#D55E00", "#0072B2", "#009E73"
STYLES = ((ORANGE, "o", "--"), (BLUE, "s", "-"), (GREEN, "^", "-."), (GREY, "D", ":"))
DPI = 150
TITLE, TEXT = 12, 10


def oscillation_picture(path: str, curves: Sequence[LossCurve],
                        title: str = "Reconstruction loss along the network"):
    """The paper's oscillation figure for one's own model.

    Left the loss itself (log scale), right the loss as a share of the float
    output's power. The units of the last curve are shaded where they join
    modules; hollow markers show the inner block ends, which a joined unit trains
    only with ``MRECG.inner_weight`` and whose error the flat run would hide.

    Args:
        path(str): PNG to write.
        curves(list[LossCurve]): one per partition, at most four; the last one is drawn on top.
        title(str, optional): headline.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 5.2), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=TITLE + 1)
    left, right = figure.subplots(1, 2)
    for curve, style in zip(curves, STYLES):
        ends = curve.at_block_ends()
        _draw_curve(left, curve, curve.losses, ends.losses, style)
        _draw_curve(right, curve, _relative_percent(curve), _relative_percent(ends), style)
    left.set_title("absolute", fontsize=TITLE)
    left.set_ylabel("squared error per position", fontsize=TEXT)
    if any(loss > 0 for curve in curves for loss in curve.losses):
        _log_scale(left)
    right.set_title("relative to the float output's power", fontsize=TITLE)
    right.set_ylabel("%", fontsize=TEXT)
    right.set_ylim(bottom=0)
    for axes in (left, right):
        _shade_joined(axes, curves)
        axes.set_xlabel("module", fontsize=TEXT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axes)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False,
                  fontsize=TEXT)
    save_figure(figure, path)


def _relative_percent(curve: LossCurve) -> List[float]:
    return [100 * v for v in curve.relative_losses]


def _draw_curve(axes, curve: LossCurve, values: List[float], end_values: List[float], style):
    color, marker, line = style
    size = 5 if len(values) <= 40 else 3
    axes.plot(curve.modules, values, line, color=color, marker=marker, markersize=size,
              linewidth=1.8,
              label=f"{curve.label}: sum of drops {oscillation(values)['sum_of_drops']:.3g}")
    inner = [(m, v) for m, v in zip(curve.modules, end_values) if m in curve.inner]
    if inner:
        drops = oscillation(end_values)["sum_of_drops"]
        axes.plot(*zip(*inner), linestyle="none", marker=marker, markersize=size + 2,
                  markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.3,
                  label=f"{curve.label}, inner block ends: sum of drops with them {drops:.3g}")


def _log_scale(axes):
    """Logarithmic, with plain numbers at 1, 2, 5; losses of 0 are left out."""
    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _shade_joined(axes, curves: Sequence[LossCurve]):
    spans = [s for s in curves[-1].spans if s[1] > s[0]] if curves else []
    for k, (first, last) in enumerate(spans):
        axes.axvspan(first - 0.4, last + 0.4, color=GREY, alpha=0.12, linewidth=0, zorder=0,
                     label="joined modules" if k == 0 else None)


def _tidy(axes):
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=TEXT - 1)


def save_figure(figure: Figure, path: str):
    """Write a figure as PNG; raises OutputError."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    write_png(path, np.asarray(canvas.buffer_rgba())[..., :3])
