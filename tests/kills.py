# SPDX-License-Identifier: Apache-2.0
"""Jobs that are killed at random points and started again: nothing may be lost, and the bytes at
the end are those of a run that was left alone.
"""
import os
import shutil
import tempfile
import time
from collections import Counter
from typing import Dict, Optional, Set

import numpy as np

from paddle_mrecg.deploy import first_run
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.report.result_dir import CHECKPOINTS, MARKER, STAGING
from paddle_mrecg.scratch import SCRATCH_LOCK, UNLOCKED_SECONDS, remove_leftovers

from tests.jobs import content
from tests.killed_job import Run, job, standing
from tests.tiny import tiny_graph

OURS = "thesis.txt"  # a file of the user's in the folder of the result

class Chain:
    """A job in a folder of its own: killed, started again, perhaps killed again, until it ends."""

    def __init__(self, bench: "Bench", folder: str, with_old: bool):
        self.bench, self.folder, self.place = bench, folder, os.path.join(folder, "out")
        self.temporary = os.path.join(folder, "temporary")
        os.makedirs(self.temporary)
        self.allowed = {"none"}
        if with_old:
            shutil.copytree(bench.old, self.place)
            self.allowed = {bench.standing_old}
            with open(os.path.join(self.place, OURS), "w", encoding="utf-8") as file:
                file.write("mine")
        self.with_old = with_old
        self.allowed.add(bench.standing_new)
        self.units: Set[str] = set()

    def run(self, kill: Optional[Dict], resume: bool, fresh: bool) -> Run:
        """One start; what was lost since the last one is noted."""
        pending = self.is_pending()
        run = Run(dict(model=self.bench.model, place=self.place, resume=resume, bits=3, kill=kill,
                       temporary=self.temporary), fresh)
        faults = self.bench.faults
        for standing_now in run.told("opened"):
            allowed = {self.bench.standing_new} if pending else self.allowed
            faults["results lost"] += standing_now not in allowed
            if standing_now == self.bench.standing_new:
                self.allowed = {standing_now}
        if pending and not resume:
            self.units = set()  # its result is in place, and its units were not asked for
        lost = self.units & set(run.told("trained"))
        faults["units lost"] += len(lost)
        self.bench.messages += [f"job {self.bench.jobs}: {sorted(lost)} were there"] * bool(lost)
        faults["hung"] += run.hung
        faults["tracebacks"] += len(run.told("broken"))
        refused = run.told("refused")
        faults["starts refused"] += bool(refused) and not (self.units and not resume)
        self.bench.messages += run.told("broken") + [r for r in refused if not self.units]
        self.units = self.finished()
        return run

    def is_pending(self) -> bool:
        return any(os.path.exists(os.path.join(s, "publish.json")) for s in self._stagings())

    def _stagings(self):
        return [os.path.join(self.place, STAGING), self.place + STAGING]

    def finished(self) -> Set[str]:
        """Units that are on disk."""
        return {name[len("unit_"):-len(".npz")] for staging in self._stagings()
                if os.path.exists(os.path.join(staging, MARKER))
                and os.path.isdir(os.path.join(staging, CHECKPOINTS))
                for name in os.listdir(os.path.join(staging, CHECKPOINTS))
                if name.endswith(".npz") and not name.startswith("unit_begun")}

    def judge(self):
        """After the last run: the same bytes, nothing else, and the user's file."""
        faults = self.bench.faults
        faults["other bytes"] += content(self.place) != self.bench.reference
        left = set(os.listdir(self.folder)) - {"out", "temporary"}
        inside = {n for n in os.listdir(self.place) if n.startswith(STAGING)}
        inside |= {n for n in os.listdir(self.temporary)
                   if os.path.exists(os.path.join(self.temporary, n, SCRATCH_LOCK))}
        if set(os.listdir(self.temporary)) - inside:  # killed while making a folder: for later runs
            time.sleep(1.1 * UNLOCKED_SECONDS)
            remove_leftovers(self.temporary)
        inside |= set(os.listdir(self.temporary))
        faults["files left behind"] += len(left | inside)
        self.bench.messages += [f"job {self.bench.jobs} leaves {left | inside}"] * bool(
            left | inside)
        if self.with_old:
            with open(os.path.join(self.place, OURS), encoding="utf-8") as file:
                faults["user's files lost"] += file.read() != "mine"
        shutil.rmtree(self.folder)


