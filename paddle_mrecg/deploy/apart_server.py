# SPDX-License-Identifier: Apache-2.0
"""The helper process of ``apart``: reads requests, a line of JSON each, and forks for every one.

It ends when its standard input does, or when it was not asked for a while.
"""
import json
import os
import select
import signal
import sys
import time
import traceback

import numpy as np

from ..compat import import_paddle
from ..errors import MrecgError
from .apart import TIMEOUT
from .arrays import read_arrays

IDLE_SECONDS = 300
RUN_FAILED = 3  # exit code of a run whose log says why


def main():
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what Paddle prints is not an answer
    import_paddle()
    import paddle.inference
    # Paddle's handler of a crash builds a stack trace, and may wait forever where the crash broke
    # the heap: without it the process ends at once, and its signal says the same.
    paddle.disable_signal_handler()
    _answer(replies, {"ready": True})
    while os.name == "nt" or select.select([sys.stdin], [], [], IDLE_SECONDS)[0]:
        line = sys.stdin.readline()
        if not line:
            return
        _answer(replies, {"code": _apart(json.loads(line))})


def _answer(replies, value):
    replies.write(json.dumps(value).encode() + b"\n")


def _apart(request):
    """Exit code of a process that runs the request; negative: the signal that ended it."""
    if not hasattr(os, "fork"):
        return _predict_logged(request)  # a crash ends this process, which the other side notices
    child = os.fork()
    if not child:
        os._exit(_predict_logged(request))
    deadline = time.monotonic() + request["seconds"]
    pause = 0.001
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return TIMEOUT
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _predict_logged(request) -> int:
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT)
    kept = [os.dup(1), os.dup(2)]
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        _predict(request)
        return 0
    except BaseException as error:
        text = str(error) if isinstance(error, MrecgError) else "".join(
            traceback.format_exception_only(type(error), error))
        os.write(log, f"\n{text}".encode())
        return RUN_FAILED
    finally:
        for number, copy in zip((1, 2), kept):
            os.dup2(copy, number)


def _predict(request):
    from .predictor import Predictor
    feed, _ = read_arrays(request["inputs"])
    predictor = Predictor((request["program"], request["params"]), optimize=request["optimize"])
    outputs, times = predictor(feed), []
    for _ in range(request["repeat"]):
        start = time.perf_counter()
        predictor(feed)
        times.append(1000 * (time.perf_counter() - start))
    # under another name first: a half-written file must not be taken for a result
    partial = request["outputs"] + ".partial.npz"
    np.savez(partial, names=np.array(predictor.output_names), milliseconds=np.array(times),
             **{str(k): v for k, v in enumerate(outputs)})
    os.replace(partial, request["outputs"])


if __name__ == "__main__":
    main()
