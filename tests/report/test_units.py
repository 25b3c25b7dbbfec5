# SPDX-License-Identifier: Apache-2.0
"""One line and one row per unit say what was measured."""
import csv

import pytest

from paddle_mrecg.report.progress import unit_line
from paddle_mrecg.report.units import UnitReport, write_units_csv
from paddle_mrecg.report.units import UNITS_COLUMNS


def test_line_is_as_documented(make_unit):
    assert unit_line(make_unit(), 8) == ("3/8 layer2.0+layer2.1  loss 0.0412 -> 0.0157 "
                                         "(soft 0.0149, relative 1.2 %)  41 s")


def test_line_tells_why_a_unit_is_special(make_unit):
    note = "op 'multiclass_nms3' is not in the op table"
    line = unit_line(make_unit(restored=True, note=note), 8)
    assert line.endswith(f"[restored from the interrupted run; {note}]")


def test_csv_has_a_row_per_unit_and_per_inner_block_end(make_unit, tmp_path):
    path = tmp_path / "units.csv"
    write_units_csv(str(path), [make_unit(), make_unit(index=3, name="a, b", inner=[])])
    rows = list(csv.DictReader(path.open(newline="")))
    assert tuple(rows[0]) == UNITS_COLUMNS
    assert [r["index"] for r in rows] == ["2", "2.0", "3"]
    assert [r["name"] for r in rows] == ["layer2.0+layer2.1", "layer2.0", "a, b"]
    assert (rows[0]["first_module"], rows[0]["last_module"]) == ("4", "5")
    assert float(rows[0]["relative_hard"]) == pytest.approx(0.0157 / 1.3, rel=1e-5)
    assert float(rows[1]["relative_hard"]) == pytest.approx(0.025)
    assert rows[1]["iterations"] == ""


def test_dict_round_trip_keeps_fields_and_adds_relative_losses(make_unit):
    entry = make_unit().to_dict()
    assert entry["relative_soft"] == pytest.approx(0.0149 / 1.3)
    assert entry["inner"][0]["relative_hard"] == pytest.approx(0.025)
    assert UnitReport.from_dict(entry) == make_unit()


def test_dead_output_has_relative_loss_zero(make_unit):
    assert make_unit(power=0.0).relative_hard == 0.0
