# SPDX-License-Identifier: Apache-2.0
"""What first use takes: one job from a model and images, and its row."""
import numpy as np
import pytest
import yaml
from PIL import Image

from demo import first_use, results, sources
from paddle_mrecg.graph.writer import save_program
from tests.tiny import tiny_graph

PREPROCESS = {"PreProcess": {"transform_ops": [
    {"ResizeImage": {"size": [8, 8]}},
    {"NormalizeImage": dict(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4], scale="1.0/255.0")}]}}


@pytest.fixture
def words(tmp_path):
    """The command line for a small model."""
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for k in range(5):
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(
            tmp_path / "photos" / f"{k}.png")
    save_program(tiny_graph(), str(tmp_path / "net" / "inference"))
    (tmp_path / "net" / "inference.yml").write_text(yaml.safe_dump(PREPROCESS), encoding="utf-8")
    return ["--cells_dir", str(tmp_path / "cells"), "--name", "small", "--paths",
            str(tmp_path / "net"), str(tmp_path / "photos")]


def test_a_job_becomes_a_row_and_is_not_run_again(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no Paddle Lite
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert first_use.main(words) == 0
    run, = results.load_results(tmp_path / "cells" / "small.json")["runs"]
    assert run["setting"] == {"model": "small", "images": "5", "input": "3 x 8 x 8"}
    assert run["measured"]["layers"] == 5 and run["measured"]["seconds"] > 1
    assert run["verdict"] == "agrees" and run["lite"] is False
    monkeypatch.setattr(first_use, "measure", None)
    assert first_use.main(words) == 0
    assert "| small | 3 x 8 x 8 | 5 | 5 |" in capsys.readouterr().out


def test_a_job_that_fails_is_told_in_a_line(words, tmp_path, capsys):
    (tmp_path / "net" / "inference.yml").unlink()
    assert first_use.main(words) == 0
    out = capsys.readouterr().out
    assert "small: paddle-mrecg: how does" in out and results.NOT_YET in out


def test_what_is_absent_is_told_in_a_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sources, "model_dir", lambda name: str(tmp_path))
    monkeypatch.setenv("MRECG_SHARED_DATA", str(tmp_path))
    words = ["--cells_dir", str(tmp_path / "cells"), "--models", "picodet", "pplcnetv2"]
    assert first_use.main(words) == 0
    out = capsys.readouterr().out
    assert "skipped: picodet: no coco128/images/train2017" in out and results.NOT_YET in out
    assert "skipped: pplcnetv2: no imagenet/calib" in out
