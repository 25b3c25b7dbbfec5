# SPDX-License-Identifier: Apache-2.0
"""The fake quantizer of both jobs: one forward and one backward, for input, step, clip and offset.

``y = (q - z) * s`` with ``q = clip(round(t), qmin, qmax)``, ``t = x / s + z``. With ``m`` = 1
inside the grid and 0 outside, the straight-through gradients are

* ``dy/dx = m``;
* ``dy/ds = y/s - m x/s``: ``round(t) - t`` inside, ``qmin - z`` below, ``qmax - z`` above (LSQ,
  arXiv 1902.08153, eq. 3);
* ``dy/dalpha = (1 - m) y/alpha`` for a clip ``alpha = qmax s``: +1 above and -1 below (PACT, arXiv
  1805.06085, in PaddleSlim's symmetric form; below it is ``qmin/qmax`` on a grid that is not
  narrow, whose lowest code lies beyond -alpha);
* ``dy/d offset = 1 - m`` (LSQ+, arXiv 2004.09576), where ``z = round(-offset / s)`` is kept an
  integer so that 0.0 and padding stay exact.

Nothing but input and output is kept for the backward pass; both are alive anyway in a network.
QDrop (arXiv 2203.05740) comes in as a mask: ``y`` where it is 1, another tensor where it is 0.
"""
import dataclasses
from typing import Optional, Union

import numpy as np
import paddle
from paddle.autograd import PyLayer

from .affine import along_axis

# float32 has no digits after the point between 2^23 and 2^24: adding 1.5 * 2^23 rounds to
# integer, halves to even, on every Paddle version (paddle.round rounds halves away from zero up
# to 2.6), and costs no pass of its own.
ROUNDER = 12582912.0
_MASK_SLOPE = 65536.0  # makes a 0/1 mask of the distance to the grid's end

Number = Union[float, paddle.Tensor]


@dataclasses.dataclass(frozen=True)
class Grid:
    """What of a grid, and of its gradients, is not a tensor.

    Args:
        qmin(int): lowest code.
        qmax(int): highest code.
        axis(int, optional): axis with one step per index. Default: None.
        grad_scale(float, optional): factor on the gradients of step and offset. Default: 1.0.
        margin(float, optional): how far beyond the last codes, in steps, a value counts as inside:
            0 as in LSQ (decided on x / s), 0.5 as in TQT, BRECQ and QDrop (decided on
            round(x / s)). Default: 0.0.
        unit(float, optional): what is trained is ``unit`` steps: 1, or qmax for a clip.
            Default: 1.0.
        clip(bool, optional): the gradient of a clip, which comes from outside the grid only, not
            of a step. Default: False.
        by_dots(bool, optional): sum the gradient of the one step by two dot products: on a CPU
            several times faster than products and a reduction, but the difference of the two costs
            digits (within 0.6 % of float64 on 3.6 million values). Default: False.
    """

    qmin: int
    qmax: int
    axis: Optional[int] = None
    grad_scale: float = 1.0
    margin: float = 0.0
    unit: float = 1.0
    clip: bool = False
    by_dots: bool = False


class FakeQuantize(PyLayer):
    """``FakeQuantize.apply(x, step, offset, zero, grid, mask, other)``.

    ``x`` is float32; ``step`` is positive: a number, or a tensor ``[1]`` or ``[channels]``, in
    ``grid.unit`` steps. ``offset`` is None or the tensor that receives the gradient of the offset;
    its integer zero point is in ``zero`` (None for 0). Where ``mask`` (None: 1 everywhere) is 0 the
    result is ``other`` (None: ``x``).
    """

    @staticmethod
    def forward(ctx, x, step, offset, zero, grid, mask=None, other=None):
        scale, shift = _operands(x, step, zero, grid)
        y = _on_grid(x, scale, shift, grid)
        if mask is not None:
            base = x if other is None else other
            y.subtract_(base).multiply_(mask).add_(base)
        ctx.save_for_backward(x, y, mask)
        ctx.scale, ctx.shift, ctx.grid = scale, shift, grid
        ctx.shape = step.shape if isinstance(step, paddle.Tensor) else [1]
        ctx.wanted = [not t.stop_gradient if isinstance(t, paddle.Tensor) else None
                      for t in (x, step, offset, zero, mask, other)]
        return y

    @staticmethod
    def backward(ctx, grad):
        x, y, mask = ctx.saved_tensor()
        wants_x, wants_step, wants_offset, _, _, wants_other = ctx.wanted
        kept = grad if mask is None else grad * mask
        inner = _inside(x, ctx.scale, ctx.shift, ctx.grid)
        # In place where nothing else reads it: half the memory traffic.
        passed = inner.multiply_(kept) if ctx.grid.by_dots else inner * kept
        steps = offsets = None
        if wants_step:
            steps = _step_gradient(ctx, (x, y), (kept, inner, passed))
        if wants_offset:
            offsets = _total(kept - passed, ctx.grid.axis, ctx.shape) * ctx.grid.grad_scale
        if wants_x and mask is not None and wants_other is None:
            passed.add_(grad).subtract_(kept)
        gradients = (passed if wants_x else None, steps, offsets, None, None,
                     grad - kept if wants_other else None)
        # one per tensor given
        return tuple(g for g, wanted in zip(gradients, ctx.wanted) if wanted is not None)


