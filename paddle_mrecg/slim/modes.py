# SPDX-License-Identifier: Apache-2.0
"""Paddle's process-wide modes, entered and left again."""
import contextlib

import paddle


@contextlib.contextmanager
def dynamic_mode():
    """Run eagerly inside a program that called ``paddle.enable_static()``, as users of PaddleSlim's static functions do."""
    if paddle.in_dynamic_mode():
        yield
        return
    paddle.disable_static()
    try:
        yield
    finally:
        paddle.enable_static()
