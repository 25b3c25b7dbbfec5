# SPDX-License-Identifier: Apache-2.0
"""Arrays under any names in one file, handed from process to process."""
from typing import Mapping

import numpy as np


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]):
    """Arrays under any names: ``names``, and ``0``, ``1``, ... for their values."""
    np.savez(path, names=np.array(list(arrays)),
             **{str(k): v for k, v in enumerate(arrays.values())})


def read_arrays(path: str):
    """The arrays by name, and the milliseconds of repeated runs."""
    with np.load(path, allow_pickle=False) as stored:
        times = stored["milliseconds"].tolist() if "milliseconds" in stored.files else []
        return {str(name): stored[str(k)] for k, name in enumerate(stored["names"])}, times
