# SPDX-License-Identifier: Apache-2.0
"""From a QDQ program to Paddle Lite's ``.nb``, by the real ``paddle_lite_opt``."""
import collections
import dataclasses
import errno
import hashlib
import os
import re
import subprocess
from typing import Dict, List

from ...machine import free_bytes
from ...errors import ModelError, MrecgError
from ...graph.graph import Graph
from ...graph.writer import save_program
from ...scratch import scratch_folder
from .env import LiteTools
from .ops import WITHOUT_KERNEL, missing_ops
from .table import OpRow, op_rows
from .arm import apply_mobile_rules
from .same_ops import as_lite_reads_it
from .x86 import for_x86
from ..forms import wrong_forms
from ..rewrites import for_lite

LITE_TARGETS = ("arm", "x86")
OPT_SECONDS = 600
ROOM_LEFT = 1 << 16  # bytes: with less the converter may have written half a file
NB, TABLE = "naive_buffer", "protobuf"  # what opt makes: the model, and a program that can be read
_RECENT: Dict[tuple, bytes] = collections.OrderedDict()  # what opt made of which program
_REMEMBERED = 4  # of it: a job times a program, writes it and compares it


@dataclasses.dataclass
class LiteModel:
    """A converted model.

    Attributes:
        target(str): ``arm`` or ``x86``.
        data(bytes): the ``.nb`` file.
        rows(list[OpRow]): every convolution and matrix product, and whether it became int8; empty
            where it was not asked for.
        changes(list[str]): what was rewritten, a sentence each.
    """

    target: str
    data: bytes
    rows: List[OpRow]
    changes: List[str]

    @property
    def int8(self) -> int:
        """How many rows run in int8."""
        return sum(row.int8 for row in self.rows)


def convert(graph: Graph, tools: LiteTools, target: str = "arm", table: bool = True) -> LiteModel:
    """Rewrite a program and run ``paddle_lite_opt`` on it; what it made last is remembered.

    Args:
        graph(Graph): a program, quantized or float; it is not changed.
        tools(LiteTools): the converter.
        target(str, optional): ``arm`` or ``x86``. Default: ``arm``.
        table(bool, optional): find ``rows``, for which opt runs a second time. Default: True.

    Raises:
        ModelError: the program cannot run as it should (see ``mobile``), or opt refuses it; the
            reason is in the message.
        OutputError: the system's temporary directory is full.
    """
    wrong = wrong_forms(graph)
    if wrong:  # opt would write a file that computes something else, or crashes
        raise ModelError(f"Paddle Lite has no kernel for {', '.join(wrong)}: {WITHOUT_KERNEL}")
    graph = graph.copy()
    changes = as_lite_reads_it(graph) + apply_mobile_rules(graph) + for_lite(graph)
    changes += for_x86(graph) if target == "x86" else []
    with scratch_folder() as folder:
        prefix = os.path.join(folder, "model")
        save_program(graph, prefix)
        try:
            data = _made(tools, prefix, target, NB)
        except ModelError as error:
            missing = [op for op in missing_ops(graph, target) if op not in str(error)]
            raise ModelError(f"{error}; it has no kernel for {', '.join(missing)}"
                             if missing else str(error)) from error
        rows = op_rows(graph, _made(tools, prefix, target, TABLE)) if table else []
    return LiteModel(target, data, rows, changes)


def _made(tools: LiteTools, prefix: str, target: str, kind: str) -> bytes:
    """What the converter makes of the program at ``prefix``, there or from memory."""
    digest = hashlib.sha256()
    for suffix in (".pdmodel", ".pdiparams"):
        with open(prefix + suffix, "rb") as file:
            digest.update(file.read())
    key = tools.opt, target, kind, digest.digest()
    if key not in _RECENT:
        output = f"{prefix}.{kind}"
        _opt(tools, prefix, target, kind, output)
        with open(_output_path(output, kind), "rb") as file:
            _RECENT[key] = file.read()
        while len(_RECENT) > _REMEMBERED:
            _RECENT.popitem(last=False)
    return _RECENT[key]


def _output_path(output: str, kind: str) -> str:
    return output + ".nb" if kind == NB else os.path.join(output, "model")


def _opt(tools: LiteTools, prefix: str, target: str, kind: str, output: str):
    """Run the converter; it may abort, and it may fail with exit code 0."""
    command = [tools.opt, f"--model_file={prefix}.pdmodel", f"--param_file={prefix}.pdiparams",
               f"--valid_targets={target}",
               f"--optimize_out_type={kind}", f"--optimize_out={output}"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace",
                              timeout=OPT_SECONDS)
    except OSError as error:
        raise MrecgError(f"{tools.opt} cannot be run ({error.strerror}): run "
                         "`paddle-mrecg lite-env`") from error
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"paddle_lite_opt for {target} did not finish in {OPT_SECONDS} "
                         "s: try a smaller model") from error
    if free_bytes(os.path.dirname(output)) < ROOM_LEFT:  # it ends with exit code 0 even then
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), output)
    if done.returncode or not os.path.exists(_output_path(output, kind)):
        raise ModelError(f"paddle_lite_opt for {target} failed ({_ending(done.returncode)}): "
                         f"{reason(done.stdout)}")


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def reason(log: str) -> str:
    """The line of a log that says why: the failed check, else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines
               if any(word in line
                      for word in ("Check failed", "Error", "not support", "Not support",
                                   "No attributes"))]
    line = (telling or lines or ["no message"])[0 if telling else -1]
    # without time and place in the converter's source
    return re.sub(r"^\[[A-Z] [^\]]*\] ", "", line)[:300]
