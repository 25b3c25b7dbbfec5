# SPDX-License-Identifier: Apache-2.0
"""How each PIR op is called in ProgramDesc, and what its operands become.

An operand is written as a slot name (``X``), as ``@attr`` (a constant folded
into an attribute; ``@attr/List/Tensor`` names the slots for the case that it is
computed: as a list of scalars, or as one tensor), or as ``-`` (dropped).
"""
import dataclasses
from typing import Any, Dict, Tuple


@dataclasses.dataclass(frozen=True)
class Rule:
    """Translation of one PIR op; see the module's docstring for ``inputs``."""

    type: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    rename: Dict[str, str]
    extra: Dict[str, Any]


def _rule(op_type, inputs="X", outputs="Out", rename=None, **extra):
    return Rule(op_type, tuple(inputs.split()), tuple(outputs.split()), rename or {}, extra)


_LAYOUT = {"data_format": "data_layout"}
_REDUCE = {"keepdim": "keep_dim", "axis": "dim"}
_INTERP = "X OutSize SizeTensor Scale"

RULES: Dict[str, Rule] = {
    "conv2d": _rule("conv2d", "Input Filter", "Output"),
    "depthwise_conv2d": _rule("depthwise_conv2d", "Input Filter", "Output"),
    "conv2d_transpose": _rule("conv2d_transpose", "Input Filter @output_size", "Output"),
    "depthwise_conv2d_transpose": _rule("depthwise_conv2d_transpose", "Input Filter @output_size",
                                        "Output"),
    "batch_norm": _rule("batch_norm", "X Mean Variance Scale Bias", "Y", _LAYOUT),
    "batch_norm_": _rule("batch_norm", "X Mean Variance Scale Bias", "Y", _LAYOUT),
    "layer_norm": _rule("layer_norm", "X Scale Bias", "Y"),
    "group_norm": _rule("group_norm", "X Scale Bias", "Y", _LAYOUT),
    "instance_norm": _rule("instance_norm", "X Scale Bias", "Y"),
    "pool2d": _rule("pool2d", "X @ksize"),
    "matmul": _rule("matmul_v2", "X Y",
                    rename={"transpose_x": "trans_x", "transpose_y": "trans_y"}),
    "bmm": _rule("bmm", "X Y"),
    "dropout": _rule("dropout", "X - @dropout_prob",
                     rename={"mode": "dropout_implementation", "seed": "", "fix_seed": ""}),
    "scale": _rule("scale", "X @scale//ScaleTensor"),
    "reshape": _rule("reshape2", "X @shape/ShapeTensor/Shape"),
    "transpose": _rule("transpose2", rename={"perm": "axis"}),
    "squeeze": _rule("squeeze2", "X @axes"),
    "unsqueeze": _rule("unsqueeze2", "X @axes"),
    "flatten": _rule("flatten_contiguous_range",
                     rename={"start_axis": "start_axis", "stop_axis": "stop_axis"}),
    "concat": _rule("concat", "X @axis//AxisTensor"),
    "stack": _rule("stack", "X", "Y"),
    "unstack": _rule("unstack", "X", "Y"),
    "unbind": _rule("unbind"),
    "split": _rule("split", "X @sections @axis", num=0),
    "split_with_num": _rule("split", "X @axis", sections=[]),
    "slice": _rule("slice",
                   "Input @starts/StartsTensorList/StartsTensor @ends/EndsTensorList/EndsTensor"),
    "strided_slice": _rule("strided_slice", "Input @starts @ends @strides"),
    "expand": _rule("expand_v2", "X @shape/expand_shapes_tensor/Shape"),
    "tile": _rule("tile", "X @repeat_times/repeat_times_tensor/RepeatTimes"),
    "cast": _rule("cast", rename={"dtype": "out_dtype"}),
    "shape": _rule("shape", "Input"),
    "gather": _rule("gather", "X Index @axis"),
    "gather_nd": _rule("gather_nd", "X Index"),
    "embedding": _rule("lookup_table_v2", "Ids W"),
    "where": _rule("where", "Condition X Y"),
    "flip": _rule("flip"),
    "roll": _rule("roll", "X @shifts"),
    "cumsum": _rule("cumsum", "X @axis"),
    "pad3d": _rule("pad3d", "X @paddings//Paddings", rename={"pad_value": "value"}),
    "pad": _rule("pad", "X @pad_value"),
    "pixel_shuffle": _rule("pixel_shuffle"),
    "nearest_interp": _rule("nearest_interp_v2", _INTERP, rename=_LAYOUT),
    "bilinear_interp": _rule("bilinear_interp_v2", _INTERP, rename=_LAYOUT),
    "bicubic_interp": _rule("bicubic_interp_v2", _INTERP, rename=_LAYOUT),
    "full_like": _rule("fill_any_like", "X @value"),
    "argmax": _rule("arg_max", "X @axis"),
    "argmin": _rule("arg_min", "X @axis"),
    "topk": _rule("top_k_v2", "X @k//K", "Out Indices"),
    "clip": _rule("clip", "X @min//Min @max//Max"),
    "pow": _rule("pow", rename={"y": "factor"}),
    "mean": _rule("reduce_mean", "X @dim", rename=_REDUCE),
    "sum": _rule("reduce_sum", "X @dim", rename=dict(_REDUCE, dtype="")),
    "max": _rule("reduce_max", "X @dim", rename=_REDUCE),
    "min": _rule("reduce_min", "X @dim", rename=_REDUCE),
    "prod": _rule("reduce_prod", "X @dim", rename=dict(_REDUCE, reduce_all="reduce_all")),
    "p_norm": _rule("p_norm"),
    "softmax": _rule("softmax"),
    "log_softmax": _rule("log_softmax"),
    "hardswish": _rule("hard_swish", threshold=6.0, scale=6.0, offset=3.0),
    "hardsigmoid": _rule("hard_sigmoid"),
    "hardtanh": _rule("brelu"),
    "leaky_relu": _rule("leaky_relu", rename={"negative_slope": "alpha"}),
    "relu6": _rule("relu6", threshold=6.0),
    "swish": _rule("swish", beta=1.0),
    "mish": _rule("mish", rename={"lambda": "threshold"}),
    "prelu": _rule("prelu", "X Alpha"),
    "add_n": _rule("sum"),
    "multiclass_nms3": _rule("multiclass_nms3", "BBoxes Scores RoisNum", "Out Index NmsRoisNum"),
    "yolo_box": _rule("yolo_box", "X ImgSize", "Boxes Scores"),
    "quantize_linear": _rule("quantize_linear", "X Scale ZeroPoint InAccum InState", "Y"),
    "dequantize_linear": _rule("dequantize_linear", "X Scale ZeroPoint InAccum InState", "Y"),
}
RULES.update({name: _rule(f"elementwise_{op}", "X Y", axis=-1) for name, op in {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "maximum": "max",
    "minimum": "min",
    "elementwise_pow": "pow", "floor_divide": "floordiv", "remainder": "mod", "fmax": "fmax",
    "fmin": "fmin"}.items()})
RULES.update({name: _rule(name) for name in (
    "relu", "sigmoid", "tanh", "silu", "gelu", "elu", "selu", "celu", "softplus", "softsign",
    "hardshrink",
    "softshrink", "logsigmoid", "exp", "log", "log2", "log1p", "sqrt", "rsqrt", "square", "abs",
    "sin", "cos", "erf", "floor",
    "ceil", "round", "reciprocal", "sign", "assign", "logical_not", "expm1", "tanh_shrink", "stanh",
    "thresholded_relu")})
RULES.update({name: _rule(name, "X Y") for name in (
    "equal", "not_equal", "less_than", "less_equal", "greater_than", "greater_equal", "logical_and",
    "logical_or")})
# PIR writes some ops with a trailing underscore: they may reuse their input's memory.
RULES.update({name + "_": rule for name, rule in list(RULES.items()) if name + "_" not in RULES})
