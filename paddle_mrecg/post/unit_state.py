# SPDX-License-Identifier: Apache-2.0
"""The state of a unit in the middle of its training, on disk every few seconds.

A kill then costs these seconds, and the run that goes on ends with the same bytes: parameters,
Adam's moments, learning rates, the bits that masks are cut from, and the best iterate so far all
come back. Batches are drawn again up to the step that was reached, which costs next to nothing.
"""
import time
from collections import defaultdict
from typing import Dict, List

import numpy as np
import paddle

from .checkpoint import UNREADABLE, Checkpoint
from .unit_loss import Loss

STATE_SECONDS = 10.0  # between two states
SAVING_SHARE = 0.05  # of the time that saving may take: large units are saved less often


class UnitKeeper:
    """Saves and restores one unit's training.

    Args:
        checkpoint(Checkpoint): where, and for which job.
        key(str): the unit, as in ``Checkpoint.save``.
        iters(int): steps of the whole training.
        curve(list, optional): points that a callback collects; they come back too. Default: None.
    """

    def __init__(self, checkpoint: Checkpoint, key: str, iters: int, curve: List = None):
        self._checkpoint, self._key, self._iters = checkpoint, f"begun_{key}", iters
        self._curve = curve if curve is not None else []
        self._next = time.monotonic() + STATE_SECONDS

    def resume(self, trainer, optimizers, best) -> int:
        """The step to go on with; 0 without a state of this job."""
        try:
            header, arrays = self._checkpoint.read(self._key)
            if header["iters"] != self._iters:
                return 0
            self._restore(trainer, optimizers, best, header, arrays)
        except UNREADABLE:
            return 0
        for _ in range(header["step"]):
            trainer.skip_batch()
        self._curve[:] = header["curve"]
        return header["step"]

    def after(self, trainer, optimizers, best, step: int):
        """Save if it is time; ``step`` steps are done."""
        begin = time.monotonic()
        if begin < self._next or step == self._iters:
            return
        arrays: Dict[str, np.ndarray] = {}
        header = dict(iters=self._iters, step=step, curve=self._curve,
                      rates=[o.state_dict()["LR_Scheduler"] for o in optimizers],
                      numbers={n: isinstance(w, paddle.Tensor)
                               for n, w in trainer.round_weight.items()})
        for name, weight in trainer.round_weight.items():
            arrays[f"weight/{name}"] = np.asarray(weight)
        _pack(arrays, "now", trainer.snapshot())
        for k, optimizer in enumerate(optimizers):
            for name, value in _moments(optimizer, trainer.groups[k]).items():
                arrays[f"moment/{k}/{name}"] = value
        if trainer.drop:
            header["masks"], arrays["masks"] = trainer.drop.state()
        if best:
            header["best"] = dict(loss=[best.loss.error, best.loss.power], step=best.step)
            _pack(arrays, "best", best.snapshot or {})
        self._checkpoint.write(self._key, header, arrays)
        now = time.monotonic()
        self._next = now + max(STATE_SECONDS, (now - begin) / SAVING_SHARE)

    def done(self):
        """The unit is finished and stored: forget its state."""
        self._checkpoint.forget(self._key)

    @staticmethod
    def _restore(trainer, optimizers, best, header, arrays):
        """Everything is looked up before anything is changed."""
        now, earlier = _unpack(arrays, "now"), _unpack(arrays, "best")
        moments = [{name: arrays[f"moment/{k}/{name}"]
                    for name in _names_after(arrays, f"moment/{k}/")}
                   for k, _ in enumerate(optimizers)]
        weights = {n: arrays[f"weight/{n}"] for n in trainer.round_weight}
        rates, numbers = header["rates"], header["numbers"]
        masks = (header["masks"], arrays["masks"]) if trainer.drop else None
        judged = header["best"] if best else None
        trainer.restore(now)
        for optimizer, group, found, rate in zip(optimizers, trainer.groups, moments, rates):
            _give_moments(optimizer, group, found, rate)
        trainer.round_weight = {n: paddle.to_tensor(w) if numbers[n] else float(w)
                                for n, w in weights.items()}
        if masks:
            trainer.drop.set_state(*masks)
        if best:
            best.loss, best.step = Loss(*judged["loss"]), judged["step"]
            best.snapshot = earlier or None


def _moments(optimizer, group) -> Dict[str, np.ndarray]:
    """An optimizer's moments by the number of their parameter: names change with the process."""
    state, found = optimizer.state_dict(), {}
    for k, parameter in enumerate(group):
        start = parameter.name + "_"
        found.update({f"{k}/{name[len(start):]}": value.numpy() for name, value in state.items()
                      if name.startswith(start)})
    return found


def _give_moments(optimizer, group, moments: Dict[str, np.ndarray], rate: Dict):
    state = {"LR_Scheduler": rate}
    for name, value in moments.items():
        number, _, kind = name.partition("/")
        state[f"{group[int(number)].name}_{kind}"] = paddle.to_tensor(value)
    optimizer.set_state_dict(state)


def _pack(arrays: Dict[str, np.ndarray], start: str, snapshot: Dict):
    """A trainer's snapshot as flat arrays."""
    for part in ("alphas", "biases"):
        for name, value in snapshot.get(part, {}).items():
            arrays[f"{start}/{part}/{name}"] = value
    for name, values in snapshot.get("scales", {}).items():
        for k, value in enumerate(values):
            arrays[f"{start}/scales/{k}/{name}"] = value


def _unpack(arrays, start: str) -> Dict:
    """The inverse of ``_pack``; empty if nothing was packed."""
    snapshot: Dict[str, Dict] = dict(alphas={}, biases={}, scales=defaultdict(list))
    for name in _names_after(arrays, start + "/"):
        part, _, rest = name.partition("/")
        if part == "scales":
            snapshot[part][rest.partition("/")[2]].append(arrays[f"{start}/{name}"])
        else:
            snapshot[part][rest] = arrays[f"{start}/{name}"]
    return snapshot if any(snapshot.values()) else {}


def _names_after(arrays, start: str) -> List[str]:
    return [name[len(start):] for name in arrays if name.startswith(start)]
