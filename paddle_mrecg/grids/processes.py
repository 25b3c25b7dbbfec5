# SPDX-License-Identifier: Apache-2.0
"""Grids that stay alike in all processes of distributed training."""
from typing import Iterable

import paddle


def several() -> bool:
    """Training runs in more than one process."""
    distributed = paddle.distributed
    return distributed.is_initialized() and distributed.get_world_size() > 1


def mean(value: paddle.Tensor) -> paddle.Tensor:
    """``value`` averaged over the processes."""
    if several():
        paddle.distributed.all_reduce(value)
        value = value / paddle.distributed.get_world_size()
    return value


def take_from_first(tensors: Iterable[paddle.Tensor]):
    """Give every process the values that the first one has."""
    for tensor in tensors:
        paddle.distributed.broadcast(tensor, src=0)
