# SPDX-License-Identifier: Apache-2.0
"""The range of each activation, chosen by the error in the outputs of the layers that read it.

No observer serves all networks: classifiers hardly care, text recognisers lose ten words in a
hundred where a range is clipped that another activation of the same network needs clipped. What
counts is not the error of the activation X but that of the layer behind it, ``(Q(X) - X) W``: an
error in what W ignores is harmless, and one that W sums up is not. So every observer proposes, and
sampled rows of each reading layer decide.
"""
from collections import Counter
from typing import Dict, List, Optional

import numpy as np
import paddle

from ..errors import UnsupportedOpError
from ..graph.graph import WEIGHT_SLOTS, Graph, Op, activation_name, weight_name, ops_behind
from ..grids.affine import Encoding, fake_quantize
from ..grids.observers import ActivationObserver
from ..report.progress import get_logger
from .forward import forward
from .layer_rows import LayerRows, layer_rows, sampled_rows
from .scheme import Scheme
from .sums import Powers
from .unit_loss import MEASURE_CHUNK

SCORED = 64  # samples whose rows are looked at
SCORED_POSITIONS = 2048  # positions of a layer's output, over all scored samples
_ELEMENTS = 1 << 21  # of a layer's rows
_FEWEST = 256
PERCENTILES = (0.999, 0.9999, 0.99999)
RANGE_SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def candidates(observer: ActivationObserver) -> Dict[str, Encoding]:
    """The grids to choose from, by the name of what proposes them; equal ones once.

    Args:
        observer(ActivationObserver): has seen the activation and kept its histogram.

    Raises:
        DataError: nothing was seen.
    """
    proposed = {m: observer.encoding(m) for m in ("mse", "min_max", "kl")}
    proposed.update({f"percentile {p:g}": observer.encoding("percentile", p) for p in PERCENTILES})
    proposed.update({f"{s:g} of min_max": observer.shrunk(s) for s in RANGE_SHARES})
    unique: Dict[tuple, str] = {}
    for name, grid in proposed.items():
        unique.setdefault((float(grid.scale), float(grid.zero_point)), name)
    return {name: proposed[name] for name in unique.values()}


