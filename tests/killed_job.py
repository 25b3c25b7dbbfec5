# SPDX-License-Identifier: Apache-2.0
"""One job in a process of its own, which tells of its progress through a pipe and is ended by
SIGKILL: after some time in a phase, or before the n-th file operation of it.

Most are forked from this process, which has imported Paddle; *fresh* ones start Python anew and do
without the short cuts of forked ones (see ``_shorten``).
"""
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from typing import Dict, List, Optional

import numpy as np

from paddle_mrecg import files
from paddle_mrecg.deploy import apart, apart_server
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.errors import MrecgError
from paddle_mrecg.post import unit_state, write
from paddle_mrecg.post.checkpoint import Checkpoint
from paddle_mrecg.post.job import quant_post_mrecg
from paddle_mrecg.post.prepare import Clock
from paddle_mrecg.report import sizes
from paddle_mrecg.report.result_dir import ResultDir

from tests.jobs import batches, content, settings
from tests.tiny import tiny_samples

OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir",
              "os.scandir", "shutil.rmtree")
AFTER = {"read": "first run", "first run": "equalization", "equalize": "calibration",
         "calibrate": "float score", "solve": "first pass", "first pass": "units",
         "reconstruct": "written program", "export and verify": "layers",
         "measure layers": "scores"}
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIMIT = 300.0  # seconds until a run counts as hanging


def job(folder: str, place: str, resume: bool, bits: int = 3):
    """A job with every phase, a second or two long."""
    sections = {"Global": {"resume": resume, "visualdl": False},
                "QuantPost": {"weight_bits": bits, "rounding": "solve"}}
    feed = {"image": tiny_samples(32, seed=5)["image"]}
    labels = Predictor(os.path.join(folder, "inference"))(feed)[0].argmax(1)

    def agreement(predict):
        return {"agreement": float(np.mean(predict(feed)[0].argmax(1) == labels))}
    return quant_post_mrecg(folder, batches(), settings(sections, num_iters=16), place, agreement)


class Told:
    """In the process of a job: says where it is, and ends it there if asked to."""

    def __init__(self, pipe: int, kill: Optional[Dict]):
        self._pipe, self._kill = pipe, kill or {}
        self.operations, self.phase = 0, None
        sys.addaudithook(self._count)

    def say(self, kind: str, value=None):
        os.write(self._pipe, json.dumps([kind, value, self.operations]).encode() + b"\n")

    def enter(self, phase: str):
        self.say("phase", phase)  # with the number of operations of the last one
        self.phase, self.operations = phase, 0

    def _count(self, event, _):
        if event not in OPERATIONS:
            return
        if self.phase == self._kill.get("phase") and self.operations == self._kill.get("operation"):
            os.kill(os.getpid(), signal.SIGKILL)
        self.operations += 1

    def watch(self, place: str):
        """Report phases, the result that stands at the start, and units that are trained."""
        lap, save = Clock.lap, Checkpoint.save
        publish, init = ResultDir.publish, ResultDir.__init__
        scored = []

        def on_lap(clock, name):
            lap(clock, name)
            if name == "evaluate":
                scored.append(name)
                self.enter("solve" if len(scored) == 1 else "report")
            else:
                self.enter(AFTER[name])

        def on_init(result, *args):
            self.enter("start")
            init(result, *args)
            self.say("opened", standing(place))
            self.enter("read")

        def on_publish(result, *args, **kwargs):
            self.enter("publish")
            publish(result, *args, **kwargs)
            self.enter("end")

        def on_save(checkpoint, key, *args, **kwargs):
            self.say("trained", key)
            save(checkpoint, key, *args, **kwargs)
        Clock.lap, Checkpoint.save = on_lap, on_save
        ResultDir.publish, ResultDir.__init__ = on_publish, on_init


def _shorten():
    """A forked job starts no Python processes, neither to run programs nor to compress, and its
    picture is a small one.
    """
    apart._ask = apart_server._apart
    files.deflate = sizes.deflate = lambda data: zlib.compress(data, 6)
    write.oscillation_picture = lambda path, curves: files.write_png(
        path, np.zeros((8, 8, 3), np.uint8))


def run_job(spec: Dict, pipe: int, fresh: bool):
    """The process of a job, from the first line to the last."""
    tempfile.tempdir = spec["temporary"]
    # states inside units, as in jobs that take longer
    unit_state.STATE_SECONDS, unit_state.SAVING_SHARE = 0.2, np.inf
    if not fresh:
        _shorten()
    told = Told(pipe, spec["kill"])
    told.watch(spec["place"])
    try:
        result = job(spec["model"], spec["place"], spec["resume"], spec["bits"])
        units = result.report.units + result.report.first_pass
        told.say("done", sum(u.restored for u in units))
    except MrecgError as error:
        told.say("refused", str(error))
    except BaseException:
        told.say("broken", traceback.format_exc())


def standing(place: str) -> str:
    """Digest of the result in ``place``, or ``none``."""
    try:
        return hashlib.sha256(b"".join(content(place))).hexdigest()
    except FileNotFoundError:
        return "none"


class Run:
    """What one process said, and how it ended."""

    def __init__(self, spec: Dict, fresh: bool = False):
        reading, writing = os.pipe()
        self.killed, self.hung, self.heard = False, False, []
        self._kill, self._deadline = spec["kill"] or {}, time.monotonic() + LIMIT
        self.seconds = time.monotonic()
        if fresh:
            child = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.killed_job", json.dumps(spec),
                 str(writing)], pass_fds=[writing], start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT).pid
        else:
            child = os.fork()
            if not child:
                _forked(spec, writing)
        os.close(writing)
        self._listen(child, reading)
        os.close(reading)
        self.killed |= os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        _end_group(child)
        self.seconds = time.monotonic() - self.seconds

    def _listen(self, child: int, pipe: int):
        """Hear all, and kill at the time that was asked for."""
        rest, at = b"", None
        while True:
            until = min(self._deadline, at or self._deadline)
            if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                self.hung = at is None
                _end_group(child)
                at, self._deadline = None, time.monotonic() + LIMIT
                continue
            block = os.read(pipe, 1 << 16)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                kind, value, operations = json.loads(line)
                self.heard.append((kind, value, operations, time.monotonic()))
                if kind == "phase" and value == self._kill.get("phase") and (
                        "seconds" in self._kill):
                    at = time.monotonic() + self._kill["seconds"]

    def told(self, kind: str) -> List:
        return [value for found, value, *_ in self.heard if found == kind]

    def phases(self) -> Dict[str, Dict]:
        """phase -> seconds and file operations."""
        marks = [h for h in self.heard if h[0] == "phase"]
        return {a[1]: dict(seconds=b[3] - a[3], operations=b[2]) for a, b in zip(marks, marks[1:])}


def _forked(spec: Dict, pipe: int):
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (1, 2):
            os.dup2(null, number)
        run_job(spec, pipe, fresh=False)
    finally:
        os._exit(0)


def _end_group(group: int):
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


if __name__ == "__main__":
    run_job(json.loads(sys.argv[1]), int(sys.argv[2]), fresh=True)
