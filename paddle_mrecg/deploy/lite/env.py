# SPDX-License-Identifier: Apache-2.0
"""Find Paddle Lite's converter, or set it up in an environment of its own.

``paddlelite`` 2.12, the last release, has wheels for Python 3.6 and 3.7 only: it lives in a virtual
environment of such an interpreter and is called as a subprocess.
"""
import contextlib
import dataclasses
import glob
import os
import re
import shutil
import subprocess
import sys
from typing import List, Optional

from ...errors import MrecgError
from ...scratch import SCRATCH_PREFIX, scratch_folder

REQUIREMENTS = ("paddlelite==2.12", "numpy==1.21.6")  # the predictor takes and returns numpy arrays
OPT = "paddle_lite_opt"
VARIABLE = "PADDLE_LITE_OPT"
ENV_MARKER = ".paddle_mrecg"  # a file that says by ENV_MARK that the environment is ours
ENV_MARK = "environment of paddle-mrecg lite-env\n"
SETUP_SECONDS, PROBE_SECONDS = 1200, 60


@dataclasses.dataclass(frozen=True)
class LiteTools:
    """What was found: ``opt`` is the converter, ``python`` an interpreter with
    the x86 predictor, or None.
    """

    opt: str
    python: Optional[str]


def default_dir() -> str:
    """Where ``paddle-mrecg lite-env`` puts the environment: the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "paddle_mrecg", "lite-env")


def find_lite(directory: str = None) -> LiteTools:
    """The converter: ``$PADDLE_LITE_OPT``, else PATH, else ``paddle-mrecg lite-env``.

    Args:
        directory(str, optional): look into this environment only. Default: None.

    Raises:
        MrecgError: there is none; the message says how to get it.
    """
    named = os.environ.get(VARIABLE)
    if named and not directory:
        if not os.access(named, os.X_OK):
            raise MrecgError(f"{VARIABLE}={named} cannot be run: set it to a {OPT} "
                             "program, or unset it")
        return LiteTools(named, _python_next_to(named))
    places = [_in_env(directory)] if directory else [shutil.which(OPT), _in_env(default_dir())]
    for opt in places:
        if opt and os.access(opt, os.X_OK):
            return LiteTools(opt, _python_next_to(opt))
    raise MrecgError(f"no {OPT} {f'in {directory}' if directory else 'on PATH'}: run `paddle-mrecg "
                     f"lite-env`, or set {VARIABLE}")


def make_env(directory: str = None, python: str = None) -> LiteTools:
    """Create the environment, or return the one that is there.

    Args:
        directory(str, optional): the environment's folder. Default: ``default_dir()``.
        python(str, optional): a Python 3.7 interpreter. Default: the first that is found
            on PATH, in pyenv or conda.

    Raises:
        MrecgError: no interpreter of that version, pip fails, or ``directory`` holds files that
            are not of such an environment; it is left as it was.
    """
    directory = directory or default_dir()
    if "\0" in directory:
        raise MrecgError(f"--dir {directory!r} cannot be a path: name another folder")
    tools = LiteTools(_in_env(directory), _python_next_to(_in_env(directory)))
    if tools.python and os.access(tools.opt, os.X_OK):
        return tools
    _refuse_foreign(directory)
    interpreter = python or _find_python()
    if _version(interpreter) != "3.7":
        raise MrecgError(f"'{interpreter}' is not Python 3.7, the newest that paddlelite 2.12 has "
                         "a wheel for: install one (`pyenv install 3.7`, `conda create -n py37 "
                         "python=3.7`) and name it with --python")
    if not sys.platform.startswith("linux"):
        raise MrecgError("paddlelite 2.12 has its x86 wheel for Linux only: run this on Linux or "
                         "in a container")
    with _next_to(directory) as place:
        for command in ([interpreter, "-m", "venv", place],
                        [os.path.join(place, "bin", "python"), "-m", "pip", "install", "--quiet",
                         *REQUIREMENTS]):
            _run_command(command)
        _name_place(os.path.join(place, "bin"), place, directory)
    return find_lite(directory)


def _refuse_foreign(directory: str):
    """Only an empty folder, or one that an earlier ``make_env`` made, may be replaced."""
    if os.path.islink(directory) or os.path.lexists(directory) and not os.path.isdir(directory):
        raise MrecgError(f"'{directory}' is a file or a link: name a new or an empty folder with "
                         "--dir")
    if os.path.isdir(directory) and os.listdir(directory) and not _is_ours(directory):
        raise MrecgError(f"'{directory}' is not empty and not an environment of `paddle-mrecg "
                         "lite-env`: name a new or an empty folder with --dir")


def _is_ours(directory: str) -> bool:
    try:
        with open(os.path.join(directory, ENV_MARKER), encoding="utf-8") as file:
            return file.read() == ENV_MARK
    except (OSError, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def _next_to(directory: str):
    """A new folder next to ``directory`` that takes its place when the block ends well."""
    parent, name = os.path.split(os.path.abspath(directory))
    try:
        os.makedirs(parent, exist_ok=True)
        with scratch_folder(parent, f".{name}.{SCRATCH_PREFIX}") as scratch:
            place = os.path.join(scratch, "new")
            os.mkdir(place)
            with open(os.path.join(place, ENV_MARKER), "w", encoding="utf-8") as file:
                file.write(ENV_MARK)
            yield place
            if os.path.isdir(directory):
                os.rename(directory, os.path.join(scratch, "old"))
            os.rename(place, directory)
    except OSError as error:
        raise MrecgError(f"'{directory}' cannot be written ({error.strerror or error}): name "
                         "another folder with --dir") from error


def _run_command(command: List[str]):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=SETUP_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MrecgError(f"`{' '.join(command)}` failed ({error}): see to the "
                         "network, then run it again") from error
    if done.returncode:
        raise MrecgError(f"`{' '.join(command)}` failed: {_last_line(done.stdout)}")


def _name_place(scripts: str, old: str, new: str):
    """Scripts of an environment name its interpreter by its whole path, which has moved."""
    for path in glob.glob(os.path.join(scripts, "*")):
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            content = file.read()
        moved = content.replace(os.fsencode(old), os.fsencode(os.path.abspath(new)))
        # a program's own bytes may hold the path, too, but not with another length
        if moved != content and b"\0" not in content:
            with open(path, "wb") as file:
                file.write(moved)


def _find_python() -> str:
    """A Python 3.7, by its usual names and places."""
    for candidate in _candidates():
        if _version(candidate) == "3.7":
            return candidate
    raise MrecgError("no Python 3.7 found on PATH, in pyenv or in conda, and paddlelite 2.12 has "
                     "no wheel for a newer one: install one (`pyenv install 3.7`, `conda create -n "
                     "py37 python=3.7`) or name it with --python")


def _candidates() -> List[str]:
    home = os.path.expanduser("~")
    pyenv = os.environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv")
    found = [shutil.which("python3.7")]
    found += sorted(glob.glob(os.path.join(pyenv, "versions", "3.7*", "bin", "python")),
                    reverse=True)
    for root in (os.environ.get("CONDA_PREFIX"),
                 *(os.path.join(home, name) for name in ("miniconda3", "anaconda3"))):
        found += (sorted(glob.glob(os.path.join(root, "envs", "*", "bin", "python3.7"))) if root
                  else [])
    return [path for path in found if path]


def _version(python: str) -> Optional[str]:
    """``3.7`` for an interpreter that runs and can make environments; pyenv's
    shims may exist and not run.
    """
    try:
        done = subprocess.run([python, "-c", "import sys, venv, ensurepip; print('%d.%d' % "
                               "sys.version_info[:2])"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip()
            if done.returncode == 0 and re.fullmatch(r"\d+\.\d+\s*", done.stdout) else None)


def _in_env(directory: str) -> str:
    return os.path.join(directory, "bin", OPT)


def _python_next_to(opt: str) -> Optional[str]:
    """The interpreter of the environment that ``opt`` is part of; a stand-alone build has none."""
    path = os.path.join(os.path.dirname(opt), "python")
    installed = glob.glob(os.path.join(os.path.dirname(opt), os.pardir, "lib", "python3*",
                                       "site-packages", "paddlelite"))
    return path if os.access(path, os.X_OK) and installed else None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