def most_positions(layout: LayerRows) -> int:
    """Positions of a layer's output to look at: fewer where a position has many inputs."""
    return min(SCORED_POSITIONS, max(_FEWEST, _ELEMENTS // (layout.groups * layout.rows)))


class _Error:
    """Squared error of each candidate over the power of variation, summed over batches.

    The mean counts: a bias could take it away, but a range that shifts the mean of one batch shifts
    that of another differently.
    """

    def __init__(self, count: int):
        self.error = np.zeros(count)
        self._exact = Powers(kept=(0, 2))

    def add_exact(self, values: np.ndarray):
        """``[G, R, n]``: what the reader gets without quantization."""
        self._exact.add(values)

    def add_change(self, k: int, change: np.ndarray):
        """What candidate ``k`` does to the same values."""
        self.error[k] += np.square(change).sum(dtype=np.float64)

    def relative(self) -> np.ndarray:
        """``[candidates]``; a reader whose values hardly vary is measured by their size."""
        return self.error / max(self._exact.variation(), 1e-6 * self._exact.squares,
                                np.finfo(np.float64).tiny)


class _LayerReader:
    """A quantized layer: ``Q(X) W - X W`` on sampled rows.

    Args:
        op(Op): the layer.
        weight(array): its float weight.
        count(int): candidates.

    Raises:
        UnsupportedOpError: a form of the op that has no rows.
    """

    def __init__(self, op: Op, weight: np.ndarray, count: int):
        self.layout, self.output = layer_rows(op, weight), op.output(WEIGHT_SLOTS[op.type][2])
        self.matrix = self.layout.matrix(weight)
        if self.layout.columns > self.layout.rows:
            # |D W| = |D L| for W = L Q with orthonormal rows in Q: as many columns as inputs do
            self.matrix = np.linalg.qr(self.matrix.swapaxes(1, 2), mode="r").swapaxes(1, 2)
        self.limit = most_positions(self.layout)
        self.score = _Error(count)

    def look(self, x: np.ndarray, values, grids: List[Encoding], seed: int, share: float):
        target = values[self.output].numpy()
        rows = sampled_rows(self.layout, [(x, target)], len(target), seed,
                            max(1, int(self.limit * share)))
        for part, exact in rows:
            self.score.add_exact(exact)
            for k, grid in enumerate(grids):
                change = fake_quantize(part, grid)
                change -= part
                self.score.add_change(k, change @ self.matrix)


class _PlainReader:
    """What reads the activation itself, a shortcut for instance: ``Q(X) - X`` on sampled values."""

    def __init__(self, count: int):
        self.score = _Error(count)

    def look(self, x: np.ndarray, values, grids: List[Encoding], seed: int, share: float):
        count = min(x.size, max(1, int(_ELEMENTS * share)))
        index = np.random.default_rng(seed).integers(0, x.size, count)
        part = x.reshape(1, -1)[:, index][..., None]
        self.score.add_exact(part)
        for k, grid in enumerate(grids):
            self.score.add_change(k, fake_quantize(part, grid) - part)


def scored_batches(num_samples: int) -> int:
    """Batches that ``chosen_ranges`` runs."""
    return -(-min(num_samples, SCORED) // MEASURE_CHUNK)


def chosen_ranges(graph: Graph, scheme: Scheme, samples: Dict[str, np.ndarray],
                  observers: Dict[str, ActivationObserver], count: int, seed: int = 0,
                  progress=None) -> Dict[str, Encoding]:
    """The candidate of least error for each activation, summed over the layers that read it.

    One more pass of the float network over at most ``SCORED`` of the samples; no more than the rows
    of one layer and one batch are held.

    Args:
        graph(Graph): the folded graph.
        scheme(Scheme): which activations are quantized and who reads them.
        samples(dict): input name -> ``[N, ...]``.
        observers(dict): activation -> what was seen of it, with a histogram.
        count(int): the samples that were observed, the first so many.
        seed(int, optional): of the sampled rows. Default: 0.
        progress(callable, optional): called ``scored_batches`` times. Default: None.
    """
    proposed = {n: candidates(observer) for n, observer in observers.items()}
    readers = {n: _readers(n, graph, scheme, len(proposed[n])) for n in observers}
    chosen = np.linspace(0, count - 1, min(count, SCORED)).round().astype(int)
    params = {n: paddle.to_tensor(v) for n, v in graph.params.items()}
    ops = _with_readers(graph, scheme, observers)
    for start in range(0, len(chosen), MEASURE_CHUNK):
        part = chosen[start:start + MEASURE_CHUNK]
        values = dict(params, **{n: paddle.to_tensor(v[part]) for n, v in samples.items()})
        _look(ops, values, readers, proposed, seed * 100003 + start, len(part) / len(chosen))
        if progress:
            progress()
    return _best(proposed, readers)


def _readers(name: str, graph: Graph, scheme: Scheme, count: int) -> Dict[Optional[Op], object]:
    """Reading op -> its error; those without rows share one, under None."""
    found: Dict[Optional[Op], object] = {}
    for op in graph.ops:
        if name not in op.input_names or not scheme.reads_quantized(op, name):
            continue
        try:
            if not scheme.is_quantized(op):
                raise UnsupportedOpError(op.type, " has no weight")
            found[op] = _LayerReader(op, graph.params[weight_name(op, graph)], count)
        except UnsupportedOpError:
            found.setdefault(None, _PlainReader(count))
    return found


def _with_readers(graph: Graph, scheme: Scheme, observers) -> List[Op]:
    """What has to run to see the activations and the outputs of the layers that read them."""
    outputs = [op.output(WEIGHT_SLOTS[op.type][2]) for op in graph.ops
               if scheme.is_quantized(op) and activation_name(op) in observers]
    return ops_behind(graph.ops, [*observers, *outputs])


def _look(ops: List[Op], values, readers, proposed, seed: int, share: float):
    """One batch through the float network."""
    def plain(name):
        if None in readers.get(name, ()):
            readers[name][None].look(values[name].numpy(), values, list(proposed[name].values()),
                                     seed, share)

    for name in [n for n in readers if n in values]:
        plain(name)
    for k, (op, _) in enumerate(forward(ops, values)):
        for name in op.output_names:
            plain(name)
        for name in dict.fromkeys(op.input_names):
            if op in readers.get(name, ()):
                readers[name][op].look(values[name].numpy(), values, list(proposed[name].values()),
                                       seed + k, share)


def _best(proposed, readers) -> Dict[str, Encoding]:
    names = {}
    for name, grids in proposed.items():
        total = sum(reader.score.relative() for reader in readers[name].values())
        names[name] = list(grids)[int(np.argmin(total))]
    get_logger().info("activation ranges by the error of the layers that read them: %s",
                      ", ".join(f"{count} x {name}" for name, count in
                                Counter(names.values()).most_common()))
    return {n: proposed[n][best] for n, best in names.items()}
