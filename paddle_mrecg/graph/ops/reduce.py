# SPDX-License-Identifier: Apache-2.0
"""Reductions, norms and the search for extremes."""
import paddle
import paddle.nn.functional as F

from .registry import rule, register_table

register_table("X", {"mean": paddle.mean})


def _mean(x, axes, keepdim):
    """The mean; global average pooling where it is that, since the gradient of a
    mean over two axes is slow.
    """
    if x.ndim == 4 and sorted(axes) == [2, 3] and x.place.is_cpu_place():
        pooled = F.adaptive_avg_pool2d(x, 1)
        return pooled if keepdim else pooled.flatten(1)
    return paddle.mean(x, axes, keepdim=keepdim)


for _name, _function in {"mean": _mean, "sum": paddle.sum, "max": paddle.max, "min": paddle.min,
                         "prod": paddle.prod,
                         "all": paddle.all, "any": paddle.any}.items():
    @rule("reduce_" + _name)
    def _reduce(call, function=_function):
        x, axes, keepdim = call("X"), call.ints("dim", default=(0,)), call.attr("keep_dim", False)
        if call.attr("reduce_all", False) or not axes:
            axes = list(range(x.ndim))
        wanted = call.dtype("out_dtype", None) if call.op.type == "reduce_sum" else None
        x = x.astype(wanted) if wanted else x
        return function(x, [a % x.ndim for a in axes], keepdim=keepdim)


@rule("p_norm")
def p_norm(call):
    axis = None if call.attr("asvector", False) else call.attr("axis", -1)
    return paddle.norm(call("X"), call.attr("porder", 2.0), axis, call.attr("keepdim", False))


@rule("arg_max", "arg_min")
def arg_extreme(call):
    function = paddle.argmax if call.op.type == "arg_max" else paddle.argmin
    axis = None if call.attr("flatten", False) else int(call.number("axis", "Axis", -1))
    return function(call("X"), axis, call.attr("keepdims", False), call.dtype(default="int64"))


@rule("top_k_v2", out="Out Indices")
def top_k(call):
    return paddle.topk(call("X"), int(call.number("k", "K", 1)), call.attr("axis", -1),
                       call.attr("largest", True),
                       call.attr("sorted", True))


@rule("cumsum")
def cumsum(call):
    if call.attr("exclusive", False) or call.attr("reverse", False):
        raise call.unsupported("exclusive or reverse")
    return paddle.cumsum(call("X"), None if call.attr("flatten", False) else call.attr("axis", -1))
