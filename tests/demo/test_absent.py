# SPDX-License-Identifier: Apache-2.0
"""Without its data a demo says so before it starts, and no stored number passes for a result."""
import pytest

from demo import compare_observers, results, sources
from demo.classification import quant_post as classification
from demo.detection import quant_post as detection
from demo.ocr import rec


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """Measuring data without anything in it, and a job that must not be reached."""
    monkeypatch.setenv("MRECG_SHARED_DATA", str(tmp_path))
    monkeypatch.setattr("paddle_mrecg.config.io.load_config", lambda *_: pytest.fail("it began"))
    return tmp_path


@pytest.mark.parametrize("main, words, model", [
    (rec.main, [], "ppocr_rec"),
    (detection.main, [], "yolo_fastest_xl"),
    (detection.main, ["--model", "picodet"], "picodet"),
    (classification.main, [], "cifar_resnet20"),
    (classification.main, ["--model", "mobilenet_v1"], "mobilenet_v1"),
])
def test_everything_that_is_absent_is_named_before_the_start(main, words, model, nothing, capsys):
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"skipped: {model} needs ") and not said.err
    assert all(name in said.out for name in sources.DATA[model])
    assert "set MRECG_SHARED_DATA" in said.out


def test_what_is_there_is_not_named(nothing):
    for name in sources.DATA["mobilenet_v1"]:
        (nothing / name).mkdir(parents=True)
    sources.need("mobilenet_v1")
    with pytest.raises(sources.Absent, match="picodet needs coco128"):
        sources.need("picodet")


def test_cifar_sheets_are_asked_for_too(nothing, capsys):
    (nothing / "weights" / "cifar10-resnet").mkdir(parents=True)
    assert classification.main(["--data_dir", str(nothing)]) == 1
    assert "no test_batch.png" in capsys.readouterr().out


def test_a_table_of_stored_cells_says_what_it_is(nothing, monkeypatch, capsys):
    monkeypatch.setattr(compare_observers, "CELLS", nothing)
    monkeypatch.setattr(compare_observers, "table", lambda: "TABLE")
    for model, bits, observer in (("MobileNetV1", "W8A8", "mse"),):
        setting = dict(model=model, metric=compare_observers.WORKLOADS[model].metric, bits=bits,
                       observer=observer)
        results.save_results(results.cell_path(nothing, setting, 0), "python x.py", [])
    words = ["--models", "MobileNetV1", "--bits", "W8A8", "--observers", "mse"]
    assert compare_observers.main(words) == 0
    assert capsys.readouterr().out.splitlines() == [results.NOTHING_NEW, "TABLE"]
    assert compare_observers.main([*words, "--table"]) == 0
    assert capsys.readouterr().out == "TABLE\n"
