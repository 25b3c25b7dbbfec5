# SPDX-License-Identifier: Apache-2.0
"""The grid of training methods: which cells there are, what a cell
records, what is made of them.
"""
import json
from pathlib import Path

import numpy as np
import pytest

import paddle
from demo import results
from demo.classification import compare_qat
from demo.classification.training import data


def test_the_grid_holds_what_the_comparison_needs():
    v2, v3 = compare_qat.cells(compare_qat.V2), compare_qat.cells(compare_qat.V3)
    pairs = [(bits, method) for bits in ("W2A2", "W3A3", "W4A4") for method in ("LSQ", "LSQ+BR")]
    assert set(pairs) <= set(v2) and set(pairs) <= set(v3)
    assert len(v2) == len(set(v2)) == 6 + 4 and len(v3) == len(set(v3)) == 6 + 2 * 3


@pytest.mark.parametrize("network", [compare_qat.V2, compare_qat.V3])
def test_cells_are_what_they_are_called(network):
    for bits, method in compare_qat.cells(network):
        if method in compare_qat.SLIM:
            continue
        config = compare_qat.method_config(network, bits, method)
        assert f"W{config.quant_aware.weight_bits}A{config.quant_aware.activation_bits}" == bits
        assert (config.bin_regularization is not None) == method.startswith("LSQ+BR")
        if method.startswith("LSQ+BR"):
            option = method.partition(",")[2]
            expected = ("S2", float(option)) if "." in option else (option or "S2", 0.5)
            assert ((config.bin_regularization.schedule, config.bin_regularization.lambda_)
                    == expected)


def rows(method, seed, last):
    """A cell's curves of three epochs."""
    alphas = {"alphas": {"conv": 3.0, "fc": 2.0}} if "PACT" in method else {}
    return ([dict(epoch=0, **alphas)]
            + [dict(epoch=e, test_top1=last + seed - 2 * (2 - e), **alphas) for e in (1, 2)])


@pytest.fixture
def finished(tmp_path):
    """Two seeds of four cells."""
    for seed in (0, 1):
        for method, last in (("LSQ", 60.0), ("LSQ+BR", 64.0), ("PaddleSlim-PACT", 70.0),
                             ("symmetric-PACT", 71.0)):
            bits = "W4A4" if "PACT" in method else "W2A2"
            setting = dict(network=compare_qat.V3, bits=bits, method=method)
            record = results.run_record(setting, seed, {"float": 80.0, "quantized": last + seed},
                                        curves=rows(method, seed, last), layers=[])
            results.save_results(results.cell_path(tmp_path / "qat_cells", setting, seed),
                                 "python x.py", [record])
    return tmp_path


def test_summary_makes_a_table_a_results_file_and_pictures(finished, capsys):
    arguments = ["summary", "--cells_dir", str(finished / "qat_cells"), "--results",
                 str(finished / "quant_aware.json")]
    assert compare_qat.main(arguments) == 0
    table = capsys.readouterr().out
    assert "LSQ+BR | 80.00 | 64.50 ± 0.71 | 2 |" in table
    assert table.index("| LSQ |") < table.index("| LSQ+BR |") < table.index("PACT")
    saved = results.load_results(finished / "quant_aware.json")
    assert len(saved["runs"]) == 8 and not any("curves" in run for run in saved["runs"])
    assert ({p.name for p in finished.glob("*.png")}
            == {"qat_curves.png", "qat_bits.png", "qat_alphas.png"})
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in finished.glob("*.png"))


def test_without_cells_it_says_what_to_run(tmp_path, capsys):
    assert compare_qat.main(["summary", "--cells_dir", str(tmp_path)]) == 1
    assert "compare_qat.py run" in capsys.readouterr().out


SMALL = ["--scale", "0.25", "--seeds", "0", "--epoch_images", "16", "--float_epoch_images", "16",
         "--batch_size", "8",
         "--float_epochs", "1", "--epochs", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("bits, method",
                         [("W2A2", "LSQ+BR"), ("W4A4", "PaddleSlim-PACT"),
                          ("W4A4", "symmetric-PACT")])
def test_a_cell_of_every_kind_runs_and_is_not_run_again(tmp_path, monkeypatch, bits, method):
    rng = np.random.default_rng(0)
    images = data.ImageArrays(rng.integers(0, 256, (32, 3, 32, 32)).astype(np.uint8),
                              np.arange(32) % 10)
    monkeypatch.setattr(data, "load", lambda
                        *args, **kwargs: data.DataSets(images, images, 10, data.View(32, 4, True)))
    arguments = ["run", *SMALL, "--networks", compare_qat.V3, "--bits", bits, "--methods", method,
                 "--save_dir",
                 str(tmp_path / "out"), "--cells_dir", str(tmp_path / "cells"), "--results",
                 str(tmp_path / "all.json")]
    assert compare_qat.main(arguments) == 0
    path, = Path(tmp_path / "cells").glob("*.json")
    record, = json.loads(path.read_text())["runs"]
    assert record["setting"] == dict(network=compare_qat.V3, bits=bits, method=method)
    assert [row["epoch"] for row in record["curves"]] == [0, 1] and record["recipe"]["epochs"] == 1
    if "PACT" in method:
        assert len(record["curves"][1]["alphas"]) > 30
        start = 100.0 if method.startswith("PaddleSlim") else None
        assert start is None or set(record["curves"][0]["alphas"].values()) == {start}
    else:
        assert len(record["layers"]) > 30 and record["measured"]["weight error dB"] < 0
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(paddle, "save", None)
    assert compare_qat.main(arguments) == 0 and path.stat().st_mtime_ns == before
