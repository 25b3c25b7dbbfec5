# SPDX-License-Identifier: Apache-2.0
"""Normalisation; batch norm always with its running statistics."""
import paddle.nn.functional as F

from . import cpu
from .registry import rule


@rule("batch_norm", "sync_batch_norm", out="Y")
def batch_norm(call):
    layout = call.attr("data_layout", "NCHW")
    return cpu.channel_affine(call("X"), call("Mean"), call("Variance"), call("Scale"), call("Bias"),
                              call.attr("epsilon", 1e-5), "NCHW" if layout == "AnyLayout" else layout)


@rule("layer_norm", out="Y")
def layer_norm(call):
    x = call("X")
    shape = x.shape[call.attr("begin_norm_axis", 1):]
    return F.layer_norm(x, shape, call("Scale"), call("Bias"), call.attr("epsilon", 1e-5))


@rule("group_norm", out="Y")
def group_norm(call):
    layout = "NHWC" if call.attr("data_layout", "NCHW") == "NHWC" else "NCHW"
    return F.group_norm(call("X"), call.attr("groups", 1), call.attr("epsilon", 1e-5), call("Scale"), call("Bias"), layout)


@rule("instance_norm", out="Y")
def instance_norm(call):
    return F.instance_norm(call("X"), weight=call("Scale"), bias=call("Bias"), eps=call.attr("epsilon", 1e-5))


@rule("norm")
def l2_normalize(call):
    axis = call.attr("axis", -1)
    x = call("X")
    return x / (x.square().sum(axis, keepdim=True) + call.attr("epsilon", 1e-10)).sqrt()
