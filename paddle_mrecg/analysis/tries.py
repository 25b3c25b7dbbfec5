# SPDX-License-Identifier: Apache-2.0
"""Settings that were tried, what they scored, and the log that a second run goes on from."""
import dataclasses
import hashlib
import json
import os
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from ..errors import OutputError, numbered
from ..files import plain, write_json
from ..report.progress import duration, get_logger

FORMAT = 1


@dataclasses.dataclass
class Try:
    """One setting.

    Attributes:
        name(str): what was done, for people.
        settings(dict): section -> key -> value, on top of the user's config.
        loss(float): what is to stay below the target: points of the metric that were lost, or
            percent of the output's variance.
        score(float): the metric; the error without one.
        bits(float): mean bits of a weight, float ones counted as 32.
        seconds(float): duration.
        output_error(float): as in ``Report``; None if it was not measured. Default: None.
    """

    name: str
    settings: Dict[str, Dict[str, Any]]
    loss: float
    score: float
    bits: float
    seconds: float
    output_error: Optional[float] = None


class TryLog:
    """All tries of one search, written after each.

    Args:
        path(str): JSON file; read when it is there and of the same search.
        identity(str): digest of everything that scores depend on besides the settings.
        most(int): tries that may be made, those read from the file included.
        measure(callable): ``measure(settings)`` -> what a ``Try`` holds behind its settings.
    """

    def __init__(self, path: str, identity: str, most: int, measure: Callable):
        self.path, self.identity, self.most, self._measure = path, identity, most, measure
        self.tries: List[Try] = []
        self.used: List[Try] = []  # by this run, in its order
        self.notes: Dict[str, Any] = {}
        self._read()

    @property
    def left(self) -> int:
        """How many settings may still be tried."""
        return max(0, self.most - len(self.used))

    def run(self, name: str, settings: Dict[str, Dict[str, Any]]) -> Optional[Try]:
        """Try settings, or take the result from the log.

        Returns:
            Try: the result; None when no try is left.
        """
        key = _settings_digest(settings)
        done = next((t for t in self.used if _settings_digest(t.settings) == key), None)
        if done or not self.left:
            return done
        known = next((t for t in self.tries if _settings_digest(t.settings) == key), None)
        if known is None:
            known = Try(name, settings, *self._measure(settings))
            self.tries.append(known)
            self._write()
        self.used.append(known)
        get_logger().info("try %d of at most %d: %s: loss %.3g, %.2f bits on average, %s",
                          len(self.used), self.most, known.name, known.loss, known.bits,
                          duration(known.seconds))
        return known

    def note(self, key: str, make: Callable) -> Any:
        """Something else that is costly to find out; kept in the log as JSON."""
        if key not in self.notes:
            self.notes[key] = plain(make())
            self._write()
        return self.notes[key]

    def _read(self):
        if not os.path.exists(self.path):
            return
        try:
            with open(self.path, encoding="utf-8") as file:
                content = json.load(file)
            if content["format"] != FORMAT or content["identity"] != self.identity:
                get_logger().warning("%s is of another model, data or config: its tries are not "
                                     "used and will be replaced", self.path)
                return
            self.tries = [Try(**entry) for entry in content["tries"]]
            self.notes = dict(content["notes"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise OutputError(f"'{self.path}' is not a log of tries ({error}): move it away or "
                              "choose another Global.save_dir") from error
        get_logger().info("taken from %s: %s", self.path, numbered(len(self.tries), "try"))

    def _write(self):
        write_json(self.path, dict(format=FORMAT, identity=self.identity,
                                   tries=[dataclasses.asdict(t) for t in self.tries],
                                   notes=self.notes))


def _settings_digest(value) -> str:
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()


def identity_of(config: Dict, params: Dict, samples: Dict) -> str:
    """Digest of what scores depend on.

    Args:
        config(dict): sections, without those of names and places.
        params(dict): the float parameters.
        samples(dict): calibration and measured inputs.
    """
    digest = hashlib.sha256(_settings_digest(config).encode())
    for table in (params, samples):
        for name in sorted(table):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(table[name]).tobytes())
    return digest.hexdigest()
