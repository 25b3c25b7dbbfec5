# SPDX-License-Identifier: Apache-2.0
"""The rules of the code base, checked on the source: which module imports which, file sizes,
forbidden calls, dead settings.
"""
import ast
import dataclasses
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from paddle_mrecg.config import SECTIONS, Config
from paddle_mrecg.config.aware import TRAINING_SECTIONS, TrainingConfig

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "paddle_mrecg"
TOP_LEVEL = {"setup.py", "MANIFEST.in", "paddle_mrecg", "configs", "demo", "tests", "README.md",
             "README_cn.md", "LICENSE", ".ci", ".gitignore", "ruff.toml"}
LIMIT = 300
LONGER = {"paddle_mrecg/graph/pir.py", "tests/graph/test_ops.py"}  # one table, one list of cases

# Part of the package (a folder or a file) -> parts that it may import. Those not listed
# here are jobs: they may all.
ALLOWED = {
    "errors": (),
    "compat": ("errors",),
    "machine": (),
    "files": ("errors",),
    "grids": ("errors", "compat"),
    "scratch": ("errors",),
    "graph": ("errors", "compat", "files", "scratch"),
    "config": ("errors", "files"),
    "data": ("errors", "files", "config", "graph"),
    "report": ("errors", "compat", "machine", "files", "config", "grids"),
    "strategies": ("errors", "compat", "config", "graph", "grids"),
    "deploy": ("errors", "compat", "machine", "files", "scratch", "graph", "grids", "data"),
    "post": ("errors", "compat", "machine", "files", "scratch", "config", "graph", "grids", "data",
             "report", "strategies", "deploy"),
    "aware": ("errors", "compat", "machine", "files", "config", "graph", "grids", "data", "report",
              "strategies", "deploy", "post"),
    "slim": ("errors", "compat", "config", "graph", "grids", "data", "report", "strategies", "post",
             "aware"),
    "hosts": ("errors", "config", "graph", "report", "aware", "slim"),
}
NUMPY_ONLY = ("grids/affine.py", "grids/observers.py", "grids/ranges.py", "graph/graph.py",
              "config/*.py", "config/dialect/*.py", "files.py", "scratch.py", "errors.py",
              "machine.py", "cli/*.py",
              "hosts/host.py", "hosts/sections.py", "__init__.py")


def sources(folder=ROOT):
    """Python files that belong to the project."""
    folders = ([folder] if folder != ROOT
               else [ROOT / name for name in ("paddle_mrecg", "demo", "tests")])
    found = [p for f in folders for p in sorted(f.rglob("*.py")) if "__pycache__" not in p.parts]
    assert len(found) > 20
    return found + ([ROOT / "setup.py"] if folder == ROOT else [])


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path, module_level=False):
    """Dotted names that a file imports, those of the package absolute."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = parts if path.name == "__init__.py" else parts[:-1]
    package = package[:-1] if path.name == "__init__.py" else package
    syntax = tree(path)
    for node in (syntax.body if module_level else ast.walk(syntax)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[:len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            yield ".".join(base)
            yield from (".".join(base + [alias.name]) for alias in node.names)


def part_of(path):
    """``graph`` for files below graph/, else the file's stem."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_layers_import_only_downwards():
    broken = []
    for path in sources(PACKAGE):
        for name in imports(path):
            parts = name.split(".")
            part, allowed = part_of(path), ALLOWED.get(part_of(path))
            if (parts[0] == "paddle_mrecg" and len(parts) > 1 and allowed is not None
                and parts[1] not in (part,) + allowed):
                broken.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not broken, "\n".join(broken)


def test_strategies_do_not_import_each_other():
    for path in (PACKAGE / "strategies").glob("*.py"):
        others = {p.stem for p in (PACKAGE / "strategies").glob("*.py")} - {path.stem, "__init__"}
        assert not {n.split(".")[2] for n in imports(path)
                    if n.startswith("paddle_mrecg.strategies.")} & others


def test_paddleslim_stays_in_two_folders():
    for path in sources(PACKAGE):
        if part_of(path) not in ("slim", "hosts"):
            assert not [n for n in imports(path) if n.split(".")[0] == "paddleslim"], path


def test_light_files_do_not_import_paddle():
    for path in [p for pattern in NUMPY_ONLY for p in PACKAGE.glob(pattern)]:
        names = imports(path, module_level=path.parent.name == "cli")
        assert "paddle" not in {n.split(".")[0] for n in names}, path


@pytest.mark.parametrize("module", ["paddle_mrecg", "paddle_mrecg.cli.main",
                                    "paddle_mrecg.config.io"])
def test_importing_has_no_side_effects(module):
    code = ("import os, sys, warnings, logging; env, path, filters = dict(os.environ), "
            "list(sys.path), list(warnings.filters)\nlevel = logging.getLogger().level; import "
            f"{module}\nassert not {{'paddle', 'paddleslim', 'matplotlib', 'visualdl'}} & "
            "set(sys.modules)\nassert env == dict(os.environ) and path == sys.path and level == "
            "logging.getLogger().level\nassert filters == warnings.filters and not "
            "logging.getLogger().handlers")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_public_names():
    """Everything in ``__all__`` is there, says what it is, and comes from this package."""
    import paddle_mrecg
    assert set(paddle_mrecg.__all__) <= set(dir(paddle_mrecg))
    for name in set(paddle_mrecg.__all__) - {"__version__"}:
        value = getattr(paddle_mrecg, name)
        assert value.__doc__ and value.__module__.startswith("paddle_mrecg."), name
        assert value.__name__ == name, f"{name} is called {value.__name__} where it is defined"


