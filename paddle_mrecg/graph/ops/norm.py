# SPDX-License-Identifier: Apache-2.0
"""Normalisation; batch norm always with its running statistics."""
import paddle.nn.functional as F

from . import cpu
from .elementwise import add, multiply
from .registry import rule


@rule("batch_norm", "sync_batch_norm", out="Y")
def batch_norm(call):
    layout = call.attr("data_layout", "NCHW")
    return cpu.channel_affine(call("X"), call("Mean"), call("Variance"), call("Scale"),
                              call("Bias"),
                              call.attr("epsilon", 1e-5),
                              "NCHW" if layout == "AnyLayout" else layout)


@rule("layer_norm", out="Y")
def layer_norm(call):
    x = call("X")
    shape = x.shape[call.attr("begin_norm_axis", 1):]
    return F.layer_norm(x, shape, call("Scale"), call("Bias"), call.attr("epsilon", 1e-5))


@rule("group_norm", out="Y")
def group_norm(call):
    """Layer norm of each group, then the affine part: Paddle 2.6 has no functional group norm."""
    x, last = call("X"), call.attr("data_layout", "NCHW") == "NHWC"
    x = x.transpose([0, 3, 1, 2]) if last else x
    groups = x.reshape([x.shape[0], call.attr("groups", 1), -1])
    result = F.layer_norm(groups, groups.shape[2:],
                          epsilon=call.attr("epsilon", 1e-5)).reshape(x.shape)
    per_channel = [1, -1] + [1] * (x.ndim - 2)
    for slot, apply in (("Scale", multiply), ("Bias", add)):
        if call(slot) is not None:
            result = apply(result, call(slot).reshape(per_channel))
    return result.transpose([0, 2, 3, 1]) if last else result


@rule("instance_norm", out="Y")
def instance_norm(call):
    return F.instance_norm(call("X"), weight=call("Scale"), bias=call("Bias"),
                           eps=call.attr("epsilon", 1e-5))


@rule("norm")
def l2_normalize(call):
    axis = call.attr("axis", -1)
    x = call("X")
    return x / (x.square().sum(axis, keepdim=True) + call.attr("epsilon", 1e-10)).sqrt()
