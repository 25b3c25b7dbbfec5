# SPDX-License-Identifier: Apache-2.0
"""The buffer that says what a grid is: when it is read, and that loading changes it."""
import numpy as np

import paddle
from paddle_mrecg.aware.quanters.lsq import LSQQuanter


def normal(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_the_state_of_the_grid_is_read_once_between_checkpoints(monkeypatch):
    """A look at a tensor of a GPU waits for everything before it; after
    loading, what was loaded counts.
    """
    quanter, other = LSQQuanter(bits=4), LSQQuanter(bits=4)
    outer = paddle.nn.Sequential(quanter)
    reads = []
    original = type(quanter.grid).item
    monkeypatch.setattr(type(quanter.grid), "item",
                        lambda self, *args: (reads.append(self.name), original(self, *args))[1])
    quanter(normal(4, 4).abs())
    for seed in range(3):
        reads.clear()
        quanter(normal(4, 4, seed=seed).abs())
    assert quanter.grid.name not in reads and not quanter.signed
    other(normal(4, 4))
    outer.set_state_dict({f"0.{key}": value for key, value in other.state_dict().items()})
    assert quanter.signed and other.signed
    quanter.forget()
    assert not quanter.initialized
