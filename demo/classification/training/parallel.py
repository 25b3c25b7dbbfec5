# SPDX-License-Identifier: Apache-2.0
"""Several processes, or one, started with
``python -m paddle.distributed.launch --nproc_per_node N``.
"""
import os
from typing import List

import numpy as np
import paddle
from paddle import distributed


def start():
    """Join the other processes, if the launcher started any."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        distributed.init_parallel_env()


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank()


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size()


def sums(values: List[float]) -> List[float]:
    """Sums over the processes."""
    if count() == 1:
        return [float(v) for v in values]
    tensor = paddle.to_tensor(np.asarray(values, np.float64))
    distributed.all_reduce(tensor)
    return tensor.numpy().tolist()


@paddle.no_grad()
def average_buffers(network: paddle.nn.Layer):
    """Give every process the mean of all batch statistics, so that what
    one saves is what all have.
    """
    if count() > 1:
        for buffer in network.buffers():
            if buffer.dtype == paddle.float32:
                distributed.all_reduce(buffer)
                buffer.scale_(1.0 / count())


def wait():
    """Until all processes are here."""
    if count() > 1:
        distributed.barrier()
