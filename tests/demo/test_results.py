# SPDX-License-Identifier: Apache-2.0
"""Results files, their tables, and filling them into documents."""
import json
from types import SimpleNamespace

import pytest

from demo import results, update_results
from paddle_mrecg.report.report import Report

MARKDOWN = "before\n<!-- results:area/numbers bits=W4A8 -->\nold\n<!-- /results -->\nafter\n"
YAML = "# title\n# result: area/numbers bits=W4A8\n#   old\nGlobal:\n  seed: 0\n"


@pytest.fixture
def demo_dir(tmp_path):
    runs = [results.run_record(dict(data=data, bits=bits), seed,
                               {"float": 90.0, "MRECG": 80.0 + seed}, seconds=1.0)
            for data in ("lines", "words") for bits in ("W4A8", "W3A8") for seed in (0, 2)]
    results.save_results(tmp_path / "area" / "results" / "numbers.json", "python x.py", runs)
    return tmp_path


def test_mean_and_sample_deviation_over_seeds(demo_dir):
    runs = results.load_results(demo_dir / "area/results/numbers.json")["runs"]
    row, = results.summarise(runs, dict(data="lines", bits="W3A8"))
    assert row["seeds"] == 2
    assert row["measured"]["MRECG"] == (81.0, pytest.approx(2 ** 0.5))
    assert results.cell(row["measured"]["MRECG"]) == "81.00 ± 1.41"
    assert results.cell(row["measured"]["float"]) == "90.00"


def test_markdown_block_is_filled_and_stays(demo_dir):
    filled = update_results.fill_markdown(MARKDOWN, demo_dir)
    assert "| lines | W4A8 | 90.00 | 81.00 ± 1.41 | 2 |" in filled
    assert "W3A8" not in filled and "old" not in filled
    assert filled.startswith("before\n") and filled.endswith("after\n")
    assert update_results.fill_markdown(filled, demo_dir) == filled


def test_yaml_header_is_filled_and_stays(demo_dir):
    filled = update_results.fill_yaml(YAML, demo_dir)
    assert "#   lines: float 90.00, MRECG 81.00 ± 1.41 (2 seeds)\n#   words: " in filled
    assert "old" not in filled and filled.endswith("Global:\n  seed: 0\n")
    assert update_results.fill_yaml(filled, demo_dir) == filled


def test_blocks_without_results_stay_as_they_are(tmp_path):
    assert update_results.fill_markdown(MARKDOWN, tmp_path) == MARKDOWN
    assert update_results.fill_yaml(YAML, tmp_path) == YAML


def test_two_blocks_in_one_document_are_kept_apart(demo_dir):
    twice = MARKDOWN + "between\n" + MARKDOWN.replace("W4A8", "W3A8")
    filled = update_results.fill_markdown(twice, demo_dir)
    assert "between" in filled and "| lines | W3A8 |" in filled and "| lines | W4A8 |" in filled


def test_recorded_command_carries_no_machine_path():
    command = results.command_line("demo/x.py",
                                   ["--data_dir", "/home/me/cifar10", "--seeds", "0", "--policies",
                                    "block + QDrop"])
    assert command == "python demo/x.py --data_dir <cifar10> --seeds 0 --policies 'block + QDrop'"


def test_a_summary_says_where_and_when_its_cells_were_measured(tmp_path):
    for k, (device, date) in enumerate((("one CPU", "2026-01-01"), ("another", "2026-02-01"))):
        path = results.save_results(tmp_path / "cells" / f"{k}.json", "python x.py",
                                    [results.run_record({}, k, {"a": 1.0})])
        path.write_text(json.dumps(dict(results.load_results(path), device=device, date=date)),
                        encoding="utf-8")
    cells = results.load_cells(tmp_path / "cells")
    summary = results.load_results(results.save_results(tmp_path / "all.json", "python x.py", [],
                                                        cells))
    assert summary["device"] == "another and one CPU" and summary["date"] == "2026-02-01"


def test_settings_without_a_run_are_not_measured_yet(demo_dir):
    assert ("\nnot measured yet\n" in update_results.fill_markdown(MARKDOWN.replace("W4A8", "W1A1"),
                                                                   demo_dir))
    assert ("\n#   not measured yet\nGlobal" in update_results.fill_yaml(YAML.replace("W4A8",
                                                                                      "W1A1"),
                                                                         demo_dir))


def test_every_table_of_cells_stands_in_a_document_and_has_its_cells():
    documents = "".join(p.read_text(encoding="utf-8")
                        for p in (update_results.ROOT / "demo").rglob("*.md"))
    for name in update_results.TABLES:
        assert f"<!-- results:{name} -->" in documents, name
        assert update_results.table_of_cells(name, update_results.ROOT / "demo").startswith("| ")


@pytest.mark.parametrize("one, table", [(True, False), (False, True), (False, False)])
def test_absent_cells_are_measured_and_then_the_table_is_printed(one, table, tmp_path, monkeypatch,
                                                                 capsys):
    (tmp_path / "there.json").write_text("{}", encoding="utf-8")
    started, measured = [], []
    monkeypatch.setattr(results.subprocess, "run", lambda words, **_: (
        started.append(words), SimpleNamespace(returncode=1, stdout="", stderr="no data"))[1])
    cells = [(tmp_path / f"{name}.json", ["--name", name], (name, 7)) for name in ("there", "new")]
    assert results.measure_cells(cells, "script.py", SimpleNamespace(one=one, table=table),
                                 lambda *what: measured.append(what), lambda: "TABLE") == 0
    said = capsys.readouterr().out.splitlines()
    if one:
        assert measured == [("there", 7), ("new", 7)] and not started and not said
    elif table:
        assert not measured and not started and said == ["TABLE"]
    else:
        (words,) = started
        assert words[1:] == ["script.py", "--one", "--name", "new"] and not measured
        assert said == ["new: failed: no data", results.NOTHING_NEW, "TABLE"]


@pytest.mark.parametrize("bias, end, recovered", [(80.0, 85.0, 50.0), (80.0, 80.0 - 1e-7, 0.0),
                                                  (91.0, 88.0, None)])
def test_recovered_is_a_share_of_a_loss(bias, end, recovered):
    metrics = {"float": 90.0, "nearest": 70.0, "nearest_bias": bias, "quantized": end}
    report = Report(metrics={stage: {"top1": score} for stage, score in metrics.items()})
    measured = results.run_record({}, 0, results.recovery(report, "top1"))["measured"]
    assert str(measured.get("recovered %")) == str(recovered)  # no minus in front of 0