def test_an_unknown_public_name_is_an_attribute_error():
    import paddle_mrecg
    with pytest.raises(AttributeError, match="no attribute 'quantize'; it has"):
        paddle_mrecg.quantize


def test_files_stay_short():
    long = {str(p.relative_to(ROOT)): n for p in sources()
            for n in [len(p.read_text(encoding="utf-8").splitlines())]
            if n > LIMIT}
    assert set(long) <= LONGER, f"longer than {LIMIT} lines: {long}"


# What a file of some kind has to define: hosts, PaddleSlim's APIs, subcommands, programs.
SHARED_NAMES = {"NAME", "PACKAGE", "install", "look_ahead", "add_commands", "main", "__all__"}


def module_level_names(syntax):
    """What a module defines by itself. Functions registered for ops are called as the ops are."""
    for node in syntax.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            registered = {ast.unparse(d).split("(")[0] for d in node.decorator_list}
            yield from () if registered & {"rule", "channel_rule"} else (node.name,)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)
                        and isinstance(n.ctx, ast.Store))


def test_a_name_has_one_meaning():
    """No two files of the package define the same name, private or public."""
    files = {}
    for path in sources(PACKAGE):
        for name in set(module_level_names(tree(path))) - SHARED_NAMES:
            files.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    twice = {name: found for name, found in files.items() if len(found) > 1}
    assert not twice, "\n".join(f"{name}: {', '.join(found)}" for name, found in twice.items())


def test_test_files_have_names_of_their_own():
    """pytest refuses to collect two files of one name from folders that are not packages."""
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted({n for n in names if names.count(n) > 1})


def test_lines_and_first_lines():
    for path in sources():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not lines or lines[0] == "# SPDX-License-Identifier: Apache-2.0", (
            f"{path}: licence line")
        assert not lines or ast.get_docstring(tree(path)), f"{path}: module docstring"


def test_no_file_is_called_utils():
    assert not [p for p in sources() if p.stem in ("utils", "util", "helpers", "common", "misc")]


def test_no_code_is_made_from_data():
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.id if isinstance(function, ast.Name) else ""
                assert name not in ("eval", "exec"), f"{path}:{node.lineno} calls {name}"
                if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                    assert (function.value.id,
                            function.attr) not in (("yaml", "load"), ("yaml", "unsafe_load"),
                                                   ("os", "system")), f"{path}:{node.lineno}"
                for keyword in node.keywords:
                    allowed = (isinstance(keyword.value, ast.Constant)
                               and keyword.value.value is False)
                    assert keyword.arg != "allow_pickle" or allowed, (
                        f"{path}:{node.lineno} allows pickles")
        if "tests" not in path.relative_to(ROOT).parts:  # tests make pickles to see them refused
            assert not {n.split(".")[0]
                        for n in imports(path)} & {"pickle", "dill", "cloudpickle", "marshal"}, path


def test_user_input_is_never_asserted():
    for path in sources(PACKAGE):
        for node in ast.walk(tree(path)):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: raise an MrecgError"


def tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_top_level_is_fixed():
    assert {p.relative_to(ROOT).parts[0] for p in tracked_files()} <= TOP_LEVEL


def test_no_absolute_paths_of_a_machine():
    path_of_a_machine = re.compile(r"(?<![\w.:/])/(?:home|root|work|Users|tmp|mnt|opt)/(?!me/)\w")
    for path in tracked_files():
        if path.suffix in (".py", ".yaml", ".md", ".sh", ".json", ".csv") or path.name == "run":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not path_of_a_machine.search(line), f"{path}:{number}: {line.strip()}"


def all_fields():
    """Section.key of every setting, also of the nested Override."""
    hints = typing.get_type_hints(Config)
    classes = {section: hints[field] for section, field in SECTIONS.items()}
    training = typing.get_type_hints(TrainingConfig)
    classes.update({section: next(t for t in (*typing.get_args(training[field]), training[field])
                                  if t is not type(None))
                    for section, field in TRAINING_SECTIONS.items()})
    classes["QuantPost.overrides[]"] = typing.get_args(
        typing.get_type_hints(classes["QuantPost"])["overrides"]
    )[0]
    return [f"{section}.{f.name}" for section, cls in classes.items()
            for f in dataclasses.fields(cls)]


# Code that loads, checks and documents settings; reading one there is not using it.
NOT_READERS = ("config/io.py", "config/schema.py", "config/docs.py", "config/recipes.py",
               "config/*_rules.py", "config/dialect/*.py")


def dead_settings(names, texts):
    """Those of ``names`` (Section.key) that no attribute in ``texts`` reads; a bare
    expression reads nothing.
    """
    read = set()
    for text in texts:
        syntax = ast.parse(text)
        bare = {id(node.value) for node in ast.walk(syntax) if isinstance(node, ast.Expr)}
        read |= {node.attr for node in ast.walk(syntax) if isinstance(node, ast.Attribute)
                 and isinstance(node.ctx, ast.Load) and id(node) not in bare}
    return [name for name in names if name.split(".")[-1] not in read]


def test_no_dead_settings():
    """Every setting is read somewhere; a preset does its work when the config is built."""
    checks = {p for pattern in NOT_READERS for p in PACKAGE.glob(pattern)}
    assert len(checks) > 8
    texts = [p.read_text(encoding="utf-8") for p in sources(PACKAGE) if p not in checks]
    assert dead_settings(all_fields(), texts) == ["MRECG.preset"]


@pytest.mark.parametrize("text", ["", "settings.unread = 1", "settings.unread\n"])
def test_a_dead_setting_is_found(text):
    assert dead_settings(["MRECG.unread"], [text]) == ["MRECG.unread"]
    assert dead_settings(["MRECG.unread"], ["x = settings.unread"]) == []
