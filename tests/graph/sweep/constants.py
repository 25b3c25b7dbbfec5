# SPDX-License-Identifier: Apache-2.0
"""Constants in the functions of the sweep."""
import numpy as np
import paddle


def constant(*shape, low=-1.0, high=1.0, seed=0):
    """The same random tensor at every call."""
    values = np.random.RandomState(seed).uniform(low, high, shape)
    return paddle.to_tensor(values.astype("float32"))
