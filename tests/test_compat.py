# SPDX-License-Identifier: Apache-2.0
"""Version and platform switches."""
import os
import subprocess
import sys

import paddle
from paddle_mrecg import compat


def test_old_ir_is_left_again():
    was = paddle.framework.in_pir_mode() if hasattr(paddle.framework, "in_pir_mode") else None
    with compat.old_ir():
        assert (hasattr(paddle.static.Program(), "desc")
                and hasattr(compat.framework_pb2(), "ProgramDesc"))
    assert (paddle.framework.in_pir_mode() if was is not None else None) == was


def _in_new_process(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ, **env),
        capture_output=True,
        text=True,
        check=True,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    ).stdout.strip()


def test_tuning_is_idempotent_needs_no_paddle_and_can_be_switched_off():
    code = ("import sys; from paddle_mrecg.compat import tune_cpu; off = tune_cpu(False); a = "
            "tune_cpu(); b = tune_cpu();print(off == {'mallopt': False, 'mkl_debug_cpu_type': "
            "None}, a == b, 'paddle' in sys.modules,isinstance(a['mallopt'], bool))")
    assert _in_new_process(code) == "True True False True"


def test_mkl_path_of_the_user_wins():
    code = "from paddle_mrecg.compat import tune_cpu; print(tune_cpu()['mkl_debug_cpu_type'])"
    assert _in_new_process(code, MKL_DEBUG_CPU_TYPE="4") == "4"


def test_mkl_path_is_set_on_amd_though_paddle_is_loaded(monkeypatch):
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "")  # so that it is put back
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE")
    monkeypatch.setattr(compat, "_is_amd", lambda: False)
    assert compat._fast_mkl_on_amd() is None and "MKL_DEBUG_CPU_TYPE" not in os.environ
    monkeypatch.setattr(compat, "_is_amd", lambda: True)
    assert compat._fast_mkl_on_amd() == "5" and os.environ["MKL_DEBUG_CPU_TYPE"] == "5"
