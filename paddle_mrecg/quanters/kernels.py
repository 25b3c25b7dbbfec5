# SPDX-License-Identifier: Apache-2.0
"""The fake quantizer with gradients for input, step and offset: one forward and one
backward for all quanters.

``y = (q - z) * s`` with ``q = clip(round(t), qmin, qmax)``, ``t = x / s + z``. With ``m`` = 1
inside the grid and 0 outside, the straight-through gradients are

* ``dy/dx = m``;
* ``dy/ds = (q - z) - m x / s``: ``round(t) - t`` inside, ``qmin - z`` below, ``qmax - z`` above
  (LSQ, arXiv 1902.08153, eq. 3);
* ``dy/d offset = 1 - m`` (LSQ+, arXiv 2004.09576), where ``z = round(-offset / s)`` is kept an
  integer so that 0.0 and padding stay exact.

Nothing but input and output is kept for the backward pass; both are alive anyway in a network.
"""
import dataclasses
from typing import Optional

import numpy as np
import paddle
from paddle.autograd import PyLayer

from ..quantizers.lsq import ROUNDER, inside, on_grid


@dataclasses.dataclass(frozen=True)
class Grid:
    """What of a grid is not a tensor.

    Args:
        qmin(int): lowest code.
        qmax(int): highest code.
        axis(int, optional): axis with one step per index. Default: None.
        grad_scale(float, optional): factor on the gradients of step and offset. Default: 1.0.
        margin(float, optional): how far beyond the last codes, in steps, a value counts as inside:
            0 as in LSQ (decided on x / s), 0.5 as in TQT (decided on round(x / s)). Default: 0.0.
    """

    qmin: int
    qmax: int
    axis: Optional[int] = None
    grad_scale: float = 1.0
    margin: float = 0.0


class FakeQuantize(PyLayer):
    """``FakeQuantize.apply(x, step, offset, zero, grid)``.

    ``x`` is float32; ``step`` is positive, ``[1]`` or ``[channels]``. ``offset`` is
    None or the tensor that receives the gradient of the offset; its integer zero point
    is in ``zero`` (None for 0).
    """

    @staticmethod
    def forward(ctx, x, step, offset, zero, grid):
        scale, shift = _operands(x, step, zero, grid)
        y = _on_grid(x, scale, shift, grid)
        ctx.save_for_backward(x, y)
        ctx.scale, ctx.shift, ctx.grid, ctx.shape = scale, shift, grid, step.shape
        ctx.wanted = [None if t is None else not t.stop_gradient for t in (x, step, offset, zero)]
        return y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensor()
        wants_x, wants_step, wants_offset, _ = ctx.wanted
        mask = _inside(x, ctx.scale, ctx.shift, ctx.grid)
        passed = mask * grad
        steps = offsets = None
        if wants_step:
            steps = (_total((y - mask * x).multiply_(grad), ctx.grid.axis, ctx.shape)
                     * ctx.grid.grad_scale)
            steps = (steps / ctx.scale if isinstance(ctx.scale, float)
                     else steps / ctx.scale.reshape(ctx.shape))
        if wants_offset:
            offsets = _total(grad - passed, ctx.grid.axis, ctx.shape) * ctx.grid.grad_scale
        gradients = passed if wants_x else None, steps, offsets, None
        # one per tensor given
        return tuple(g for g, wanted in zip(gradients, ctx.wanted) if wanted is not None)


def _operand(values, x, axis):
    """Per-tensor values as a Python number on a CPU, where it saves most of the time;
    else shaped to broadcast.
    """
    if axis is None:
        return float(values.item()) if x.place.is_cpu_place() else values.detach()
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.detach().reshape(shape)


def _on_grid(x, scale, shift, grid):
    if isinstance(scale, float):
        return on_grid(x, scale, shift, float(grid.qmin), float(grid.qmax))
    return (_codes(x, scale, shift, grid) - shift) * scale


def _codes(x, scale, shift, grid):
    codes = (x * (1.0 / scale) + shift).scale_(1.0, ROUNDER)
    return codes.clip_(grid.qmin + ROUNDER, grid.qmax + ROUNDER).scale_(1.0, -ROUNDER)


def on_grid_values(x: paddle.Tensor, step: paddle.Tensor, zero: Optional[paddle.Tensor],
                   grid: Grid) -> paddle.Tensor:
    """``x`` on the grid, without gradient."""
    return _on_grid(x, *_operands(x, step, zero, grid), grid)


def codes_of(x: paddle.Tensor, step: paddle.Tensor, zero: Optional[paddle.Tensor],
             grid: Grid) -> paddle.Tensor:
    """The integer codes that ``FakeQuantize`` gives ``x``, as float32."""
    scale, shift = _operands(x, step, zero, grid)
    if not isinstance(scale, float):
        return _codes(x, scale, shift, grid)
    codes = paddle.scale(x, 1.0 / scale, shift + ROUNDER)  # as on_grid begins
    return codes.clip_(grid.qmin + ROUNDER, grid.qmax + ROUNDER).scale_(1.0, -ROUNDER)


def power_of_two(exponent: paddle.Tensor) -> paddle.Tensor:
    """Exactly 2 to an integer power; Paddle's own ``pow`` is off by the last bit for some."""
    return paddle.to_tensor(np.exp2(exponent.numpy()).astype(np.float32), place=exponent.place)


def _operands(x, step, zero, grid):
    return _operand(step, x, grid.axis), 0.0 if zero is None else _operand(zero, x, grid.axis)


def _inside(x, scale, shift, grid):
    if isinstance(scale, float):
        return inside(x, scale, shift, float(grid.qmin), float(grid.qmax), grid.margin)
    t = x * (1.0 / scale) + shift
    return ((t >= grid.qmin - grid.margin) & (t <= grid.qmax + grid.margin)).cast(x.dtype)


def _total(values, axis, shape):
    """The sum over all that shares one step."""
    return values.sum([k for k in range(values.ndim) if k != axis]).reshape(shape)
