# SPDX-License-Identifier: Apache-2.0
"""The READMEs: their code runs as it stands, both languages agree, links lead somewhere."""

import ast
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

import paddle_mrecg
from paddle_mrecg.cli import main as cli
from paddle_mrecg.config.post import PRESETS
from paddle_mrecg.config.io import config_to_dict, load_config
from paddle_mrecg.strategies.mrecg import JOIN_GAIN, PEAK_TOLERANCE

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = "README.md", "README_cn.md"
STRATEGIES = "paddle_mrecg/strategies/README.md"
DOCUMENTS = sorted(
    str(p.relative_to(ROOT))
    for p in (
        *ROOT.glob("*.md"),
        *(ROOT / "demo").rglob("*.md"),
        *(ROOT / "paddle_mrecg").rglob("*.md"),
    )
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Paddle Lite's converter is for Python 3.7 and comes over the network: parsed, not run.
NEEDS_LITE = (["lite-env"], ["export", "--target", "lite"], ["check"])
PREPROCESS = {
    "PreProcess": {
        "transform_ops": [
            {"ResizeImage": {"resize_short": 256}},
            {"CropImage": {"size": 224}},
            {"NormalizeImage": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
        ]
    }
}  # the inference.yml of PaddleClas
HOST = {"Global": {"epochs": 3, "output_dir": "."}, "Slim": {"quant": {"name": "pact"}}}
OURS = {"QuantAware": {"weight_bits": 4}, "BinRegularization": {"lambda": 0.5}, "SymmetricPACT": {}}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name, *languages):
    return [code for language, code in BLOCK.findall(read(name)) if language in languages]


def commands(name):
    """Every line of the bash blocks as words; lines that end in a backslash go on."""
    lines = "".join(blocks(name, "bash")).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the README's reader has: a model, images, and a host's script with its file."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 256, 272, 3), dtype=np.uint8)
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{k}.png")
    paddle.seed(0)
    net = paddle.nn.Sequential(
        paddle.nn.Conv2D(3, 4, 7, stride=8),
        paddle.nn.ReLU(),
        paddle.nn.Conv2D(4, 8, 3, stride=2),
        paddle.nn.ReLU(),
        paddle.nn.AdaptiveAvgPool2D(1),
        paddle.nn.Flatten(),
        paddle.nn.Linear(8, 4),
    )
    net.eval()
    paddle.jit.save(
        net,
        str(folder / "inference_model" / "model"),
        [paddle.static.InputSpec([None, 3, 224, 224], "float32", "x")],
    )
    shutil.copytree(ROOT / "tests" / "hosts" / "stubs" / "clas", folder, dirs_exist_ok=True)
    (folder / "inference_model" / "inference.yml").write_text(
        yaml.safe_dump(PREPROCESS), encoding="utf-8"
    )
    (folder / "my.yml").write_text(
        yaml.safe_dump({**HOST, **OURS}, sort_keys=False), encoding="utf-8"
    )
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """We are in ``place``, with the settings in the file that they name; ``fast`` takes three
    steps, and what a block switches on is undone.
    """
    monkeypatch.chdir(place)
    monkeypatch.setitem(PRESETS["fast"], "num_iters", 3)
    for code in blocks(ENGLISH, "yaml"):
        (place / re.match(r"# (\S+)\n", code)[1]).write_text(code, encoding="utf-8")
    before = set(sys.modules)
    yield place
    paddle_mrecg.unregister()
    paddle.disable_static()
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("ppcls", "tools"):
            del sys.modules[name]


@pytest.mark.parametrize("name", [ENGLISH, "demo/slim/README.md"])
def test_python_blocks_run(name, here):
    found = blocks(name, "python")
    assert found
    for k, code in enumerate(found):
        path = here / f"block_{k}.py"
        path.write_text(code, encoding="utf-8")
        runpy.run_path(str(path), run_name="__main__")


def test_commands_run(here, capsys):
    """The lines run in their order."""
    ran = 0
    for words in commands(ENGLISH):
        if words[0] != "paddle-mrecg":
            continue
        if any(words[1 : 1 + len(start)] == start for start in NEEDS_LITE):
            cli.parser().parse_args(words[1:])
        else:
            assert cli.main(words[1:]) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
            ran += 1
    assert ran >= 8 and (here / "output" / "w4a8" / "report.json").exists()
    assert "valid" in capsys.readouterr().out


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_name_scripts_that_exist(name):
    for words in commands(name):
        script = next((w for w in words[1:] if w.endswith((".py", ".sh"))), "")
        if words[0] in ("bash", "python") and script and not script.startswith(".."):
            assert (ROOT / script).exists() or "paddle-mrecg" in " ".join(words), shlex.join(words)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_yaml_blocks_are_valid_settings(name, tmp_path, capsys):
    for code in blocks(name, "yaml"):
        (tmp_path / "c.yaml").write_text(code, encoding="utf-8")
        sections = yaml.safe_load(code)
        if (
            "QuantAware" in sections and "QuantPost" in sections
        ):  # an excerpt for two kinds of scripts
            continue
        assert cli.main(["validate", str(tmp_path / "c.yaml")]) == 0, capsys.readouterr().err


def headings(name):
    text = BLOCK.sub("", read(name))
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def sections(name):
    """What one can compare between languages: numbers, inline code and links of every section."""
    text = re.sub(
        r"<!-- results:.*?<!-- /results -->", "", BLOCK.sub("", read(name)), flags=re.DOTALL
    )
    for part in re.split(r"^#+ .*$", text, flags=re.MULTILINE)[2:]:
        prose = re.sub(r"`[^`]*`", " ", LINK.sub(" ", part))
        yield (
            sorted(set(re.findall(r"\d+(?:[.,]\d+)*", prose))),
            sorted(set(re.findall(r"`[^`]*`", part))),
            sorted(set(LINK.findall(part))),
        )


def test_both_languages_have_the_same_sections():
    assert headings(ENGLISH) == headings(CHINESE)
    for english, chinese in zip(sections(ENGLISH), sections(CHINESE)):
        assert english == chinese


def test_both_languages_have_the_same_code():
    languages = [
        [language for language, _ in BLOCK.findall(read(name))] for name in (ENGLISH, CHINESE)
    ]
    assert languages[0] == languages[1] and len(languages[0]) >= 8
    for ours, theirs in zip(blocks(ENGLISH, "python"), blocks(CHINESE, "python")):
        assert ast.dump(ast.parse(ours)) == ast.dump(ast.parse(theirs))
    for ours, theirs in zip(blocks(ENGLISH, "yaml"), blocks(CHINESE, "yaml")):
        assert yaml.safe_load(ours) == yaml.safe_load(theirs)
    assert commands(ENGLISH) == commands(CHINESE)


def test_both_languages_have_the_same_figures():
    tables = [
        re.findall(r"<!-- results:.*?<!-- /results -->", read(name), re.DOTALL)
        for name in (ENGLISH, CHINESE)
    ]
    assert len(tables[0]) == len(tables[1]) == 1
    figures = [re.findall(r"\d+\.\d+ ± \d+\.\d+", table[0]) for table in tables]
    assert figures[0] == figures[1] and len(figures[0]) == 6


def anchors(path):
    """The anchors that GitHub makes of a document's headings."""
    titles = re.findall(r"^#+ (.*)$", BLOCK.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for target in LINK.findall(BLOCK.sub("", read(name))):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{name}: {target}; there are {sorted(anchors(path))}"


def table(heading):
    """The rows of the first table below a heading of the strategies' README."""
    text = read(STRATEGIES).split(heading, 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_departures_from_the_papers_are_those_of_the_defaults():
    """Each ``key: value`` in the table is the default of a setting; so are the two constants."""
    sections, seen = config_to_dict(load_config({})), {}
    for row in table("### Where it departs"):
        for setting in re.findall(r"`(?:(\w+)\.)?(\w+): (\w+(?:\.\d+)?)`", row[2]):
            section, key, value = setting
            assert sections[section or "MRECG"][key] == yaml.safe_load(value), setting
            seen[key] = row
        assert len(row) == 4 and all(row)
    assert {"relative_loss", "iters_scaling", "first_pass_ratio", "max_unit_modules"} <= set(seen)
    text = str(table("### Where it departs"))
    assert f"more than {100 * PEAK_TOLERANCE:g} %" in text and f"× {JOIN_GAIN:g} for every" in text


def test_departures_of_preset_fast_are_complete():
    rows = table("Preset `fast` departs further")
    keys = [key for row in rows for key in re.findall(r"`(\w+)`", row[0])]
    assert sorted(keys) == sorted(PRESETS["fast"])
    for row in rows:
        for key in re.findall(r"`(\w+)`", row[0]):
            value = PRESETS["fast"][key]
            if not isinstance(value, str):
                assert yaml.safe_dump(value).split("\n")[0] in row[2] or f"{value:g}" in row[2], key


def test_the_readme_stays_short():
    assert len(read(ENGLISH).splitlines()) <= 155
