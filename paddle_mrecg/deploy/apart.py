# SPDX-License-Identifier: Apache-2.0
"""Run a program with Paddle Inference in another process: a crash inside Paddle becomes a sentence.

Importing Paddle takes seconds and a run may need several, so one helper process imports it once and
forks for every request (``apart_server``). It ends by itself when it has nothing to do.
"""
import atexit
import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Dict, List, Mapping, Optional

import numpy as np

from ..scratch import scratch_folder
from .arrays import read_arrays, write_arrays

RUN_SECONDS = 300
TIMEOUT = "timeout"  # instead of an exit code
_START_SECONDS = 600  # importing Paddle on a machine that is busy
_lock = threading.Lock()
_server: Optional["_Server"] = None


@dataclasses.dataclass
class Ran:
    """What became of a program.

    Attributes:
        outputs(dict, optional): name -> array, in the program's order; None when it did not run.
        failure(str): why not; empty when it ran.
        milliseconds(list[float]): of repeated runs, if asked for.
    """

    outputs: Optional[Dict[str, np.ndarray]] = None
    failure: str = ""
    milliseconds: List[float] = dataclasses.field(default_factory=list)


def run_apart(program: str, params: str, feed: Mapping[str, np.ndarray], seconds: int = RUN_SECONDS,
              repeat: int = 0, optimize: bool = True) -> Ran:
    """Load and run a program on the CPU in another process.

    Args:
        program(str): ``.pdmodel`` or, on Paddle 3, ``.json``.
        params(str): the combined parameter file.
        feed(dict): input name -> array.
        seconds(int, optional): limit for loading and running. Default: 300.
        repeat(int, optional): further runs to time. Default: 0.
        optimize(bool, optional): with Paddle's graph optimization, as deployed. Default: True.
    """
    with scratch_folder() as folder:
        inputs, outputs, log = (os.path.join(folder, n) for n in ("in.npz", "out.npz", "log"))
        write_arrays(inputs, feed)
        request = dict(program=os.path.abspath(program), params=os.path.abspath(params),
                       inputs=inputs, outputs=outputs, log=log, seconds=seconds, repeat=repeat,
                       optimize=optimize)
        code = _ask(request)
        if code == TIMEOUT:
            return Ran(failure=f"no result after {seconds} s")
        if isinstance(code, str):
            return Ran(failure=code)
        if code or not os.path.exists(outputs):
            return Ran(failure=_why_stopped(code, log))
        arrays, times = read_arrays(outputs)
        return Ran(arrays, "", times)


def start_helper():
    """Start the helper process where there is none, without waiting for it: it imports Paddle while
    this process reads a model.
    """
    with _lock:
        _helper()


def _helper() -> "_Server":
    """The helper process, a new one where there is none; to be called with the lock held."""
    global _server
    if _server is None or not _server.is_alive():
        _server = _Server()
    return _server


def _ask(request):
    """The exit code of the process that ran the request, or a sentence when there is none."""
    global _server
    with _lock:
        for _ in range(2):  # a helper that has ended meanwhile is replaced once
            helper = _helper()
            try:
                return helper.ask(request)
            except _Gone as gone:
                problem, code = str(gone), helper.close()
                _server = None
                if not hasattr(os, "fork"):
                    return code or 1  # the helper ran the request itself
    return f"the helper process ended ({problem})"


def _leave_helper():
    """In a forked process: the helper is its parent's, and would answer both through one pipe."""
    global _lock, _server
    if _server is not None:
        atexit.unregister(_server.close)
    _lock, _server = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_helper)


class _Gone(Exception):
    """The helper has ended, or does not answer."""


class _Server:
    """The helper process."""

    def __init__(self):
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        # Only CPUs are asked; and not in the working directory, where the modules of a received
        # result would be found.
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([root, *path]),
                           CUDA_VISIBLE_DEVICES="")
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "paddle_mrecg.deploy.apart_server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=environment,
            cwd=root)
        self._ready = False
        atexit.register(self.close)

    def is_alive(self) -> bool:
        """False when it has ended by itself."""
        return self._process.poll() is None

    def ask(self, request):
        """The answer to a request; raises _Gone."""
        if not self._ready:
            self._line(_START_SECONDS)
            self._ready = True
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise _Gone(str(error)) from error
        return self._line(request["seconds"] + 30)["code"]

    def _line(self, seconds):
        ready = os.name == "nt" or select.select([self._process.stdout], [], [], seconds)[0]
        line = self._process.stdout.readline() if ready else b""
        if not line.endswith(b"\n"):
            raise _Gone(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no message"

    def close(self):
        """End the helper; its exit code."""
        atexit.unregister(self.close)
        if self._process.poll() is None:
            self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            with contextlib.suppress(OSError):
                stream.close()
        return self._process.wait()


def _why_stopped(code: int, log: str) -> str:
    if code < 0:
        return f"the process was killed by {signal.Signals(-code).name}"
    lines = []
    if os.path.exists(log):
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
    return lines[-1][:300] if lines else f"exit code {code}, no message"
