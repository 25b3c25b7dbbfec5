# SPDX-License-Identifier: Apache-2.0
"""Killed jobs end with the bytes of a job that was left alone; ``benchmarks/bench_kills.py`` is the
long run.
"""
import os
import tempfile

import pytest

from paddle_mrecg import scratch
from paddle_mrecg.post.checkpoint import Checkpoint
from paddle_mrecg.report.publish import Swap

from tests.kills import FAULTS, Bench, Chain

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs are forked")


@pytest.fixture
def bench(tmp_path):
    return Bench(str(tmp_path), seed=0)


@pytest.mark.slow
def test_nothing_is_lost(bench):
    bench.until(4)
    assert not any(bench.faults.values()), (bench.faults, bench.messages)
    assert bench.restored and sorted(os.listdir(bench.folder)) == ["float", "old", "whole"]


def faults(bench, kill, surely=True):
    """Of a job that is killed there once, and started again; none where it was not killed and need
    not be.
    """
    chain = Chain(bench, tempfile.mkdtemp(dir=bench.folder), with_old=True)
    killed = chain.run(kill, resume=False, fresh=False).killed
    if not (killed or surely):
        return set()
    assert killed
    run = chain.run(None, resume=True, fresh=False)
    if run.told("done"):
        chain.judge()
    found, bench.faults = bench.faults, dict.fromkeys(FAULTS, 0)
    return {name for name, number in found.items() if number}


@pytest.mark.slow
def test_faults_are_found(bench, monkeypatch):
    """With what protects a job taken away, each fault shows."""
    late, middle = dict(phase="written program", operation=0), dict(phase="publish", operation=7)
    assert not faults(bench, late) and not faults(bench, middle)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "load", lambda *_: None)
        assert faults(bench, late) == {"units lost"}
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "remove_leftovers", lambda *_: [])
        # a job forked from a process that has run jobs before does less there
        found = [faults(bench, dict(phase="first run", operation=k), surely=False)
                 for k in (20, 15, 11, 8, 6, 4)]
        assert {"files left behind"} in found
    with monkeypatch.context() as patch:
        patch.setattr(Swap, "is_pending", False)
        assert {"results lost", "starts refused"} & faults(bench, middle)