FAULTS = ("units lost", "results lost", "other bytes", "files left behind", "user's files lost",
          "starts refused", "tracebacks", "hung")


class Bench:
    """Kills until there were enough.

    Args:
        folder(str): where all happens.
        seed(int): of the choice of phases and times.
        fresh_every(int, optional): each n-th job is a fresh process. Default: 0, none.
        again(float, optional): chance that a job that was started again is killed again.
            Default: 0.4.
        warm(bool, optional): run a job in this process first, so that the forked ones need not
            load what it has loaded. Default: False.

    Attributes:
        kills(Counter): phase -> number.
        faults(dict): one number for each of ``FAULTS``; all must be 0.
    """

    def __init__(self, folder: str, seed: int, fresh_every: int = 0, again: float = 0.4,
                 warm: bool = False):
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.model, self.old = os.path.join(folder, "float"), os.path.join(folder, "old")
        self._fresh_every, self._again = fresh_every, again
        self.jobs = self.fresh = self.restored = 0
        self.kills, self.faults, self.messages = Counter(), dict.fromkeys(FAULTS, 0), []
        self.ways = Counter()
        os.makedirs(self.model)
        save_program(tiny_graph(), os.path.join(self.model, "inference"))
        if warm:
            with tempfile.TemporaryDirectory() as scratch:
                job(self.model, os.path.join(scratch, "out"), False)
            first_run._DONE.clear()
        whole = os.path.join(folder, "whole")
        for place, bits in ((self.old, 4), (whole, 3)):
            run = Run(dict(model=self.model, place=place, resume=False, bits=bits, kill=None,
                           temporary=folder))
            if not run.told("done"):
                raise RuntimeError(f"the job does not even run: {run.heard[-1:]}")
        self.phases, self.reference = run.phases(), content(whole)
        self.standing_old, self.standing_new = standing(self.old), standing(whole)

    def until(self, count: int, report=lambda text: None):
        """Chains until ``count`` kills have landed."""
        while sum(self.kills.values()) < count:
            self._chain()
            report(f"{sum(self.kills.values())} kills, {self.jobs} jobs, faults "
                   f"{ {k: v for k, v in self.faults.items() if v} }")

    def _chain(self):
        self.jobs += 1
        chain = Chain(self, os.path.join(self.folder, f"job_{self.jobs}"),
                      bool(self.rng.integers(2)))
        fresh = bool(self._fresh_every) and self.jobs % self._fresh_every == 0
        self.fresh += fresh
        resume, kill = False, self._kill(chain)
        while True:
            run = chain.run(kill, resume, fresh)
            if run.killed and not run.hung:
                phase = (run.told("phase") or ["import"])[-1]
                self.kills[phase] += 1
                self.ways["operation" if "operation" in (kill or ()) else "time"] += 1
            elif run.told("done"):
                self.restored += run.told("done")[0]
                break
            elif not run.told("refused") or resume:
                return  # noted as a fault; the folder stays
            resume = bool(run.told("refused")) or self.rng.random() < 0.8
            kill = self._kill(chain) if self.rng.random() < self._again else None
        chain.judge()

    def _kill(self, chain: Chain) -> Dict:
        """A point in a phase; file operations where a phase is short."""
        names = list(self.phases)
        phase = names[self.rng.integers(len(names))]
        if chain.is_pending() and self.rng.random() < 0.5:
            phase = "start"
        known = self.phases[phase]
        if phase in ("publish", "start") or self.rng.random() < 0.5:
            most = max(30 if phase == "start" else 1, known["operations"])
            return dict(phase=phase, operation=int(self.rng.integers(most)))
        return dict(phase=phase, seconds=float(self.rng.random() * known["seconds"]))
