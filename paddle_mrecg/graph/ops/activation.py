# SPDX-License-Identifier: Apache-2.0
"""Functions of one tensor: activations, roots, rounding, softmax."""
import paddle
import paddle.nn.functional as F

from .registry import rule, register_table

register_table("X", {
    "relu": F.relu, "relu6": F.relu6, "sigmoid": F.sigmoid, "logsigmoid": F.log_sigmoid,
    "tanh": paddle.tanh,
    "silu": F.silu, "softsign": F.softsign, "tanh_shrink": F.tanhshrink, "exp": paddle.exp,
    "expm1": paddle.expm1,
    "log": paddle.log, "log2": paddle.log2, "log10": paddle.log10, "log1p": paddle.log1p,
    "sqrt": paddle.sqrt,
    "rsqrt": paddle.rsqrt, "square": paddle.square, "reciprocal": paddle.reciprocal,
    "abs": paddle.abs,
    "sign": paddle.sign, "floor": paddle.floor, "ceil": paddle.ceil, "round": paddle.round,
    "sin": paddle.sin,
    "cos": paddle.cos, "erf": paddle.erf, "logical_not": paddle.logical_not})


def _with_attrs(op_type, function, **defaults):
    """Register ``function(x, *attributes)``; the keywords are the attributes'
    names and defaults, in order.
    """
    @rule(op_type)
    def run(call):
        return function(call("X"),
                        *(call.attr(name, default) for name, default in defaults.items()))


_with_attrs("elu", F.elu, alpha=1.0)
_with_attrs("celu", F.celu, alpha=1.0)
_with_attrs("selu", F.selu, scale=1.0507009873554805, alpha=1.6732632423543772)
_with_attrs("leaky_relu", F.leaky_relu, alpha=0.02)
_with_attrs("gelu", F.gelu, approximate=False)
_with_attrs("softplus", F.softplus, beta=1.0, threshold=20.0)
_with_attrs("softshrink", F.softshrink, **{"lambda": 0.5})
_with_attrs("hard_shrink", F.hardshrink, threshold=0.5)
_with_attrs("thresholded_relu", F.thresholded_relu, threshold=1.0)
_with_attrs("stanh", paddle.stanh, scale_a=0.67, scale_b=1.7159)
_with_attrs("mish", lambda x, threshold: F.mish(x), threshold=20.0)
_with_attrs("brelu", paddle.clip, t_min=0.0, t_max=24.0)
_with_attrs("hard_tanh", paddle.clip, t_min=-1.0, t_max=1.0)
_with_attrs("hard_sigmoid", F.hardsigmoid, slope=0.2, offset=0.5)
_with_attrs("softmax", F.softmax, axis=-1)
_with_attrs("log_softmax", F.log_softmax, axis=-1)


@rule("hard_swish")
def hard_swish(call):
    x, threshold = call("X"), call.attr("threshold", 6.0)
    scale, offset = call.attr("scale", 6.0), call.attr("offset", 3.0)
    if (threshold, scale, offset) == (6.0, 6.0, 3.0):
        return F.hardswish(x)
    return x * paddle.clip(x + offset, 0.0, threshold) * (1.0 / scale)


@rule("swish")
def swish(call):
    x, beta = call("X"), call.attr("beta", 1.0)
    return F.silu(x) if beta == 1.0 else x * F.sigmoid(x * beta)


@rule("prelu")
def prelu(call):
    x, alpha, layout = call("X"), call("Alpha"), call.attr("data_format", "NCHW")
    if call.attr("mode", "all") == "element":
        return F.relu(x) - alpha.reshape([1] + x.shape[1:]) * F.relu(-x)
    return F.prelu(x, alpha.flatten(), layout)


@rule("clip")
def clip(call):
    return paddle.clip(call("X"), call.number("min", "Min", None), call.number("max", "Max", None))


@rule("pow")
def power(call):
    return paddle.pow(call("X"), call.number("factor", "FactorTensor", 1.0))
