# SPDX-License-Identifier: Apache-2.0
"""A kill inside a unit costs seconds, and the run that goes on ends with the same bytes."""
import os

import numpy as np
import pytest

from paddle_mrecg.errors import OutputError
from paddle_mrecg.post import unit_state
from paddle_mrecg.post.checkpoint import Checkpoint
from paddle_mrecg.post.job import quant_post_mrecg
from paddle_mrecg.post.reconstruct import UnitTrainer
from paddle_mrecg.report.result_dir import ResultDir

from tests.jobs import batches, content, model_dir, settings  # noqa: F401


class Killed(BaseException):
    """The process is gone."""


class Steps:
    """Counts optimizer steps, and kills before step number ``turn``."""

    def __init__(self, monkeypatch):
        self.count, self.turn, loss = 0, None, UnitTrainer._loss

        def counted(trainer, beta):
            if self.count == self.turn:
                raise Killed
            self.count += 1
            return loss(trainer, beta)
        monkeypatch.setattr(UnitTrainer, "_loss", counted)


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(unit_state, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(unit_state, "SAVING_SHARE", np.inf)
    return Steps(monkeypatch)


@pytest.fixture
def killed_leaves_all(monkeypatch):
    """Nothing is cleaned up by a process that is gone."""
    leave = ResultDir.__exit__

    def exit_(self, kind, error, trace):
        if kind is Killed:
            self._lock.close()
            return None
        return leave(self, kind, error, trace)
    monkeypatch.setattr(ResultDir, "__exit__", exit_)


CASES = {  # settings of MRECG, of other sections, and the step at which the process is killed
    "first pass": (dict(num_iters=60, first_pass_ratio=0.5, max_unit_modules=2), {}, 20),
    "warm-up": (dict(granularity="block"), {}, 2),
    "annealing": (dict(granularity="block"), {}, 15),
    "second unit": (dict(granularity="block", loss="fisher"), {}, 27),
    "no drop": (dict(granularity="block", keep_prob=1.0, inner_weight=0.0), {}, 9),
    "prefetched": (dict(granularity="block"), {"Global": {"memory_limit_mb": 16}}, 11),
    "joined": (dict(granularity="explicit", units=[[0, 1], [2, 2]], inner_weight=1.0), {}, 33),
}


@pytest.mark.parametrize("name", CASES)
def test_bytes_after_a_kill_inside_a_unit_are_those_of_a_whole_run(name, model_dir, tmp_path, steps,
                                                                   killed_leaves_all):
    mrecg, others, turn = CASES[name]
    # from nearest codes and with all the noise there is, so that all that is trained counts
    config = settings({"QuantPost": {"rounding": "nearest", "equalize": "none"}, **others}, **mrecg)
    whole = quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "whole"))
    assert any(u.best_step > 0 for u in whole.report.units if u.iterations)
    needed, steps.count, steps.turn = steps.count, 0, turn
    with pytest.raises(Killed):
        quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "out"))
    steps.turn = None
    config["Global"]["resume"] = True
    result = quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "out"))
    assert steps.count == needed, "a step that was saved was taken again, or one was left out"
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not os.path.exists(tmp_path / "out.partial")
    trained = [u for u in result.report.units if u.iterations and not u.restored]
    assert trained and all(u.curve[-1][0] == u.iterations - 1 for u in trained)
    assert all([p[0] for p in u.curve] == sorted({p[0] for p in u.curve}) for u in trained)


def test_a_state_of_other_steps_is_not_used(model_dir, tmp_path, steps, killed_leaves_all):
    folder = str(tmp_path / "out")
    steps.turn = 15
    with pytest.raises(Killed):
        quant_post_mrecg(model_dir, batches(), settings(granularity="block"), folder)
    steps.turn, steps.count = None, 0
    config = settings({"Global": {"resume": True}}, granularity="block", num_iters=10)
    quant_post_mrecg(model_dir, batches(), config, folder)
    assert steps.count == 30


def test_states_are_far_apart_when_saving_takes_long(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(unit_state.time, "monotonic", lambda: now[0])
    written = []

    class Slow:
        def write(self, key, header, arrays):
            written.append((now[0], header["step"]))
            now[0] += 2.0

    class Trainer:
        round_weight, drop, groups = {}, None, []

        def snapshot(self):
            return dict(alphas={}, biases={}, scales={})
    keeper = unit_state.UnitKeeper(Slow(), "0", 1000)
    for step in range(1, 200):
        now[0] += 1.0
        keeper.after(Trainer(), [], None, step)
    assert [b[0] - a[0] for a, b in zip(written, written[1:])] == [42.0] * (len(written) - 1)
    assert written[0] == (110.0, 10) and len(written) == 5


def test_a_full_disk_names_the_file_and_leaves_no_part_of_it(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(np, "savez", full)
    checkpoint = Checkpoint(str(tmp_path / "checkpoint"), {})
    with pytest.raises(OutputError, match="unit_0.npz.*No space left.*resume"):
        checkpoint.write("0", {}, {})
    assert os.listdir(tmp_path / "checkpoint") == []
