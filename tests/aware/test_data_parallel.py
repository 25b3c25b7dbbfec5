# SPDX-License-Identifier: Apache-2.0
"""Several processes hold the same grids and weights after every step, though
each starts from other data.
"""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("quanter, rounding", [("lsq", "nearest"), ("abs_max", "nearest"),
                                               ("lsq", "solve")])
def test_two_processes_agree(tmp_path, quanter, rounding):
    here = Path(__file__).parent
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(here), str(here.parents[1])]),
                       OMP_NUM_THREADS="1")
    command = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch",
               "--nproc_per_node", "2", "--log_dir",
               str(tmp_path / "log"), str(here / "data_parallel.py"), str(tmp_path), quanter,
               rounding]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300,
                          cwd=tmp_path)
    logs = "".join(p.read_text(errors="replace")[-2000:]
                   for p in (tmp_path / "log").glob("workerlog.*"))
    assert done.returncode == 0, logs + done.stderr[-2000:]
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    assert len(first.files) > 30
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
