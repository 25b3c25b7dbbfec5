# SPDX-License-Identifier: Apache-2.0
"""Run a program on a real runtime, in a process of its own: a crash or an endless loop
is a result, not the end.
"""
import dataclasses
import os
import re
import signal
import subprocess
import sys
from typing import Callable, Dict, List, Mapping, Optional

import numpy as np

from ...errors import MrecgError
from ..apart import RUN_SECONDS, run_apart
from ..arrays import read_arrays, write_arrays
from ..lite import predict as lite_predict
from ..lite.convert import convert, reason
from ..lite.env import find_lite
from ..to_onnx import onnx_model
from ...graph.graph import Graph
from ...graph.writer import save_program
from ...scratch import scratch_folder


_LAST_WORDS = re.compile(r"\[F |F\d{4} ")  # how a line of glog begins that ends the process


@dataclasses.dataclass
class Outcome:
    """What one runtime made of a program.

    Attributes:
        outputs(dict, optional): name -> array; None when it did not run.
        failure(str): why not; empty when it ran.
        milliseconds(list[float]): of repeated runs, if asked for.
        notes(list[str]): what was rewritten for this runtime.
        bytes(int): size of the runtime's model file.
    """

    outputs: Optional[Dict[str, np.ndarray]] = None
    failure: str = ""
    milliseconds: List[float] = dataclasses.field(default_factory=list)
    notes: List[str] = dataclasses.field(default_factory=list)
    bytes: int = 0


def run_inference(graph: Graph, feed: Mapping[str, np.ndarray], seconds: int = RUN_SECONDS,
                  repeat: int = 0, optimize: bool = True) -> Outcome:
    """Paddle Inference on the CPU, with its graph optimization as deployed unless told otherwise.
    """
    with scratch_folder() as folder:
        prefix = os.path.join(folder, "model")
        save_program(graph, prefix)
        size = sum(os.path.getsize(prefix + suffix) for suffix in (".pdmodel", ".pdiparams"))
        ran = run_apart(prefix + ".pdmodel", prefix + ".pdiparams", feed, seconds, repeat,
                        optimize)
    outputs = ran.outputs and _by_name(ran.outputs, graph.outputs)
    return Outcome(outputs, ran.failure, ran.milliseconds, bytes=size)


def run_onnxruntime(graph: Graph, feed: Mapping[str, np.ndarray], seconds: int = RUN_SECONDS,
                    repeat: int = 0) -> Outcome:
    """onnxruntime on the CPU, without its graph optimizations, which move quantizers."""
    try:
        model = onnx_model(graph)
    except MrecgError as error:
        return Outcome(failure=str(error))
    with scratch_folder() as folder:
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
        found = Outcome(bytes=os.path.getsize(path))
        return _run_worker(_worker(path), folder, feed, graph.outputs, seconds, repeat,
                           found)


def run_lite(graph: Graph, feed: Mapping[str, np.ndarray], seconds: int = RUN_SECONDS,
             repeat: int = 0) -> Outcome:
    """Paddle Lite's x86 predictor, int8 where the program is quantized."""
    try:
        tools = find_lite()
        model = convert(graph, tools, "x86", table=False)
    except MrecgError as error:
        return Outcome(failure=str(error))
    if not tools.python:
        return Outcome(failure=f"{tools.opt} has no predictor next to it: run "
                               "`paddle-mrecg lite-env`")
    with scratch_folder() as folder:
        path = os.path.join(folder, "model.nb")
        with open(path, "wb") as file:
            file.write(model.data)
        found = Outcome(notes=model.changes, bytes=len(model.data))
        return _run_worker([tools.python, os.path.abspath(lite_predict.__file__), path], folder,
                           feed, graph.outputs, seconds, repeat, found)


RUNTIMES: Dict[str, Callable[..., Outcome]] = {"inference": run_inference,
                                               "onnxruntime": run_onnxruntime, "lite": run_lite}


def _worker(path: str) -> List[str]:
    return [sys.executable, "-W", "ignore", "-m", "paddle_mrecg.deploy.check.worker", path]


def _run_worker(command: List[str], folder: str, feed, names: List[str], seconds: int, repeat: int,
                found: Outcome) -> Outcome:
    """Hand the inputs over, run, take the outputs."""
    inputs, outputs = (os.path.join(folder, f"{k}.npz") for k in ("inputs", "outputs"))
    write_arrays(inputs, feed)
    environment = dict(os.environ,
                       PYTHONPATH=os.pathsep.join([_root()] + _python_path()))
    if command[0] != sys.executable:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        # not in the working directory, where the modules of a received result would be found
        done = subprocess.run([*command, inputs, outputs, "--repeat", str(repeat)], env=environment,
                              timeout=seconds, cwd=folder,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace")
    except subprocess.TimeoutExpired:
        found.failure = f"no result after {seconds} s"
        return found
    if done.returncode or not os.path.exists(outputs):
        found.failure = _worker_failure(done)
        return found
    arrays, found.milliseconds = read_arrays(outputs)
    found.outputs = _by_name(arrays, names)
    return found


def _by_name(arrays: Mapping[str, np.ndarray], names: List[str]) -> Dict[str, np.ndarray]:
    """Converters may rename outputs; their order is kept."""
    renamed = any(n not in arrays for n in names) and len(arrays) == len(names)
    return dict(zip(names, arrays.values())) if renamed else dict(arrays)


def _worker_failure(done) -> str:
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode < 0:
        killed = f"the process was killed by {signal.Signals(-done.returncode).name}"
        told = [line for line in lines if _LAST_WORDS.match(line)]
        return f"{killed}: {reason(told[-1])}" if told else killed
    # what belongs to an error goes on in indented lines
    start = max((k for k, line in enumerate(lines) if not line[0].isspace()), default=0)
    text = " ".join(line.strip() for line in lines[start:])
    return f"exit code {done.returncode}: {text[:300] or 'no message'}"


def _python_path() -> List[str]:
    return [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]


def _root() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
