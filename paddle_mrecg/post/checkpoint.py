# SPDX-License-Identifier: Apache-2.0
"""Finished units on disk, so that an interrupted run goes on where it stopped."""
import hashlib
import json
import os
import zipfile
from typing import Dict, Optional

import numpy as np

from ..grids.affine import Encoding
from .network_state import NetworkState


class Checkpoint:
    """One ``.npz`` per finished unit below ``folder``.

    A unit's file is valid only for the same job: same settings, same float
    parameters, same samples (a digest of the three is stored in every file).

    Args:
        folder(str): directory, made when the first unit is saved.
        digest(str): identity of the job, from ``job_digest``.
    """

    def __init__(self, folder: str, digest: str):
        self.folder, self.digest = folder, digest

    def save(self, key: str, state: NetworkState, names, summary: Dict,
             alphas: Optional[Dict] = None):
        """Store the codes and scales of ``names`` and a JSON-able summary."""
        os.makedirs(self.folder, exist_ok=True)
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
        header = dict(digest=self.digest, encodings=encodings, summary=summary)
        path = self._path(key)
        with open(path + ".tmp", "wb") as file:
            np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
        os.replace(path + ".tmp", path)

    def load(self, key: str, state: NetworkState):
        """``(state, summary, alphas)`` of a finished unit, or None when there is no valid file."""
        try:
            with np.load(self._path(key), allow_pickle=False) as file:
                header = json.loads(bytes(file["header"]))
                if header["digest"] != self.digest:
                    return None
                state, alphas = state.copy(), {}
                for name, entry in header["encodings"].items():
                    if "index" in entry:
                        state.codes[name] = file[f"codes_{entry['index']}"].astype(np.float32)
                    elif "bias" in entry:
                        state.biases[name] = file[f"bias_{entry['bias']}"]
                    else:
                        state.activation_encodings[name] = Encoding.from_dict(entry["activation"])
                    if "alpha" in entry:
                        alphas[name] = file[f"alpha_{entry['alpha']}"]
                    state.finished.add(name)
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return state, header["summary"], alphas

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, f"unit_{key}.npz")


def job_digest(settings: Dict, params: Dict[str, np.ndarray],
               samples: Dict[str, np.ndarray]) -> str:
    """SHA-256 over the settings, the float parameters and the calibration samples."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for table in (params, samples):
        for name in sorted(table):
            digest.update(f"{name} {table[name].dtype} {table[name].shape}".encode())
            digest.update(np.ascontiguousarray(table[name]).data)
    return digest.hexdigest()
