# SPDX-License-Identifier: Apache-2.0
"""The table of architectures that are read."""
import numpy as np
import pytest

from demo import results, sources, update_results
from demo.hosts import zoo, zoo_models


def test_one_of_paddleclas_is_read():
    try:
        sources.package_path("paddleclas", "paddleclas==2.6.0")
    except sources.Absent as error:
        pytest.skip(str(error))
    found = zoo.in_process("PaddleClas", "MobileNetV1_x0_25", None)
    assert found["status"] == zoo.READ and found["layers"] == 28 and found["beyond"] == 0
    assert 0 < found["difference"] < zoo.TOLERANCE


def test_what_the_host_cannot_export_is_not_ours(tmp_path):
    found = zoo.in_process("PaddleSeg", "lraspp/none", tmp_path)
    assert found["status"] == zoo.NO and "paddleseg" in found["reason"]


def test_a_process_that_dies_is_a_failure(tmp_path, monkeypatch):
    script = tmp_path / "dies.py"
    script.write_text("import os\nprint('here')\nos._exit(3)\n")
    monkeypatch.setattr(zoo, "__file__", str(script))
    assert zoo.in_process("PaddleClas", "any", None) == dict(status=zoo.FAILED,
                                                             reason="exit code 3: ")


@pytest.mark.parametrize("said, status", [("reading", zoo.NO), (zoo.EXPORTED, zoo.FAILED)])
def test_who_takes_too_long(tmp_path, monkeypatch, said, status):
    script = tmp_path / "slow.py"
    script.write_text(f"import time\nprint({said!r}, flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(zoo, "__file__", str(script))
    monkeypatch.setattr(zoo, "TIMEOUT", 3)
    assert zoo.in_process("PaddleClas", "any", None)["status"] == status


def test_differences_are_relative_and_shapes_count():
    a = np.float32([1.0, -200.0])
    assert zoo.difference([a], [a]) == 0
    assert zoo.difference([a + 1], [a]) == pytest.approx(1 / 200)
    assert zoo.difference([a[:1]], [a]) == zoo.difference([], [a]) == float("inf")
    assert zoo.difference([np.zeros((0, 6))], [np.zeros((0, 6))]) == 0


def test_every_host_has_models_and_sides():
    for host in zoo_models.MODELS:
        names = zoo_models.names_of(host)
        assert len(names) == len(zoo_models.MODELS[host].split())
        assert all(side >= 64 for side in names.values())
    assert zoo_models.names_of("PaddleClas")["AlexNet"] == 224


def test_the_table_counts_and_names(tmp_path):
    def run(model, status, **found):
        setting = dict(host="PaddleSeg", version="2.9", Paddle="3.3.1", model=model)
        return results.run_record(setting, 3, {}, found=dict(status=status, **found))
    assert zoo.table(tmp_path) == results.NOT_YET
    results.save_results(tmp_path / "a.json", "python demo/hosts/zoo.py", [
        run("a/one", zoo.READ), run("a/two", zoo.REFUSED, reason="control flow"),
        run("b/three", zoo.DIFFERENT), run("b/four", zoo.NO, reason="its exporter"),
        run("b/five", zoo.READ)])
    lines = zoo.table(tmp_path).splitlines()
    assert lines[2] == "| PaddleSeg 2.9 | 3.3.1 | 4 of 5 | 2 | 1 | 1 |"
    assert lines[4] == "- **PaddleSeg on 3.3.1** read: one, five."
    assert "- **PaddleSeg on 3.3.1** refused: two (control flow)." in lines
    assert "- **PaddleSeg on 3.3.1** different: three." in lines
    assert any(line.endswith("or Paddle: four.") for line in lines)
    assert "hosts/zoo" in update_results.TABLES
