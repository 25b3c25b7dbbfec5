# SPDX-License-Identifier: Apache-2.0
"""What an index and a wheel get: metadata, a README without dead links, and the recipes."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import paddle_mrecg
from paddle_mrecg.cli import main as cli
from paddle_mrecg.config import recipes

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.fixture
def metadata(monkeypatch):
    """The arguments that ``setup.py`` gives to ``setup``."""
    setuptools = pytest.importorskip("setuptools")
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def test_metadata(metadata):
    assert metadata["version"] == paddle_mrecg.__version__
    assert metadata["author"] == "paddle_mrecg developers" and metadata["license"] == "Apache-2.0"
    assert (
        metadata["keywords"]
        and "License :: OSI Approved :: Apache Software License" in metadata["classifiers"]
    )


def test_one_range_of_pythons(metadata):
    """The same first and last version in the metadata, both READMEs and both scripts."""
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", metadata["python_requires"]).groups()
    first, last = int(low), int(high) - 1
    listed = [
        c for c in metadata["classifiers"] if c.startswith("Programming Language :: Python :: 3.")
    ]
    assert [int(c.rsplit(".", 1)[1]) for c in listed] == list(range(first, last + 1))
    for name in ("README.md", "README_cn.md", "demo/quickstart.sh", "tests/run.sh"):
        text = (ROOT / name).read_text(encoding="utf-8")
        ranges = re.findall(r"3\.(\d+)\s*(?:to|～)\s*3\.(\d+)", text) + re.findall(
            r"\(3, (\d+)\) <= .* <= \(3, (\d+)\)", text
        )
        assert ranges and set(ranges) == {(str(first), str(last))}, name


def test_setuptools_still_has_what_paddleslim_imports(metadata):
    """``pkg_resources``: environments of Python 3.12 come without, and version 82 removed it."""
    requirements = pytest.importorskip("packaging.requirements")
    wanted = map(requirements.Requirement, metadata["install_requires"])
    setuptools = next(r for r in wanted if r.name == "setuptools")
    assert setuptools.specifier.contains("80.9.0") and not setuptools.specifier.contains("82.0.0")


def test_the_text_for_the_index_needs_no_repository(metadata):
    text = metadata["long_description"]
    assert text.startswith("# paddle_mrecg\n") and "## Install" in text
    assert re.search(r"MRECG: \*\*[0-9.]+ ± [0-9.]+\*\*", text)
    assert (
        "headline.png" not in text
        and "<!--" not in text
        and "*Reconstruction loss of" not in text
    )
    assert all(link.startswith("http") for link in re.findall(r"\]\(([^)]*)\)", text))


def test_a_wheel_holds_the_recipes(tmp_path):
    """Built from a copy without the repository around it, as from a source archive."""
    pytest.importorskip("setuptools")
    for name in ("setup.py", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "paddle_mrecg").mkdir()
    shutil.copy(ROOT / "paddle_mrecg" / "__init__.py", tmp_path / "paddle_mrecg")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-lib", "built"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    built = tmp_path / "built" / "paddle_mrecg" / "recipes"
    assert sorted(p.relative_to(built) for p in built.rglob("*.yaml")) == [
        p.relative_to(ROOT / "configs") for p in CONFIGS
    ]


def test_recipes_are_found_in_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "recipes" / "ocr").mkdir(parents=True)
    (tmp_path / "recipes" / "ocr" / "one.yaml").write_text(
        "# One. Two.\nGlobal: {}\n", encoding="utf-8"
    )
    monkeypatch.setattr(recipes, "PACKAGE_FOLDER", tmp_path)
    assert list(recipes.recipes()) == ["ocr/one"] and recipes.recipe_list() == "ocr/one\n    One."


def run(capsys, *argv):
    code = cli.main(["config", "--recipe", *argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_recipes_are_listed_with_what_they_are(capsys):
    code, out, _ = run(capsys)
    names, sentences = (
        re.findall(r"^\S+$", out, re.MULTILINE),
        re.findall(r"\.$", out, re.MULTILINE),
    )
    assert code == 0 and names == [
        p.relative_to(ROOT / "configs").with_suffix("").as_posix() for p in CONFIGS
    ]
    assert len(sentences) == len(names)


@pytest.mark.parametrize(
    "name",
    [
        "ppocr_cls_mrecg_w4a8",
        "ocr/ppocr_cls_mrecg_w4a8",
        "ocr/ppocr_cls_mrecg_w4a8.yaml",
        "configs/ocr/ppocr_cls_mrecg_w4a8.yaml",
    ],
)
def test_a_recipe_is_printed_as_it_is(capsys, name):
    code, out, _ = run(capsys, name)
    assert code == 0 and out == (ROOT / "configs/ocr/ppocr_cls_mrecg_w4a8.yaml").read_text(
        encoding="utf-8"
    )
    assert yaml.safe_load(out)["MRECG"]["preset"] == "fast"


def test_short_names_are_unique():
    assert len({p.stem for p in CONFIGS}) == len(CONFIGS)


@pytest.mark.parametrize(
    "name, near",
    [
        ("ppocr_cls_mrecg_w4a9", "ppocr_cls_mrecg_w4a8"),
        ("ocr/ppocr_cls_mrecg_w4a", "ocr/ppocr_cls_mrecg_w4a8"),
    ],
)
def test_an_unknown_recipe_is_one_sentence_and_exit_code_2(capsys, name, near):
    code, out, err = run(capsys, name)
    assert code == 2 and not out and err.count("\n") == 1
    assert (
        f"no recipe is named '{name}'" in err
        and f"Did you mean '{near}'?" in err
        and "--recipe` lists all" in err
    )


def test_a_recipe_and_settings_at_once_are_refused(capsys):
    assert run(capsys, "", "--markdown")[0] == cli.main(["config", "MRECG", "--recipe"]) == 2
    assert "leave out sections" in capsys.readouterr().err
