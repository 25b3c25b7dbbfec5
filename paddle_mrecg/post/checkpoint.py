# SPDX-License-Identifier: Apache-2.0
"""Finished units on disk, so that an interrupted run goes on where it stopped."""
import contextlib
import glob
import hashlib
import json
import os
import zipfile
from typing import Dict, List, Optional

import numpy as np

from ..config import Config
from ..config.io import config_to_dict
from ..errors import OutputError
from ..graph.graph import Graph
from ..grids.affine import Encoding
from .network_state import NetworkState

UNREADABLE = (OSError, KeyError, TypeError, AttributeError, ValueError, EOFError,
              zipfile.BadZipFile)
_DIGESTED = 64  # rows at a time


class Checkpoint:
    """One ``.npz`` per finished unit below ``folder``.

    A unit's file is valid only for the same job: same settings, same float
    model, same samples (``parts`` is stored in every file).

    Args:
        folder(str): directory, made when the first unit is saved.
        parts(dict): identity of the job, from ``job_parts``.
    """

    def __init__(self, folder: str, parts: Dict[str, str]):
        self.folder, self.parts = folder, parts

    def discard_others(self) -> List[str]:
        """Delete the units of other jobs, which cannot be used.

        Returns:
            list[str]: what has changed since, empty if nothing was deleted.
        """
        changed = set()
        for path in glob.glob(os.path.join(glob.escape(self.folder), "unit_*.npz")):
            try:
                parts = self._header(path)["parts"]
                differing = {k for k in {*parts, *self.parts} if parts.get(k) != self.parts.get(k)}
            except UNREADABLE:
                differing = {f"{os.path.basename(path)} (damaged)"}
            if differing:
                os.remove(path)
            changed |= differing
        return sorted(changed)

    @staticmethod
    def _header(path: str) -> Dict:
        with np.load(path, allow_pickle=False) as file:
            return json.loads(bytes(file["header"]))

    def save(self, key: str, state: NetworkState, names, summary: Dict,
             alphas: Optional[Dict] = None):
        """Store the codes and scales of ``names`` and a JSON-able summary."""
        arrays, encodings = {}, {}
        for k, name in enumerate(names):
            if name in state.codes:
                arrays[f"codes_{k}"] = state.codes[name].astype(np.int16)
                encodings[name] = dict(index=k)
            elif name in state.biases:
                arrays[f"bias_{k}"] = state.biases[name]
                encodings[name] = dict(bias=k)
            elif name in state.activation_encodings:
                encodings[name] = dict(activation=state.activation_encodings[name].to_dict())
        for k, (name, alpha) in enumerate((alphas or {}).items()):
            arrays[f"alpha_{k}"] = alpha
            encodings[name]["alpha"] = k
        self.write(key, dict(encodings=encodings, summary=summary), arrays)

    def write(self, key: str, header: Dict, arrays: Dict[str, np.ndarray]):
        """Store a JSON-able header and arrays, as a whole or not at all.

        Raises:
            OutputError: the file cannot be written, for a full disk for instance.
        """
        header = json.dumps(dict(header, parts=self.parts)).encode()
        path = self._path(key)
        try:
            os.makedirs(self.folder, exist_ok=True)
            with open(path + ".tmp", "wb") as file:
                np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
            os.replace(path + ".tmp", path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.remove(path + ".tmp")
            raise OutputError(f"'{path}' cannot be written ({error.strerror}): free space or "
                              "choose another Global.save_dir; Global.resume=true then goes on "
                              "with the units that are finished") from error

    def read(self, key: str):
        """``(header, arrays)`` as they were written by this job; one of ``UNREADABLE`` else."""
        with np.load(self._path(key), allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]))
            if header["parts"] != self.parts:
                raise KeyError("another job")
            return header, {n: file[n] for n in file.files if n != "header"}

    def forget(self, key: str):
        """Delete what ``write`` stored, if anything."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path(key))

    def load(self, key: str, state: NetworkState):
        """``(state, summary, alphas)`` of a finished unit, or None when there is no valid file."""
        try:
            header, arrays = self.read(key)
            state, alphas = state.copy(), {}
            for name, entry in header["encodings"].items():
                if "index" in entry:
                    state.codes[name] = arrays[f"codes_{entry['index']}"].astype(np.float32)
                elif "bias" in entry:
                    state.biases[name] = arrays[f"bias_{entry['bias']}"]
                else:
                    state.activation_encodings[name] = Encoding.from_dict(entry["activation"])
                if "alpha" in entry:
                    alphas[name] = arrays[f"alpha_{entry['alpha']}"]
                state.finished.add(name)
        except UNREADABLE:
            return None
        return state, header["summary"], alphas

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, f"unit_{key}.npz")


def relevant_settings(config: Config) -> Dict[str, Dict]:
    """Settings that change results, by section and key; the data counts by itself, and a preset by
    what it sets.
    """
    settings = config_to_dict(config)
    return {"Global": {k: settings["Global"][k] for k in ("seed", "target", "cache_dtype")},
            "QuantPost": settings["QuantPost"],
            "MRECG": {k: v for k, v in settings["MRECG"].items() if k != "preset"}}


def job_parts(settings: Dict, graph: Graph, samples: Dict[str, np.ndarray]) -> Dict[str, str]:
    """What the results of a job depend on, by the name that a user knows it by.

    Args:
        settings(dict): section -> key -> value, of ``relevant_settings``.
        graph(Graph): the folded float model.
        samples(dict): input name -> array.
    """
    parts = {f"{section}.{key}": json.dumps(value, sort_keys=True, default=str)
             for section, keys in settings.items() for key, value in keys.items()}
    ops = [(op.type, op.inputs, op.outputs, op.attrs) for op in graph.ops]
    program = json.dumps([ops, graph.inputs, graph.outputs], sort_keys=True, default=str)
    return dict(parts, **{"the model's program": hashlib.sha256(program.encode()).hexdigest(),
                          "the model's parameters": _arrays_digest(graph.params),
                          "the calibration samples": _arrays_digest(samples)})


def _arrays_digest(arrays: Dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        array = arrays[name] if arrays[name].ndim else arrays[name].reshape(1)
        for start in range(0, len(array), _DIGESTED):
            digest.update(np.ascontiguousarray(array[start:start + _DIGESTED]).data)
    return digest.hexdigest()
