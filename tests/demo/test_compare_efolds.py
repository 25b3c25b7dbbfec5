# SPDX-License-Identifier: Apache-2.0
"""The grid of remedies: what each cell trains, that it goes on, and what is made of it."""
import json

import numpy as np
import pytest

from demo.classification import compare_efolds
from demo.classification.training import data, loop
from paddle_mrecg.errors import ConfigError
import paddle


@pytest.mark.parametrize("method", compare_efolds.METHODS)
def test_methods_are_what_they_are_called(method):
    config = compare_efolds.method_config(compare_efolds.RESNET, "W3A4", method)
    assert (config.quant_aware.weight_bits, config.quant_aware.activation_bits) == (3, 4)
    assert (config.bin_regularization is not None) == ("BR" in method)
    if "BR" in method:
        wanted = float(method.partition("efolds=")[2].partition(",")[0] or 0) or None
        assert config.bin_regularization.efolds == wanted
    assert (config.dampening is not None) == ("dampening" in method)
    assert (config.freezing is not None) == ("freezing" in method)
    assert (config.quant_aware.affine_epochs == 1) == ("last epoch" in method)
    assert (config.quant_aware.rounding == "solve") == ("solved start" in method)
    lines = compare_efolds.method_config(compare_efolds.LINES, "W3A4", method).quant_aware
    assert lines.activation_quanter == ("symmetric_pact" if "PACT" in method else "lsq_plus")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """``small(action, *words)`` runs the script on a tiny network and random images."""
    def network(_):
        return paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4),
                                    paddle.nn.ReLU(), paddle.nn.Conv2D(4, 4, 3),
                                    paddle.nn.AdaptiveAvgPool2D(1), paddle.nn.Flatten(),
                                    paddle.nn.Linear(4, 2))
    values = np.random.default_rng(0).integers(0, 256, (32, 3, 8, 8)).astype(np.uint8)
    images = data.ImageArrays(values, np.arange(32) % 2)
    monkeypatch.setattr(compare_efolds, "float_network", network)
    monkeypatch.setattr(compare_efolds, "load_data", lambda args: data.DataSets(
        images, images, 2, data.View(8, 0, False)))
    folders = ["--cells_dir", str(tmp_path / "cells"), "--results", str(tmp_path / "all.json"),
               "--save_dir", str(tmp_path / "out")]

    def run(action, *words):
        return compare_efolds.main([action, *folders, "--seeds", "0", "--epochs", "2",
                                    "--batch_size", "8", *words])
    run.folder = tmp_path
    return run


def test_cells_of_every_bit_width_have_the_same_steps_and_are_not_run_again(small, monkeypatch):
    words = ["--bits", "W4A4", "W3A3", "--steps", "6", "--methods", "LSQ", "LSQ+freezing",
             "LSQ,averaged"]
    assert small("run", *words) == 0
    cells = sorted((small.folder / "cells").glob("*.json"))
    assert len(cells) == 6
    for path in cells:
        run, = json.loads(path.read_text(encoding="utf-8"))["runs"]
        recipe = run["recipe"]
        assert run["setting"]["steps"] == "6"
        assert recipe["epochs"] * recipe["epoch_images"] == 6 * recipe["batch_size"]
        assert (recipe["ema_decay"] > 0) == (run["setting"]["method"] == "LSQ,averaged")
    monkeypatch.setattr(loop.Trainer, "fit", None)
    assert small("run", *words) == 0
    table = json.loads((small.folder / "all.json").read_text(encoding="utf-8"))
    assert len(table["runs"]) == 6


def test_a_stopped_cell_goes_on_after_its_last_epoch(small, monkeypatch):
    words = ["--bits", "W4A4", "--steps", "4", "--methods", "LSQ+BR,efolds=1"]
    epoch, seen = loop.Trainer._epoch, []

    def stopping(self, number, bar):
        seen.append(number)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return epoch(self, number, bar)
    monkeypatch.setattr(loop.Trainer, "_epoch", stopping)
    assert small("run", *words) == 130
    assert small("run", *words) == 0
    assert seen == [0, 1, 1]


def test_time_prints_a_line_per_method_and_writes_nothing(small, capsys):
    assert small("time", "--steps", "4", "--methods", "LSQ", "LSQ+BR") == 0
    printed = capsys.readouterr().out
    assert printed.count("ms a step") == 2 and "hours" in printed
    assert not list(small.folder.iterdir())


def test_fewer_steps_than_epochs_are_refused():
    args = compare_efolds.parse_args(["run"])
    with pytest.raises(ConfigError, match="at least one for each"):
        compare_efolds.recipe_of(args, "LSQ", 0, 1)
