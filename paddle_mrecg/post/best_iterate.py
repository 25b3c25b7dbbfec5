# SPDX-License-Identifier: Apache-2.0
"""The best of a unit's iterates, its start included: what training hands on."""
from typing import List, Optional

import numpy as np

from .unit_loss import Loss, UnitProblem, measure, total

POINTS = 4  # iterates that are judged, evenly over the steps; the last one is among them
MOST_JUDGES = 128  # samples that judge


def judging_rows(count: int, rng: np.random.Generator) -> np.ndarray:
    """The samples that judge a unit's iterates, ascending: all, or ``MOST_JUDGES`` drawn ones.

    They train as well. To keep them from it costs more than it guards against: with few samples
    each one matters, with many an iterate that fits them fits the others.
    """
    return np.sort(rng.permutation(count)[:MOST_JUDGES])


class BestIterate:
    """Judges iterates as they would be handed on: roundings hard, nothing dropped, and always on
    the same samples. Between the judgements a step costs nothing.

    Args:
        problem(UnitProblem): the whole unit.
        rows(np.ndarray): the samples that judge.
        start(NetworkState): before training.
    """

    def __init__(self, problem: UnitProblem, rows: np.ndarray, start):
        self._part = problem.part(rows)
        self.loss = self._hard(start)
        self.snapshot: Optional[dict] = None  # None: the start
        self.step = 0
        self.committed = None  # the state that is handed on; None: the start's
        self._softness = 1.0

    def points(self, iters: int) -> List[int]:
        """The steps after which ``judge`` wants to be called."""
        return sorted({max(1, round(iters * k / POINTS)) for k in range(1, POINTS + 1)})

    def judge(self, trainer, step: int):
        """Look at the trainer's present state."""
        loss = self._hard(trainer.commit())
        if loss.error < self.loss.error:
            self.loss, self.snapshot, self.step = loss, trainer.snapshot(), step

    def finish(self, trainer):
        """Take from the trainer, which has gone back to the best iterate, what is handed on."""
        if self.snapshot is None:
            return
        self.committed = trainer.commit()
        soft, _ = measure(self._part, self.committed, weights=trainer.soft_weights())
        if self.loss.error > 0:
            self._softness = total(soft, self._part.outputs).error / self.loss.error

    def soft(self, hard: Loss) -> Loss:
        """The loss with soft roundings where it is ``hard`` with hard ones, from the samples
        that judge.
        """
        return Loss(hard.error * self._softness, hard.power)

    def _hard(self, state) -> Loss:
        losses, _ = measure(self._part, state)
        return total(losses, self._part.outputs)
