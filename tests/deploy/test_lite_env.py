# SPDX-License-Identifier: Apache-2.0
"""Paddle Lite's converter is found where the user says, and asked for in one
sentence when it is nowhere.
"""
import os
import subprocess
import sys

import pytest

from paddle_mrecg.errors import MrecgError
from paddle_mrecg.deploy.lite import env as lite_env


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine without converter and without other interpreters."""
    monkeypatch.delenv(lite_env.VARIABLE, raising=False)
    for name, value in (("PATH", tmp_path / "bin"), ("XDG_CACHE_HOME", tmp_path / "cache"),
                        ("HOME", tmp_path / "home"),
                        ("PYENV_ROOT", tmp_path / "pyenv"), ("CONDA_PREFIX", tmp_path / "conda")):
        monkeypatch.setenv(name, str(value))
    return tmp_path


def program(path, text="exit 0"):
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_nothing_there_names_the_command_that_helps(nowhere):
    with pytest.raises(MrecgError, match="run `paddle-mrecg lite-env`, or set PADDLE_LITE_OPT"):
        lite_env.find_lite()


def test_the_variable_wins_over_path_and_path_over_the_cache(nowhere, monkeypatch):
    cached = program(nowhere / "cache" / "paddle_mrecg" / "lite-env" / "bin" / lite_env.OPT)
    assert lite_env.find_lite().opt == str(cached)
    on_path = program(nowhere / "bin" / lite_env.OPT)
    assert lite_env.find_lite().opt == str(on_path)
    named = program(nowhere / "mine" / "opt")
    monkeypatch.setenv(lite_env.VARIABLE, str(named))
    assert lite_env.find_lite() == lite_env.LiteTools(str(named), None)


def test_a_variable_that_leads_nowhere_is_an_error(nowhere, monkeypatch):
    monkeypatch.setenv(lite_env.VARIABLE, str(nowhere / "missing"))
    with pytest.raises(MrecgError, match="cannot be run"):
        lite_env.find_lite()


def test_the_predictor_is_the_interpreter_next_to_an_installed_package(nowhere):
    folder = nowhere / "cache" / "paddle_mrecg" / "lite-env"
    program(folder / "bin" / lite_env.OPT)
    python = program(folder / "bin" / "python")
    assert lite_env.find_lite().python is None
    (folder / "lib" / "python3.7" / "site-packages" / "paddlelite").mkdir(parents=True)
    assert lite_env.find_lite().python == str(python)


def test_no_python_37_is_said_clearly(nowhere):
    with pytest.raises(MrecgError, match="no Python 3.7 found.*--python"):
        lite_env.make_env(str(nowhere / "env"))


def test_another_python_is_refused_before_anything_is_made(nowhere):
    with pytest.raises(MrecgError, match="is not Python 3.7"):
        lite_env.make_env(str(nowhere / "env"), sys.executable)
    assert not (nowhere / "env").exists()


def test_a_shim_that_does_not_run_is_passed_over(nowhere):
    program(nowhere / "bin" / "python3.7", "exit 127")
    with pytest.raises(MrecgError, match="no Python 3.7 found"):
        lite_env.make_env(str(nowhere / "env"))


FAKE_PYTHON = """\
case "$1" in
    -c) echo 3.7;;
    -m) mkdir -p "$3/bin"
        cat >"$3/bin/python" <<'END'
#!/bin/sh
{pip}
END
        chmod +x "$3/bin/python";;
esac"""
# the installed converter names its interpreter by its whole path, as pip's scripts do
FAKE_PIP = """\
d=$(dirname "$0"); mkdir -p "$d/../lib/python3.7/site-packages/paddlelite"
echo "#!$d/python" >"$d/paddle_lite_opt"; chmod +x "$d/paddle_lite_opt\""""


def test_an_environment_is_made_and_made_again_where_it_broke(nowhere, monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)
    python = str(program(nowhere / "fake", FAKE_PYTHON.format(pip=FAKE_PIP)))
    folder = nowhere / "env"
    for _ in range(2):
        tools = lite_env.make_env(str(folder), python)
        assert tools == lite_env.LiteTools(str(folder / "bin" / lite_env.OPT),
                                           str(folder / "bin" / "python"))
        first = (folder / "bin" / lite_env.OPT).read_text().splitlines()[0]
        assert first == f"#!{folder}/bin/python"
        assert [n for n in os.listdir(nowhere) if n.startswith(".")] == []
        (folder / "bin" / lite_env.OPT).unlink()


@pytest.mark.parametrize("content", ["thesis.txt", "pyvenv.cfg", lite_env.ENV_MARKER])
def test_a_folder_of_the_users_is_refused_and_stays(content, nowhere):
    python = str(program(nowhere / "fake", FAKE_PYTHON.format(pip="exit 1")))
    (nowhere / "mine").mkdir()
    (nowhere / "mine" / content).write_text("mine")
    with pytest.raises(MrecgError, match="is not empty and not an environment.*--dir"):
        lite_env.make_env(str(nowhere / "mine"), python)
    assert (nowhere / "mine" / content).read_text() == "mine"
    (nowhere / "link").symlink_to(nowhere / "mine")
    with pytest.raises(MrecgError, match="link"):
        lite_env.make_env(str(nowhere / "link"), python)


def test_a_failure_leaves_what_was_there(nowhere, monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)
    python = str(program(nowhere / "fake", FAKE_PYTHON.format(pip="echo no network; exit 1")))
    (nowhere / "env").mkdir()
    before = sorted(os.listdir(nowhere))
    with pytest.raises(MrecgError, match="no network"):
        lite_env.make_env(str(nowhere / "env"), python)
    assert sorted(os.listdir(nowhere)) == before and os.listdir(nowhere / "env") == []


@pytest.mark.slow
def test_the_environment_converts(tmp_path):
    """Made from a real interpreter; needs the package registry."""
    try:
        lite_env._find_python()
    except MrecgError as error:
        pytest.skip(str(error))
    tools = lite_env.make_env(str(tmp_path / "env"))
    assert os.access(tools.opt, os.X_OK) and tools.python
    done = subprocess.run([tools.opt, "--help"], capture_output=True, text=True, timeout=120)
    assert "--valid_targets" in done.stdout
    assert lite_env.make_env(str(tmp_path / "env")) == tools
