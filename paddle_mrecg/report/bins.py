# SPDX-License-Identifier: Apache-2.0
"""How the weights of quantized layers gather on their levels, epoch by epoch:
table, curves and picture.
"""
import csv
import dataclasses
import io
import json
import os
import zipfile
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from ..errors import DataError
from ..files import csv_cell, plain, write_bytes, write_text
from ..grids.affine import NEAR
from .pictures import DPI, GREY, TEXT, TITLE, save_figure
from .vdl import VisualDLWriter

BIN_COLUMNS = ("epoch", "layer", "bits", "weights", "occupied", "mean_error", "variance", "near",
               "mse", "loss", "predicted_efolds", "measured_efolds")
SCALARS = BIN_COLUMNS[4:]  # the last two only where the training was planned
COLUMNS_PER_STEP = 20
MOST_LEVELS_SHOWN = 16
MOST_RIDGES, RIDGE = 9, 0.92  # RIDGE: height, of the space between two
# colours of the first and the last epoch, RGB
FIRST_COLOUR, LAST_COLOUR = np.array([0.62, 0.79, 0.88]), np.array([0.0, 0.27, 0.45])
BINS_STATE, BINS_TABLE = "bins.npz", "bins.csv"


def bin_histogram(weight, quanter) -> Tuple[int, int, np.ndarray]:
    """How many weights lie where, in steps, 20 columns per step.

    Args:
        weight(Tensor): float weights of any shape.
        quanter: the layer that quantizes it, with ``step()``, ``codes()``,
            ``qmin``, ``qmax`` and ``axis``.

    Returns:
        tuple: ``low``, ``high`` and counts, int64 of shape ``[20 (high - low)]``, over that
            range. On a grid of at most
        16 levels the range ends one step beyond the grid; on a finer one it is -1 .. 1 around every
        weight's own level. What lies outside is counted in the outermost columns.
    """
    values, step = weight.numpy().astype(np.float32), quanter.step().numpy()
    place = values / (step if quanter.axis is None else np.expand_dims(
        step, [k for k in range(values.ndim) if k != quanter.axis]))
    low, high = quanter.qmin - 1, quanter.qmax + 1
    if high - low - 1 > MOST_LEVELS_SHOWN:
        place, low, high = place - quanter.codes(weight).numpy(), -1, 1
    edges = np.linspace(low, high, (high - low) * COLUMNS_PER_STEP + 1)
    return low, high, np.histogram(np.clip(place, low, high), edges)[0]


class BinHistory:
    """Bin statistics of a training, kept in a directory: ``bins.csv`` to read, ``bins.npz``
    to go on and to draw from.

    Args:
        folder(str): where the files are; must exist.
        resume(bool, optional): go on with the files that are there. Default: False.

    Raises:
        DataError: ``resume``, and ``bins.npz`` is there but is not a history of bins.

    Examples:
        .. code-block:: python

            history = BinHistory("output/run", resume=True)
            for epoch in range(epochs):
                ...
                history.add(epoch, penalty.statistics(), quantized_layers(model))
            bins_picture("output/run/bins.png", [history.panel("features.3.conv")])
    """

    def __init__(self, folder: str, resume: bool = False):
        self.folder = folder
        self.rows: List[Dict] = []
        self._counts: Dict[str, Dict[int, np.ndarray]] = {}  # layer -> epoch -> histogram
        self._ranges: Dict[str, List[int]] = {}
        if resume and os.path.exists(os.path.join(folder, BINS_STATE)):
            self._load()

    def add(self, epoch: int, rows: Sequence[Dict], layers: Iterable,
            board: Optional[VisualDLWriter] = None):
        """Note an epoch and write the files; an epoch that was there, and what
        followed it, is replaced.

        Args:
            epoch(int): its number.
            rows(list[dict]): ``BinRegularizer.statistics()``.
            layers(iterable of (str, Layer)): quantized layers by name, with ``float_weight()`` (or
                ``weight``, where that is what is quantized) and ``weight_quanter``.
            board(VisualDLWriter, optional): gets every number as
                ``bins_<number>/<layer>``. Default: None.

        Raises:
            OutputError: a file cannot be written.
        """
        self.rows = ([row for row in self.rows if row["epoch"] < epoch]
                     + [dict(row, epoch=epoch) for row in rows])
        for name, layer in layers:
            weight = layer.float_weight() if hasattr(layer, "float_weight") else layer.weight
            low, high, counts = bin_histogram(weight, layer.weight_quanter)
            kept = {e: c for e, c in self._counts.get(name, {}).items()
                    if e < epoch and self._ranges[name] == [low, high]}
            self._ranges[name], self._counts[name] = [low, high], {**kept, epoch: counts}
        self._save()
        if board is not None:
            for row in rows:
                for key in [key for key in SCALARS if key in row]:
                    board.scalar(f"bins_{key}/{row['layer']}", row[key], epoch)

    def panel(self, layer: str, label: Optional[str] = None) -> "BinPanel":
        """What ``bins_picture`` draws of one layer.

        Raises:
            DataError: the layer does not exist.
        """
        if layer not in self._counts:
            raise DataError(f"no layer '{layer}' in the history of bins; there are "
                            f"{', '.join(self._counts) or 'none'}")
        epochs = sorted(self._counts[layer])
        return BinPanel(label or layer, epochs, *self._ranges[layer],
                        np.stack([self._counts[layer][e] for e in epochs]))

    def draw(self, path: str):
        """``bins_picture`` of the largest layer of the fewest bits, over all epochs."""
        shown = max(self.rows, key=lambda row: (-row["bits"], row["weights"]))["layer"]
        bins_picture(path, [self.panel(shown)])

    def _save(self):
        names, text, data = list(self._counts), io.StringIO(), io.BytesIO()
        writer = csv.DictWriter(text, BIN_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: csv_cell(row.get(key, "")) for key in BIN_COLUMNS}
                         for row in self.rows)
        header = dict(rows=self.rows, ranges=self._ranges, layers=names,
                      epochs=[list(self._counts[n]) for n in names])
        np.savez(data, header=np.frombuffer(json.dumps(plain(header)).encode(), np.uint8),
                 **{f"counts_{k}": np.stack(list(self._counts[name].values()))
                    for k, name in enumerate(names)})
        write_text(os.path.join(self.folder, BINS_TABLE), text.getvalue())
        write_bytes(os.path.join(self.folder, BINS_STATE), data.getvalue())

    def _load(self):
        path = os.path.join(self.folder, BINS_STATE)
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(bytes(file["header"]))
                self.rows, self._ranges = header["rows"], header["ranges"]
                for k, (name, epochs) in enumerate(zip(header["layers"], header["epochs"])):
                    self._counts[name] = dict(zip(epochs, file[f"counts_{k}"]))
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"'{path}' is not a history of bins; remove it, or start "
                            "without resume") from error


