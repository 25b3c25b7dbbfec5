# SPDX-License-Identifier: Apache-2.0
"""PaddleSlim with our names switched on, and small models in the forms that its APIs take."""
import pytest

import paddle
import paddle_mrecg
from paddle_mrecg.compat import old_ir

from tests.slim_nets import SHAPE, TinyNet


@pytest.fixture
def tiny_net():
    paddle.seed(0)
    return TinyNet()


@pytest.fixture(scope="session")
def float_dir(tmp_path_factory):
    """The tiny network as ``model.pdmodel`` and ``model.pdiparams``."""
    paddle.seed(0)
    net = TinyNet()
    net.eval()
    folder = tmp_path_factory.mktemp("float")
    with old_ir():
        paddle.jit.save(net, str(folder / "model"), [paddle.static.InputSpec([None, *SHAPE], "float32", "x")])
    return str(folder)


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
