# SPDX-License-Identifier: Apache-2.0
"""Enter and leave Paddle's process-wide modes, and read its static programs."""
import contextlib
from typing import List

import paddle

from ..errors import ConfigError


@contextlib.contextmanager
def dynamic_mode():
    """Run eagerly inside a program that called ``paddle.enable_static()``, as users of
    PaddleSlim's static functions do.
    """
    if paddle.in_dynamic_mode():
        yield
        return
    paddle.disable_static()
    try:
        yield
    finally:
        paddle.enable_static()


def refuse_pir(what: str):
    """PaddleSlim's static passes read ProgramDesc only.

    Raises:
        ConfigError: programs are built in Paddle 3's new form.
    """
    if getattr(paddle.framework, "in_pir_mode", lambda: False)():
        raise ConfigError(f"{what} reads programs in the form of Paddle 2: set the environment "
                          "variable FLAGS_enable_pir_api=0, or build and train inside `with "
                          "paddle.pir_utils.OldIrGuard():`")


def optimizer_ops(program) -> List:
    """The ops of a static program that update a parameter by its gradient."""
    return [op for op in program.global_block().ops if {"Param", "Grad",
                                                        "LearningRate"} <= set(op.input_names)]