@dataclasses.dataclass
class BinPanel:
    """Histograms of one weight tensor over the epochs.

    Attributes:
        label(str): heading.
        epochs(list[int]): ascending.
        low(int): left end, in steps; the levels are ``low + 1 .. high - 1``.
        high(int): right end.
        counts(np.ndarray): ``[epochs, 20 (high - low)]``.
    """

    label: str
    epochs: List[int]
    low: int
    high: int
    counts: np.ndarray

    @property
    def levels(self) -> List[int]:
        return list(range(self.low + 1, self.high))

    def near(self) -> np.ndarray:
        """Share of weights within 0.1 step of their level, per epoch."""
        reach = round(NEAR * COLUMNS_PER_STEP)
        middles = [(level - self.low) * COLUMNS_PER_STEP for level in self.levels]
        columns = [c for middle in middles for c in range(middle - reach, middle + reach)]
        return self.counts[:, columns].sum(1) / self.counts.sum(1)


def bins_picture(path: str, panels: Sequence[BinPanel],
                 title: str = "Weights gathering on their levels"):
    """The paper's picture: histograms of the weights, one ridge per epoch, the first on top.

    Every ridge has its own height; the share of weights within 0.1 step of a level is printed
    next to it. Of long trainings evenly spaced epochs are shown, the first and the last among them.

    Args:
        path(str): PNG to write.
        panels(list[BinPanel]): side by side, for instance one layer trained without
            and with bin regularization.
        title(str, optional): headline.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = max(len(_shown_epochs(panel.epochs)) for panel in panels)
    widths = [max(3.8, 0.42 * (panel.high - panel.low)) for panel in panels]
    figure = Figure(figsize=(sum(widths) + 0.6, 1.7 + 0.65 * rows), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=TITLE + 1)
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for panel, ax in zip(panels, axes):
        _draw_panel(ax, panel, rows)
    axes[0].set_ylabel("epoch", fontsize=TEXT)
    save_figure(figure, path)


def _shown_epochs(epochs: Sequence[int]) -> List[int]:
    """Indices of at most ``MOST_RIDGES`` epochs, evenly spaced, both ends included."""
    return sorted({round(k)
                   for k in np.linspace(0, len(epochs) - 1, min(MOST_RIDGES, len(epochs)))})


def _draw_panel(ax, panel: BinPanel, rows: int):
    shown, near = _shown_epochs(panel.epochs), panel.near()
    edges = np.linspace(panel.low, panel.high, panel.counts.shape[1] + 1)
    right = dict(transform=ax.get_yaxis_transform(), fontsize=TEXT - 1, color=GREY, va="bottom")
    for level in panel.levels:
        ax.axvline(level, color="#d0d0d0", linewidth=0.9, zorder=0)
    for row, k in enumerate(shown):
        # The outermost columns also hold everything beyond them and do not set the height.
        ridge = (panel.counts[k] / max(1, panel.counts[k][1:-1].max())).clip(0, 1)
        color = FIRST_COLOUR + (LAST_COLOUR - FIRST_COLOUR) * (row / max(1, len(shown) - 1))
        ax.stairs(RIDGE * ridge - row, edges, baseline=-row, fill=True, color=color, zorder=2)
        ax.axhline(-row, color=color, linewidth=0.9, zorder=2)
        ax.text(1.01, 0.05 - row, f"{100 * near[k]:.0f} %", **right)
    ax.text(1.01, 0.55, "within\n0.1 step", **right)
    ax.set_yticks([-row for row in range(len(shown))], [panel.epochs[k] for k in shown],
                  fontsize=TEXT - 1)
    ax.set_xlim(panel.low, panel.high)
    ax.set_ylim(0.85 - rows, 1.0)
    folded = panel.levels == [0]
    ax.set_xticks([-1, -0.5, 0, 0.5, 1] if folded else panel.levels)
    ax.set_xlabel("distance from the own level (steps)" if folded else "weight (steps)",
                  fontsize=TEXT)
    ax.tick_params(axis="x", labelsize=TEXT - 1)
    ax.tick_params(axis="y", length=0)
    ax.set_title(panel.label, fontsize=TITLE)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
