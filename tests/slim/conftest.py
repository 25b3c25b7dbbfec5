# SPDX-License-Identifier: Apache-2.0
"""PaddleSlim with our names switched on, and small models in the forms that its APIs take."""
import pytest

import paddle
import paddle_mrecg

from tests.slim_nets import TinyNet, save_tiny


@pytest.fixture
def tiny_net():
    paddle.seed(0)
    return TinyNet()


@pytest.fixture(scope="session")
def float_dir(tmp_path_factory):
    """The tiny network as ``model.pdmodel`` and ``model.pdiparams``."""
    return save_tiny(tmp_path_factory.mktemp("float"))


@pytest.fixture
def registered():
    """Our names work in PaddleSlim during the test."""
    paddle_mrecg.register()
    yield
    paddle_mrecg.unregister()


@pytest.fixture
def static_mode():
    """As a user of PaddleSlim's static functions has it; the executor to pass."""
    paddle.enable_static()
    yield paddle.static.Executor(paddle.CPUPlace())
    paddle.disable_static()
