# SPDX-License-Identifier: Apache-2.0
"""Recipes of post-training say by which command they run, and their figures come from that run."""
import json
from pathlib import Path

import pytest

from demo.recipes import run
from paddle_mrecg.config.io import load_config

RECIPES = run.recipes()
POST = [path for path in sorted((run.ROOT / "configs").rglob("*.yaml"))
        if "\nQuantPost:" in path.read_text(encoding="utf-8") and path.parent.name != "slim"]


@pytest.mark.parametrize("path", POST, ids=lambda p: p.stem)
def test_a_recipe_is_run_by_the_command_in_its_header(path):
    words = run.command(path)
    assert words[0] == "python" and Path(run.ROOT, words[1]).is_file()
    assert words[words.index("--config_path") + 1] == str(path.relative_to(run.ROOT))
    assert "--save_dir" in words and not set(words) & {"\\", ""}
    bits = load_config(path).quant_post
    assert path.stem.endswith(f"w{bits.weight_bits}a{bits.activation_bits}")


def test_recipes_of_the_quickstart_have_their_own_results():
    assert {p.stem for p in POST} - set(RECIPES) == {"ppocr_cls_mrecg_w3a8", "ppocr_cls_mrecg_w4a8"}


def test_a_header_without_a_command_is_named(tmp_path):
    (tmp_path / "x.yaml").write_text("# a recipe\nGlobal:\n", encoding="utf-8")
    with pytest.raises(ValueError, match="x.yaml: the header has no line"):
        run.command(tmp_path / "x.yaml")


SCRIPT = """import json, pathlib, sys
place = pathlib.Path(sys.argv[sys.argv.index("--save_dir") + 1])
place.mkdir(parents=True)
report, seed = {report}, int(sys.argv[sys.argv.index("--seed") + 1])
report["metrics"]["quantized"]["top1"] -= seed / 100
place.joinpath("report.json").write_text(json.dumps(dict(report, seed=seed)))
"""
REPORT = dict(metrics=dict(float=dict(top1=0.7, loss=2.0), nearest=dict(top1=0.1, loss=3.0),
                                   nearest_bias=dict(top1=0.3, loss=2.5),
                                   quantized=dict(top1=0.6, loss=2.1)),
              seconds={"read": 1.0, "evaluate": 3.0},
              units=[dict(iterations=0), dict(iterations=5)],
              config=dict(QuantPost=dict(weight_bits=4, activation_bits=8)),
              samples=dict(calibration=64), float_tensors={}, verification={})


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe whose command writes ``REPORT``."""
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(report=REPORT), encoding="utf-8")
    path = tmp_path / "tiny_w4a8.yaml"
    path.write_text(f"# A recipe.\n#   python {script} \\\n#       --save_dir output/x\n"
                    "# result: recipes/tiny_w4a8\nGlobal:\n", encoding="utf-8")
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "recipes", lambda: {"tiny_w4a8": path})
    return script


def test_results_of_a_recipe_are_of_its_own_run(recipe, tmp_path, capsys):
    assert run.main(["tiny_w4a8"]) == 0
    file = json.loads((tmp_path / "results" / "tiny_w4a8.json").read_text(encoding="utf-8"))
    top1, loss = file["runs"]
    assert top1["measured"]["MRECG"] == 60.0 and top1["measured"]["solved"] == 60.0
    assert top1["measured"]["recovered %"] == pytest.approx(75.0)
    assert loss["measured"]["nearest + bias"] == 2.5 and top1["seed"] == 0
    assert 0 < top1["measured"]["seconds"] < 10 and top1["trained"] == "1 of 2"
    table = run.table(tmp_path / "results")
    assert "| `tiny_w4a8` | W4A8 | 64 | top1 | 70.00 | 10.00 | 30.00 | 60.00 | 60.00 |" in table
    recipe.unlink()  # measured once: not run again
    assert run.main(["tiny_w4a8"]) == 0
    assert table in capsys.readouterr().out


def test_further_seeds_join_the_first(recipe, tmp_path):
    assert run.main(["tiny_w4a8", "--seeds", "1"]) == 0
    assert run.main(["tiny_w4a8", "--seeds", "0", "1", "2"]) == 0
    file = json.loads((tmp_path / "results" / "tiny_w4a8.json").read_text(encoding="utf-8"))
    assert [r["seed"] for r in file["runs"] if r["setting"]["metric"] == "top1"] == [0, 1, 2]
    assert file["command"] == "python demo/recipes/run.py tiny_w4a8 --seeds 0 1 2"
    assert "| top1 | 70.00 | 10.00 | 30.00 | 59.00 ± 1.00 | 59.00 ± 1.00 |" in run.table(
        tmp_path / "results")


def test_a_recipe_that_fails_says_why_and_leaves_nothing(recipe, tmp_path, capsys):
    recipe.write_text("import sys; sys.exit('no such model')", encoding="utf-8")
    assert run.main(["tiny_w4a8"]) == 1
    assert "tiny_w4a8: no such model" in capsys.readouterr().out
    recipe.write_text("print('skipped: ResNet needs data'); raise SystemExit(1)", encoding="utf-8")
    run.main(["tiny_w4a8"])
    assert "tiny_w4a8: ResNet needs data" in capsys.readouterr().out
    assert not list((tmp_path / "results").glob("*"))


def test_an_unknown_recipe_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["picodet_w8a9"])
    assert "picodet_w8a9" in capsys.readouterr().err
