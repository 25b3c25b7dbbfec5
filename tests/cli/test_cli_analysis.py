# SPDX-License-Identifier: Apache-2.0
"""``paddle-mrecg analyze`` and ``auto``: what it prints, where it writes, what it refuses."""
import json
import re

import numpy as np
import pytest
import yaml
from PIL import Image

from paddle_mrecg.cli import main as cli
from tests.jobs import model_dir  # noqa: F401


@pytest.fixture
def config_file(tmp_path, model_dir):  # noqa: F811
    """Twelve images for the tiny network."""
    rng = np.random.default_rng(0)
    for k in range(12):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    (tmp_path / "labels.txt").write_text("".join(f"{k}.png {k % 4}\n" for k in range(12)),
                                         encoding="utf-8")
    sections = {"Global": {"model_dir": model_dir, "save_dir": str(tmp_path / "out")},
                "Data": {"image_dir": str(tmp_path)}, "QuantPost": {"weight_bits": 3}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")
    return str(tmp_path / "c.yaml")


def run(capsys, *argv):
    code = cli.main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_says_how_long_ranks_and_names_the_files(capsys, config_file, tmp_path):
    code, out, err = run(capsys, "analyze", "--config", config_file, "--samples", "4")
    assert code == 0 and "5 layers, 6 runs each on 4 samples, will take about" in err
    said = "INFO: time: about half a minute on this machine for 5 layers\n"
    assert said in err and err.index(said) < err.index("Calibration stage")
    head = next(line for line in out.splitlines() if "layer" in line)
    assert all(title in head for title in ("weights", "activ.", "both", "if float", "cause"))
    assert "put into the config" in out and f"{tmp_path}/out.analysis/sensitivity.csv" in out
    assert (tmp_path / "out.analysis" / "suggested.yaml").exists()
    assert not (tmp_path / "out").exists()


def test_metric_scores_every_layer(capsys, config_file, tmp_path):
    code, out, err = run(capsys, "analyze", "--config", config_file, "--metric", "--output",
                       str(tmp_path / "a"),
                       f"Evaluation.data={{image_dir: {tmp_path}, label_file: "
                       f"{tmp_path / 'labels.txt'}}}")
    found = json.loads((tmp_path / "a" / "sensitivity.json").read_text(encoding="utf-8"))
    assert code == 0 and "top1 change" in out and "for 5 layers, and 6 evaluations\n" in err
    assert set(found["float_metric"]) == {"top1", "top5"}
    assert all(set(e["metric"]) == {"top1", "top5"} for e in found["layers"])


@pytest.mark.parametrize("arguments, cure", [
    (["--metric"], "no evaluator: set Evaluation.data"), (["--samples", "1"], "at least 2")])
def test_mistakes_are_one_sentence(capsys, config_file, arguments, cure):
    code, out, err = run(capsys, "analyze", "--config", config_file, *arguments)
    last = err.splitlines()[-1]
    assert (code, out) == (2, "") and last.startswith("paddle-mrecg: ") and cure in last


def test_places_that_cannot_be_written_are_refused_before_the_work(capsys, config_file, tmp_path,
                                                                   monkeypatch):
    for name in ("job.read_model", "search.read_model"):
        monkeypatch.setattr(f"paddle_mrecg.analysis.{name}", lambda *_: pytest.fail("it began"))
    for file in ("mine", "out.analysis", "out.auto", "result"):
        (tmp_path / file).write_text("mine", encoding="utf-8")
    model = yaml.safe_load((tmp_path / "c.yaml").read_text(encoding="utf-8"))["Global"]["model_dir"]
    for argv, said in (
            (["analyze", "--output", f"{tmp_path}/mine"], "--output '{0}/mine' is a file: name a "),
            (["analyze", "--output", f"{tmp_path}/mine/below"],
             "--output '{0}/mine/below' cannot be written, for '{0}/mine' is a file: name another"),
            (["analyze"], "next to Global.save_dir, '{0}/out.analysis' is a file"),
            (["auto"], "next to Global.save_dir, '{0}/out.auto' is a file"),
            (["auto", f"Global.save_dir={tmp_path}/result"], "is a file: choose another Global"),
            (["auto", f"Global.save_dir={model}"], "is the directory of the float model")):
        code, _, err = run(capsys, argv[0], "--config", config_file, *argv[1:])
        assert code == 2 and said.format(tmp_path) in err and err.count("\n") == 1, err


def test_auto_says_whether_the_goal_was_reached(capsys, config_file, tmp_path):
    code, out, err = run(capsys, "auto", "--config", config_file, "--max-drop", "99")
    assert code == 0 and "as configured  <- taken" in out
    said = re.search("INFO: time: about half a minute on this machine for a try, [a-z0-9 ]+ for "
                     "all of at most 16 tries; the log is ", err)
    assert said and said.start() < err.index("try 1 of at most 16")
    assert (tmp_path / "out" / "model.pdmodel").exists()
    assert (tmp_path / "out.auto" / "recipe.yaml").exists()
    page = (tmp_path / "out.auto" / "report.html").read_text(encoding="utf-8")
    assert "as configured" in page and "was reached; settings tried: 1." in page
    code, out, err = run(capsys, "auto", "--config", config_file, "--max-drop", "1e-9",
                         "--tries", "1")
    assert code == 1 and "as configured  <- taken" in out
    assert "the goal was not reached: as configured is the best of 1 try\n" in err
    assert "tries.json: 1 try\n" in err  # nothing was tried twice


@pytest.mark.parametrize("arguments, cure", [
    (["--size", "small"], "give bytes"), (["--tries", "0"], "at least 1"),
    (["--bits-average", "1"], "at least 2"), (["--bits-average", "nan"], "at least 2"),
    (["--bits-average", "9"], "this model comes to 2 to 8 on average"),
    (["--size", "0"], "--size (Goal.size) is 0: give more than 0 bytes"),
    (["--size", "10M"], "is 10000000 bytes: with 2 to 8 bits for each weight, this model comes to "
     "290 to 1158 bytes"),
    (["--size", "100"], "this model comes to 290 to 1158 bytes"),
    (["--size", "10k", "--bits-average", "4"], "are two goals for the same: leave out one"),
    (["--max-drop", "-1"], "is -1: give 0 or more"),
    (["--max-drop", "nan"], "is nan: give 0 or more"),
    (["--metric", "top1"], "no evaluator: set Evaluation.data")])
def test_mistakes_of_auto_are_one_sentence(capsys, config_file, arguments, cure, monkeypatch):
    monkeypatch.setattr("paddle_mrecg.analysis.search.Bench",
                        lambda *_: pytest.fail("images were read first"))
    code, out, err = run(capsys, "auto", "--config", config_file, *arguments)
    assert (code, out) == (2, "") and err.startswith("paddle-mrecg: ") and cure in err
    assert err.count("\n") == 1


def test_all_wrong_goals_are_said_at_once(capsys, config_file):
    code, _, err = run(capsys, "auto", "--config", config_file, "--max-drop", "-1",
                       "--bits-average", "1", "--size", "-5")
    assert code == 2 and err.startswith("paddle-mrecg: 4 problems:\n")
