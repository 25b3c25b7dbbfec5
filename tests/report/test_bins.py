# SPDX-License-Identifier: Apache-2.0
"""The history of bins survives interruptions, and its picture shows what the numbers say."""
import csv
import types

import numpy as np
import paddle
import pytest
from PIL import Image

from paddle_mrecg.errors import DataError
from paddle_mrecg.report.bins import BIN_COLUMNS, BinHistory, BinPanel, bin_histogram, bins_picture
from paddle_mrecg.strategies.bin_regularization import bin_statistics


def quanter_of(step, bits, axis=None):
    low, high, steps = -2**(bits - 1), 2**(bits - 1) - 1, np.atleast_1d(np.float32(step))
    along = steps if axis is None else steps.reshape(-1, 1)
    return types.SimpleNamespace(step=lambda: paddle.to_tensor(steps), bits=bits, axis=axis,
                                 qmin=low, qmax=high,
                                 gradient_scale=lambda x: 1.0,
                                 codes=lambda x: paddle.to_tensor(np.clip(np.rint(x.numpy()
                                                                                  / along), low,
                                                                          high)))


def layer_of(places, bits, step=0.5):
    """A layer with weights at ``places``, in steps."""
    return types.SimpleNamespace(weight=paddle.to_tensor(np.float32(places) * np.float32(step)),
                                 weight_quanter=quanter_of(step, bits))


def row_of(layer, **changes):
    return dict(dict(layer=layer, bits=3, weights=4, occupied=2, mean_error=0.1, variance=0.01,
                     near=0.5, mse=1e-4,
                     loss=0.25), **changes)


def test_histogram_is_in_steps_and_holds_every_weight():
    low, high, counts = bin_histogram(*vars(layer_of([-9, -1.02, 0.01, 0.01, 1.48, 7], 2)).values())
    assert (low, high, counts.shape, counts.sum()) == (-3, 2, (100,), 6)
    assert {int(k): int(n) for k, n in enumerate(counts) if n} == {0: 1, 39: 1, 60: 2, 89: 1, 99: 1}


def test_histogram_of_a_fine_grid_is_around_the_own_level():
    low, high, counts = bin_histogram(*vars(layer_of([100.2, -50.2, 3.0, 300.0], 8)).values())
    assert (low, high, counts.shape, counts.sum()) == (-1, 1, (40,), 4)
    assert (counts[24] + counts[23] == 1 and counts[15] + counts[16] == 1
            and counts[20] + counts[19] == 1 and counts[39] == 1)


def test_histogram_takes_each_channel_in_its_own_steps():
    places = np.float32([[0.1, 1.1], [0.6, -1.2]])
    steps = np.float32([0.2, 7.0])
    one = bin_histogram(paddle.to_tensor(places), quanter_of(1.0, 3))
    many = bin_histogram(paddle.to_tensor(places * steps[:, None]), quanter_of(steps, 3, axis=0))
    # a value on an edge may change sides
    assert one[:2] == many[:2] and np.abs(one[2] - many[2]).sum() <= 2


def test_history_goes_on_where_it_was_stopped(tmp_path):
    def fill(history, epochs):
        for epoch in epochs:
            layers = [("a.conv", layer_of([0.1 / (epoch + 1), 1, 2], 3)),
                      ("b", layer_of([epoch], 8))]
            history.add(epoch, [row_of("a.conv", near=epoch / 8), row_of("b")], layers)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    fill(BinHistory(str(whole)), range(5))
    fill(BinHistory(str(parts)), range(4))
    resumed = BinHistory(str(parts), resume=True)
    fill(resumed, [2, 3, 4])  # the checkpoint was older than the history
    assert (whole / "bins.csv").read_text() == (parts / "bins.csv").read_text()
    for name in ("a.conv", "b"):
        a, b = BinHistory(str(whole), resume=True).panel(name), resumed.panel(name)
        assert a.epochs == b.epochs == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(a.counts, b.counts)
    assert sorted(p.name for p in parts.iterdir()) == ["bins.csv", "bins.npz"]
    with open(whole / "bins.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (tuple(rows[0]) == BIN_COLUMNS
            and [r["epoch"] for r in rows] == [str(e) for e in range(5) for _ in "ab"])
    assert rows[6]["near"] == "0.375"
    assert BinHistory(str(whole)).rows == []  # without resume a new training begins


def test_a_foreign_history_is_refused(tmp_path):
    (tmp_path / "bins.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="bins.npz.*remove it"):
        BinHistory(str(tmp_path), resume=True)
    with pytest.raises(DataError, match="no layer 'fc'.*there are a"):
        history = BinHistory(str(tmp_path))
        history.add(0, [row_of("a")], [("a", layer_of([0], 3))])
        history.panel("fc")


def test_the_board_gets_every_number(tmp_path):
    calls = {}
    board = types.SimpleNamespace(scalar=lambda tag, value, step: calls.__setitem__(tag, (value,
                                                                                          step)))
    BinHistory(str(tmp_path)).add(3, [row_of("conv")], [("conv", layer_of([0], 3))], board)
    assert calls["bins_near/conv"] == (0.5, 3) and len(calls) == 6


def panel(epochs, bits=3, spread=0.3, label="layer"):
    """Weights that narrow down on their levels."""
    rng, history = np.random.default_rng(0), []
    levels = rng.integers(-2**(bits - 1), 2**(bits - 1), 4000)
    for epoch in range(epochs):
        width = spread * (1 - epoch / max(1, epochs - 1))
        low, high, counts = bin_histogram(*vars(layer_of(levels + rng.uniform(-width, width, 4000),
                                                         bits)).values())
        history.append(counts)
    return BinPanel(label, list(range(epochs)), low, high, np.stack(history))


def test_near_is_the_share_within_a_tenth_of_a_step():
    np.testing.assert_allclose(panel(4, spread=0.4).near(), [0.25, 0.375, 0.75, 1.0], atol=0.03)
    np.testing.assert_allclose(panel(2, bits=8, spread=0.4).near(), [0.25, 1.0], atol=0.03)



@pytest.mark.parametrize("bits", [3, 8])
def test_near_agrees_with_the_statistics(bits):
    layer = layer_of(np.random.default_rng(1).normal(size=3000) * 2**(bits - 2), bits)
    found = bin_statistics(layer.weight, layer.weight_quanter)["near"]
    low, high, counts = bin_histogram(layer.weight, layer.weight_quanter)
    assert (BinPanel("layer", [0], low, high, counts[None]).near()[0]
            == pytest.approx(found, abs=1e-3))


@pytest.mark.parametrize("epochs, bits", [(1, 2), (2, 3), (90, 4), (12, 8)])
def test_picture_has_at_most_nine_rows(epochs, bits, tmp_path):
    path = tmp_path / "bins.png"
    bins_picture(str(path), [panel(epochs, bits)])
    width, height = Image.open(path).size
    assert height == round(150 * (1.7 + 0.65 * min(9, epochs))) and width > 600


def test_picture_shows_the_collapse(tmp_path):
    """In the last epoch all weights lie in two columns per level: most of that row is white."""
    path = tmp_path / "bins.png"
    bins_picture(str(path), [panel(9, spread=0.5), panel(9, spread=0.5, label="again")])
    image = np.asarray(Image.open(path))[:, 70:500].astype(int)
    row_height = 150 * 0.65
    first, last = image[100:100 + int(row_height)], image[-int(1.1 * row_height) - 100:-120]
    coloured = [(rows.max(-1) - rows.min(-1) > 40).mean() for rows in (first, last)]
    assert coloured[0] > 2.5 * coloured[1] > 0
