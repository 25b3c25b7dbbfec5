# SPDX-License-Identifier: Apache-2.0
"""The helper process belongs to the process that started it."""
import os

import pytest

from paddle_mrecg.deploy import apart


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_forked_process_does_not_share_its_parents_helper(monkeypatch):
    class Helper:
        closed = False

        def close(self):
            self.closed = True

    helper, lock = Helper(), apart._lock
    monkeypatch.setattr(apart, "_server", helper)
    with lock:  # another thread is asking
        child = os.fork()
        if not child:
            free = apart._lock.acquire(blocking=False)
            os._exit(0 if free and apart._server is None and not helper.closed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert apart._server is helper and apart._lock is lock


def test_a_helper_is_started_early_and_once(monkeypatch):
    started = []

    class Helper:
        def __init__(self):
            started.append(self)

        def is_alive(self):
            return self is not ended

    ended = None
    monkeypatch.setattr(apart, "_Server", Helper)
    monkeypatch.setattr(apart, "_server", None)
    apart.start_helper()
    apart.start_helper()
    assert len(started) == 1 and apart._server is started[0]
    ended = started[0]  # it ends by itself when it was not asked for a while
    apart.start_helper()
    assert len(started) == 2 and apart._server is started[1]
