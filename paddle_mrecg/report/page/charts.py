# SPDX-License-Identifier: Apache-2.0
"""Where the lines and bars of a picture are, in the units of its viewBox; the template draws them.

Text in a picture is numbers only: words stand around it, in both languages.
"""
import dataclasses
import math
from typing import List, Sequence, Tuple

from matplotlib.ticker import LogLocator, MaxNLocator

from ..layers import Histogram

CHART_WIDTH, CHART_HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 10, 26  # margins, for the numbers at the axes
FEW = 34  # levels that can be told apart as lines


@dataclasses.dataclass
class Line:
    """A curve.

    Attributes:
        kind(str): its colour and dashes, a class of the style sheet.
        path(str): of an SVG path.
        points(list[tuple]): x and y of markers.
    """

    kind: str
    path: str
    points: List[Tuple[float, float]]


@dataclasses.dataclass
class Chart:
    """A picture; ticks are (position, text), bands are (x, width)."""

    lines: List[Line] = dataclasses.field(default_factory=list)
    x_ticks: List[Tuple[float, str]] = dataclasses.field(default_factory=list)
    y_ticks: List[Tuple[float, str]] = dataclasses.field(default_factory=list)
    bands: List[Tuple[float, float]] = dataclasses.field(default_factory=list)
    levels: List[float] = dataclasses.field(default_factory=list)
    area: str = ""
    width: int = CHART_WIDTH
    height: int = CHART_HEIGHT
    left: int = LEFT
    right: int = CHART_WIDTH - RIGHT
    top: int = TOP
    bottom: int = CHART_HEIGHT - BOTTOM


def curves(series: Sequence[Tuple[str, Sequence[float], Sequence[float]]],
           bands: Sequence[Tuple[float, float]] = (), markers: bool = True) -> Chart:
    """Curves over a common axis, logarithmic in y; values of 0 and below are left out.

    Args:
        series(list[tuple]): (kind, xs, ys) of each.
        bands(list[tuple], optional): first and last x of what is shaded. Default: ().
        markers(bool, optional): a marker at every point. Default: True.
    """
    chart = Chart()
    xs = [x for _, line, _ in series for x in line]
    ys = [y for _, _, line in series for y in line if math.isfinite(y) and y > 0]
    if not xs or not ys:
        return chart
    low, high = math.log10(min(ys)), math.log10(max(ys))
    middle, reach = (low + high) / 2, max(0.15, 0.55 * (high - low))  # a flat line stays visible
    low, high = middle - reach, middle + reach
    first, last = min(xs), max(xs)
    pad = max(0.5, 0.02 * (last - first))
    place_x = _linear(first - pad, last + pad, chart.left, chart.right)
    place_y = _linear(low, high, chart.bottom, chart.top)
    for kind, line, values in series:
        points = [(place_x(x), place_y(math.log10(y))) for x, y in zip(line, values)
                  if math.isfinite(y) and y > 0]
        chart.lines.append(Line(kind, _path(points), points if markers else []))
    chart.bands = [(place_x(a - 0.4), place_x(b + 0.4) - place_x(a - 0.4)) for a, b in bands]
    chart.x_ticks = [(place_x(x), f"{x:g}") for x in
                     MaxNLocator(6, integer=True).tick_values(first, last) if first <= x <= last]
    chart.y_ticks = [(place_y(math.log10(y)), f"{y:.3g}") for y in _log_ticks(low, high)]
    return chart


def _log_ticks(low: float, high: float) -> List[float]:
    """About five round numbers between two powers of ten."""
    if high - low < 0.7:  # few powers and halves of them lie so close together
        return [t for t in MaxNLocator(5).tick_values(10**low, 10**high)
                if t > 0 and low <= math.log10(t) <= high]
    for subs in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = [t for t in LogLocator(subs=subs, numticks=50).tick_values(10**low, 10**high)
                 if low <= math.log10(t) <= high]
        if len(ticks) >= 3:
            break
    return ticks[::math.ceil(len(ticks) / 6)]


def bars(histogram: Histogram) -> Chart:
    """A histogram with its grid; heights are logarithms of the counts."""
    chart = Chart(height=150, bottom=150 - BOTTOM, left=RIGHT)
    place_x = _linear(histogram.low, histogram.high, chart.left, chart.right)
    tallest = math.log1p(max(max(histogram.counts), 1))
    place_y = _linear(0.0, tallest, chart.bottom, chart.top)
    width = (histogram.high - histogram.low) / len(histogram.counts)
    text = f"M{place_x(histogram.low):.1f} {chart.bottom}"
    for k, count in enumerate(histogram.counts):
        text += (f"V{place_y(math.log1p(count)):.1f}"
                 f"H{place_x(histogram.low + (k + 1) * width):.1f}")
    chart.area = text + f"V{chart.bottom}Z"
    low, high = place_x(histogram.grid_low), place_x(histogram.grid_high)
    chart.bands = [(low, high - low)]
    if histogram.levels <= FEW:
        step = (histogram.grid_high - histogram.grid_low) / max(1, histogram.levels - 1)
        chart.levels = [place_x(histogram.grid_low + k * step) for k in range(histogram.levels)]
    ticks = [histogram.grid_low, histogram.grid_high]
    reach = histogram.grid_high - histogram.grid_low
    if min(abs(t) for t in ticks) > 0.15 * reach and ticks[0] < 0 < ticks[1]:
        ticks.append(0.0)
    chart.x_ticks = [(place_x(t), f"{t:.3g}") for t in ticks]
    return chart


def lane(value: float, values: Sequence[float]) -> float:
    """Where a value lies between the lowest and the highest, in percent, with room at the ends."""
    low, high = min(values), max(values)
    return 50.0 if high == low else 6 + 88 * (value - low) / (high - low)


def _linear(low: float, high: float, start: float, end: float):
    return lambda value: round(start + (end - start) * (value - low) / (high - low), 1)


def _path(points: Sequence[Tuple[float, float]]) -> str:
    return "".join(f"{'L' if k else 'M'}{x:g} {y:g}" for k, (x, y) in enumerate(points))