def _step_gradient(ctx, tensors, factors):
    """The gradient of step or clip; a masked ``y`` does no harm, for ``kept`` is 0 there."""
    (x, y), (kept, inner, passed), grid = tensors, factors, ctx.grid
    straight = y if grid.clip else x
    if grid.by_dots:
        total = _dot(kept, y) - _dot(passed, straight)
        return total * (grid.grad_scale / (ctx.scale * grid.unit))
    total = _total((y - inner * straight).multiply_(kept), grid.axis, ctx.shape) * grid.grad_scale
    scale = ctx.scale if isinstance(ctx.scale, float) else ctx.scale.reshape(ctx.shape)
    return total / scale if grid.unit == 1.0 else total / (scale * grid.unit)


def on_grid_values(x: paddle.Tensor, step: Number, zero: Optional[Number],
                   grid: Grid) -> paddle.Tensor:
    """``x`` on the grid, without gradient."""
    return _on_grid(x, *_operands(x, step, zero, grid), grid)


def codes_of(x: paddle.Tensor, step: Number, zero: Optional[Number], grid: Grid) -> paddle.Tensor:
    """The integer codes that ``FakeQuantize`` gives ``x``, as float32."""
    scale, shift = _operands(x, step, zero, grid)
    if not isinstance(scale, float):
        return _codes(x, scale, shift, grid)
    codes = paddle.scale(x, 1.0 / scale, shift + ROUNDER)  # as _on_grid begins
    return codes.clip_(grid.qmin + ROUNDER, grid.qmax + ROUNDER).scale_(1.0, -ROUNDER)


def power_of_two(exponent: paddle.Tensor) -> paddle.Tensor:
    """Exactly 2 to an integer power, without leaving the device: the exponent's bits of a float.

    Paddle's own ``pow`` is off by the last bit for some. Powers below 2**-126 become 2**-126, those
    above 2**127 become 2**127.
    """
    bits = (paddle.clip(exponent.detach(), -126.0, 127.0) + 127.0).cast("int32") * (1 << 23)
    return bits.view("float32")


def _operands(x, step, zero, grid):
    return (_operand(step, x, grid.axis, grid.unit),
            0.0 if zero is None else _operand(zero, x, grid.axis))


def _operand(values, x, axis, unit=1.0):
    """``values / unit``: a Python number where there is one value and the CPU has it, which saves
    most of the time; else a tensor that broadcasts. A GPU would have to wait for a number.
    """
    if not isinstance(values, paddle.Tensor):
        return float(values)
    if axis is None and x.place.is_cpu_place():
        value = values.item()
        return float(value) if unit == 1.0 else float(np.float32(value / unit))
    values = values.detach() if unit == 1.0 else values.detach() / unit
    return along_axis(values, axis, x.ndim)


# Below, what ends in "_" works in place, on tensors that have no other reader yet.


def _on_grid(x, scale, shift, grid):
    if not isinstance(scale, float):
        return (_codes(x, scale, shift, grid) - shift) * scale
    low, high = grid.qmin + ROUNDER, grid.qmax + ROUNDER
    codes = paddle.scale(x, 1.0 / scale, shift + ROUNDER).clip_(low, high)
    return codes.scale_(scale, -(shift + ROUNDER), bias_after_scale=False)


def _codes(x, scale, shift, grid):
    codes = (x * (1.0 / scale) + shift).scale_(1.0, ROUNDER)
    return codes.clip_(grid.qmin + ROUNDER, grid.qmax + ROUNDER).scale_(1.0, -ROUNDER)


def _inside(x, scale, shift, grid):
    """1 where ``x / scale + shift`` is at most ``margin`` beyond ``qmin .. qmax``, else 0."""
    if not isinstance(scale, float):
        t = x * (1.0 / scale) + shift
        low, high = grid.qmin - grid.margin, grid.qmax + grid.margin
        return ((t >= low) & (t <= high)).cast(x.dtype)
    middle = 0.5 * (grid.qmin + grid.qmax)
    reach = 0.5 * (grid.qmax - grid.qmin) + grid.margin
    distance = paddle.scale(x, 1.0 / scale, shift - middle).abs_()
    return distance.scale_(-_MASK_SLOPE, _MASK_SLOPE * reach).clip_(0.0, 1.0)


def _dot(a, b):
    return paddle.matmul(a.reshape([1, -1]), b.reshape([-1, 1])).reshape([1])


def _total(values, axis, shape):
    """The sum over all that shares one step."""
    return values.sum([k for k in range(values.ndim) if k != axis]).reshape(shape)
