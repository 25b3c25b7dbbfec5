# SPDX-License-Identifier: Apache-2.0
"""Which of a unit's iterates is handed on."""
import numpy as np
import pytest

from paddle_mrecg.config import MRECG
from paddle_mrecg.post import best_iterate
from paddle_mrecg.post.best_iterate import BestIterate, judging_rows
from paddle_mrecg.post.unit_loss import Loss, measure, total
from paddle_mrecg.post.walk import Walker

from tests.tiny import tiny_job

QUICK = dict(rounding_lr=5e-2, keep_prob=1.0, batch_size=16, scale_lr=1e-3,
             round_weight_relative=3.0)


class Scripted:
    """A trainer whose iterates have the losses of a list."""

    def __init__(self, losses):
        self.losses, self.step = losses, 0

    def commit(self):
        return self.losses[self.step]

    def snapshot(self):
        return dict(alphas=self.step)


@pytest.mark.parametrize("losses, best", [([5, 4, 3, 2, 1], 4), ([5, 4, 1, 2, 3], 2),
                                          ([1, 4, 1, 2, 3], 0), ([5, 9, 9, 9, float("inf")], 0)])
def test_the_best_is_kept_and_of_equals_the_first(losses, best, monkeypatch):
    monkeypatch.setattr(BestIterate, "_hard", lambda self, state: Loss(state, 1.0))
    job = tiny_job()
    trainer = Scripted(losses)
    found = BestIterate(job.problem(job.units()[0]), np.arange(8), losses[0])
    for trainer.step in range(1, 5):
        found.judge(trainer, trainer.step)
    assert found.step == best and (found.snapshot is None) == (best == 0)
    assert found.snapshot is None or found.snapshot["alphas"] == best


def test_the_last_iterate_is_judged_and_there_are_few():
    job = tiny_job()
    best = BestIterate(job.problem(job.units()[0]), np.arange(8), job.state)
    for iters in (1, 2, 3, 60, 20000):
        points = best.points(iters)
        assert points[-1] == iters and len(points) <= 4 and points[0] >= 1


def test_a_training_that_goes_astray_hands_on_what_it_had_before(monkeypatch):
    """All roundings turned round behind the last but one of the iterates that are judged. (With
    4-bit activations training ended within 1 % of its start, on either side by the processor.)
    """
    job = tiny_job(weight_bits=2, activation_bits=8)
    unit = job.units((0, 2))[0]
    rows = np.arange(48)
    losses = {}
    monkeypatch.setattr(best_iterate, "POINTS", 8)
    for judged in (False, True):
        trainer = job.trainer(MRECG(**QUICK), unit)
        best = BestIterate(trainer.problem, rows, job.state)

        def wreck(trainer, step, loss):
            if step == 199:
                for rounding in trainer.rounding.values():
                    rounding.alpha.set_value(-rounding.alpha)
        trainer.train(200, wreck, best if judged else None)
        losses[judged] = total(measure(trainer.problem, trainer.commit())[0], unit.outputs).error
    start = total(measure(trainer.problem, job.state)[0], unit.outputs).error
    assert losses[True] == pytest.approx(best.loss.error, rel=1e-5)
    assert best.step == 175 and losses[True] < start < losses[False]


def test_snapshots_are_copies_that_restore_everything():
    job = tiny_job(weight_bits=2, activation_bits=4)
    trainer = job.trainer(MRECG(**QUICK), job.units((0, 2))[0])
    trainer.train(5)
    before, snapshot = trainer.commit(), trainer.snapshot()
    trainer.train(40)
    assert any(np.any(before.codes[n] != trainer.commit().codes[n]) for n in trainer.rounding)
    trainer.restore(snapshot)
    after = trainer.commit()
    for name in trainer.rounding:
        assert np.array_equal(before.codes[name], after.codes[name])
    for name in trainer.quantizers:
        assert before.activation_encodings[name].scale == after.activation_encodings[name].scale
    assert all(np.array_equal(before.biases[n], after.biases[n]) for n in trainer.biases)


def test_a_unit_says_which_step_was_kept():
    job = tiny_job(weight_bits=2, activation_bits=4)
    walker = Walker(job.network, job.state)
    result = walker.step(job.units((0, 2))[0], [], MRECG(**QUICK), 40)
    assert result.kept == (result.best > 0) and result.best in (0, 10, 20, 30, 40)
    assert result.from_dict(result.unit, result.to_dict(), {}).best == result.best


def test_the_samples_that_judge_are_drawn_by_seed():
    for count in (9, 128, 5000):
        rows = judging_rows(count, np.random.default_rng(1))
        assert len(set(rows)) == len(rows) == min(count, 128) and rows.max() < count
        assert np.array_equal(rows, judging_rows(count, np.random.default_rng(1)))
    assert not np.array_equal(rows, judging_rows(count, np.random.default_rng(2)))


@pytest.mark.parametrize("rounding_lr, taken", [(1e3, 12), (5e-2, 25)])
def test_a_training_that_gains_nothing_by_half_of_its_steps_ends_there(rounding_lr, taken):
    job, seen = tiny_job(weight_bits=2, activation_bits=4, activation_observer="mse"), []
    walker, units = Walker(job.network, job.state), job.units()
    walker.step(units[0], units[1:], MRECG(), 0)
    settings = MRECG(**dict(QUICK, rounding_lr=rounding_lr, early_stop=True))
    result = walker.step(units[1], units[2:], settings, 25,
                         on_step=lambda trainer, step, loss: seen.append(step))
    assert result.iterations == len(seen) == taken and result.kept == (taken == 25)
