# SPDX-License-Identifier: Apache-2.0
"""report.json is strict JSON that can be read back, and the table says the same."""
import json
import platform

import numpy as np
import pytest

from paddle_mrecg.errors import DataError, OutputError
from paddle_mrecg.report import report as result
from paddle_mrecg.report.report import Report


@pytest.fixture
def make_report(make_unit):
    def make(**changes):
        fields = dict(
            metrics=dict(float=dict(top1=0.815), nearest=dict(top1=0.70),
                         quantized=dict(top1=0.801)),
            units=[make_unit()],
            first_pass=[make_unit(index=0, first_module=0, modules=["m0"], inner=[])],
            weights=dict(conv1=dict(bits=4, scale="per_channel")),
            activations=dict(x=dict(bits=8, signed=True)),
            seconds=dict(read=1.5, reconstruct=203.0),
            seed=7,
            verification=dict(max_abs_diff=2e-6, max_abs_output=11.2, samples=32),
            samples=dict(calibration=256),
            config=dict(MRECG=dict(preset="fast")))
        return Report(**dict(fields, **changes))
    return make


def test_round_trip(make_report, tmp_path):
    path = str(tmp_path / "report.json")
    make_report().save(path)
    assert Report.load(path) == make_report()
    entry = json.load(open(path, encoding="utf-8"))
    assert entry["metrics"]["nearest"] == {"top1": 0.70}
    assert entry["units"][0]["relative_hard"] == pytest.approx(0.0157 / 1.3)
    assert entry["oscillation"]["final"]["absolute_block_ends"]["max"] == 0.05
    assert entry["recovered"]["top1"] == pytest.approx(0.101 / 0.115)
    assert entry["format_version"] == result.FORMAT_VERSION
    assert {"python", "numpy"} <= set(entry["versions"])


def test_values_that_json_has_no_word_for(make_report, make_unit, tmp_path):
    path = str(tmp_path / "report.json")
    make_report(units=[make_unit(loss_hard=np.float32(np.inf), params=np.int64(5))]).save(path)
    unit = json.loads(open(path).read(), parse_constant=pytest.fail)["units"][0]
    assert unit["loss_hard"] is None and unit["params"] == 5
    assert np.isnan(Report.load(path).units[0].loss_hard)


def test_host_name_stays_private(make_report):
    text = json.dumps(make_report().to_dict(), default=str)
    assert platform.node() not in text or len(platform.node()) < 4


@pytest.mark.parametrize("content", [None, "", "[]", "{\"units\": 3}", "{\"units\": [{}]}"])
def test_foreign_report_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match="save_dir of a finished run"):
        Report.load(str(path))


def test_failed_save_leaves_the_old_report_and_no_temporary_file(make_report, tmp_path,
                                                                 monkeypatch):
    path = tmp_path / "report.json"
    path.write_text("old")
    def fail(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("paddle_mrecg.files.os.replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        make_report().save(str(path))
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_table(make_report):
    sizes = dict(float_file=dict(bytes=1_400_000, zipped=1_300_000),
                 quantized_file=dict(bytes=500, zipped=230))
    lines = make_report(sizes=sizes).table().splitlines()
    assert lines[0].split() == ["metric", "float", "nearest", "quantized", "change", "recovered"]
    assert lines[2].split() == ["top1", "0.8150", "0.7000", "0.8010", "-0.0140", "88", "%"]
    assert len(lines[0]) == len(lines[1]) == len(lines[2])
    assert any(line.split() == ["float", "model", "1.40", "MB", "1.30", "MB", "zipped"]
               for line in lines)
    assert "seed 7" in lines[-1]


def test_table_without_metrics_and_with_an_interrupted_run():
    lines = Report(status="interrupted",
                   notes=["2 of 8 units stayed at nearest rounding"]).table().splitlines()
    assert lines[0].startswith("no labels or evaluator")
    assert lines[-2:] == ["status: interrupted", "2 of 8 units stayed at nearest rounding"]


@pytest.mark.parametrize("values, share",
                         [((0.9, 0.5, 0.7), 0.5), ((3.0, 5.0, 4.0), 0.5), ((0.9, 0.9, 0.8), None)])
def test_recovered_share_for_metrics_in_either_direction(values, share):
    metrics = {stage: dict(m=v) for stage, v in zip(("float", "nearest", "quantized"), values)}
    assert (Report(metrics=metrics).recovered("m")
            == (None if share is None else pytest.approx(share)))
