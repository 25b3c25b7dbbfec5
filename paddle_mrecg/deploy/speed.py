# SPDX-License-Identifier: Apache-2.0
"""Float against int8 on the runtimes of this machine, each in a process of its own."""
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from typing import Dict, Mapping, Sequence

import numpy as np

from ..errors import ModelError, MrecgError
from ..graph.graph import Graph
from ..graph.writer import save_program
from ..scratch import scratch_folder
from . import timing
from .lite.convert import convert
from .lite.env import find_lite
from .predictor import last_line
from .to_onnx import onnx_model

TIMED = ("inference", "onnxruntime", "lite")
REPEATS, TIMING_SECONDS = 30, 3.0  # pairs of runs, and how long they may take
LIMIT_SECONDS = 120  # for all of it
NOT_INSTALLED = "not installed"
INPUTS = "inputs.npz"


def compare_speed(graphs: Mapping[str, Graph], sample: Mapping[str, np.ndarray],
                  runtimes: Sequence[str] = TIMED, limit: int = LIMIT_SECONDS) -> Dict[str, Dict]:
    """Time programs in turn on every runtime, on one thread.

    Args:
        graphs(dict): the programs: ``float``, the same quantized as ``int8`` and, if wanted,
            ``plain``, the latter without the multiplications that equalization inserted.
        sample(dict): input name -> one sample, with a batch axis of 1.
        runtimes(list[str], optional): of ``TIMED``. Default: all.
        limit(int, optional): seconds for one runtime, conversion apart. Default: 120.

    Returns:
        dict: runtime -> what ``timing.compare`` returns, of CPU time, which other load on the
            machine changes least, and ``threads``, or ``failure``: why it
            was not timed. A runtime that crashes or hangs is a failure, never the end.
    """
    return {name: _one(name, graphs, sample, limit) for name in runtimes}


def _one(name: str, graphs: Mapping[str, Graph], sample, limit: int) -> Dict:
    with scratch_folder() as folder:
        try:
            python, models = _WRITERS[name](graphs, folder)
        except MrecgError as error:
            return dict(failure=str(error))
        except Exception as error:  # whatever a converter raises: the job goes on without times
            return dict(failure=f"{type(error).__name__}: {last_line(error)}")
        if not models:
            return dict(failure=NOT_INSTALLED)
        inputs = os.path.join(folder, INPUTS)
        np.savez(inputs, names=np.array(list(sample)),
                 **{str(k): np.ascontiguousarray(v) for k, v in enumerate(sample.values())})
        command = [python, "-W", "ignore", os.path.abspath(timing.__file__), "--runtime", name,
                   "--inputs", inputs, "--repeats", str(REPEATS),
                   "--seconds", str(TIMING_SECONDS), "--cpu_time", "--json",
                   *(word for kind, path in models.items() for word in (f"--{kind}_model", path))]
        return _timed(command, folder, limit)


def _timed(command, folder: str, limit: int) -> Dict:
    """What the process prints last, or why there is nothing."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        # not in the working directory, where the modules of a received result would be found
        done = subprocess.run(command, env=environment, cwd=folder, timeout=limit,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="replace")
    except subprocess.TimeoutExpired:
        return dict(failure=f"no result after {limit} s")
    except OSError as error:
        return dict(failure=f"{command[0]} cannot be run ({error.strerror})")
    if done.returncode < 0:
        return dict(failure=f"the process was killed by {signal.Signals(-done.returncode).name}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return dict(failure=_complaint(done.stderr, done.returncode))


def _complaint(log: str, code: int) -> str:
    """What a traceback says in the end; of Paddle's, the line in front of the operator's name."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*Error\b", line) or "error]" in line]
    named = named or lines[-1:]
    return " ".join(named[-2:])[-300:] or f"exit code {code}"


def _paddle_files(graphs, folder: str):
    models = _paths(graphs, folder, "")
    for kind, graph in graphs.items():
        save_program(graph, models[kind])
    return sys.executable, models


def _onnx_files(graphs, folder: str):
    if any(importlib.util.find_spec(n) is None for n in ("onnx", "paddle2onnx", "onnxruntime")):
        return sys.executable, {}
    models = _paths(graphs, folder, ".onnx")
    for kind, graph in graphs.items():
        _write(models[kind], onnx_model(graph).SerializeToString())
    return sys.executable, models


def _lite_files(graphs, folder: str):
    try:
        tools = find_lite()
    except MrecgError:
        return "", {}
    if not tools.python:
        return "", {}
    models = _paths(graphs, folder, ".nb")
    int8 = convert(graphs["int8"], tools, "x86")
    if 2 * int8.int8 < len(int8.rows):  # its time would be taken for that of int8
        raise ModelError(f"{len(int8.rows) - int8.int8} of {len(int8.rows)} layers compute in "
                         "float on x86, where Paddle Lite's int8 is wrong; ARM runs other code")
    for kind, graph in graphs.items():
        _write(models[kind], convert(graph, tools, "x86", table=False).data)
    return tools.python, models


def _paths(graphs, folder: str, suffix: str) -> Dict[str, str]:
    return {kind: os.path.join(folder, kind + suffix) for kind in graphs}


def _write(path: str, data: bytes):
    with open(path, "wb") as file:
        file.write(data)


_WRITERS = {"inference": _paddle_files, "onnxruntime": _onnx_files, "lite": _lite_files}
