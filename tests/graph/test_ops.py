# SPDX-License-Identifier: Apache-2.0
"""The op table against the Executor, op by op, where attributes, defaults and slots bite."""
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddle_mrecg.errors import UnsupportedOpError
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.ops import SUPPORTED, has_gradient, legacy, run_op, run_ops
from tests.executor import executor_outputs

INT32, INT64, FLOAT32 = 2, 3, 5  # ProgramDesc's dtype numbers


def floats(*shape, seed=0, low=-2.0, high=2.0):
    return np.random.RandomState(seed).uniform(low, high, shape).astype("float32")


def ints(*values, dtype="int32"):
    return np.array(values, dtype)


def one_op(op_type, inputs, attrs, outputs):
    """A graph of one op and its feed; a list of arrays fills a slot with several tensors."""
    slots, feed = {}, {}
    for slot, arrays in inputs.items():
        arrays = arrays if isinstance(arrays, list) else [arrays]
        slots[slot] = [f"{slot}_{i}" for i in range(len(arrays))]
        feed.update(zip(slots[slot], arrays))
    results = {slot: [f"{slot}_out_{i}" for i in range(count)] for slot, count in outputs.items()}
    op = Op(op_type, slots, results, attrs)
    tensors = {n: TensorInfo(n, a.shape, a.dtype.name) for n, a in feed.items()}
    tensors.update({n: TensorInfo(n) for n in op.output_names})
    return Graph([op], tensors, {}, list(feed), op.output_names), feed


def check(op_type, inputs, outputs=None, **attrs):
    graph, feed = one_op(op_type, inputs, attrs, outputs or {"Out": 1})
    expected = executor_outputs(graph, feed, graph.outputs)
    actual = run_op(graph.ops[0], {n: paddle.to_tensor(a) for n, a in feed.items()})
    for name, array in zip(graph.outputs, expected):
        result = actual[name].numpy()
        assert (result.shape, result.dtype) == (array.shape, array.dtype)
        np.testing.assert_allclose(result, array, rtol=1e-5, atol=1e-5)


X = floats(2, 6, 7, 8)
CONV = {"Input": X, "Filter": floats(4, 6, 3, 3, seed=1)}


@pytest.mark.parametrize("attrs", [
    dict(paddings=[1, 1]), dict(paddings=[2, 2]), dict(paddings=[0, 1]),
    dict(paddings=[1, 1, 2, 2]),
    dict(paddings=[1, 0, 2, 1]), dict(paddings=[3, 3]),
    dict(padding_algorithm="SAME", paddings=[0, 0]),
    dict(padding_algorithm="SAME", paddings=[0, 0], strides=[2, 2]),
    dict(padding_algorithm="VALID", paddings=[1, 1]),
    dict(paddings=[2, 2], dilations=[2, 2]), dict(paddings=[1, 1], strides=[2, 1])])
def test_convolution_paddings(attrs):
    check("conv2d", CONV, {"Output": 1}, **attrs)


@pytest.mark.parametrize("attrs", [dict(paddings=[1, 1], strides=[2, 2]), dict(paddings=[2, 2])])
def test_depthwise_convolution(attrs):
    check("depthwise_conv2d", {"Input": X, "Filter": floats(6, 1, 5, 5, seed=1)}, {"Output": 1},
          groups=6, **attrs)


def test_grouped_convolution_with_channels_last():
    check("conv2d", {"Input": floats(2, 7, 8, 6), "Filter": floats(4, 3, 3, 3, seed=1)},
          {"Output": 1}, groups=2,
          data_format="NHWC", paddings=[1, 1])


def test_convolution_bias():
    values = {"x": paddle.to_tensor(X), "w": paddle.to_tensor(CONV["Filter"]),
              "b": paddle.to_tensor(floats(4))}
    plain, biased = (Op("conv2d", dict({"Input": ["x"], "Filter": ["w"]}, **extra),
                        {"Output": ["y"]})
                     for extra in ({}, {"Bias": ["b"]}))
    difference = (run_op(biased, values)["y"] - run_op(plain, values)["y"]).numpy()
    np.testing.assert_allclose(difference,
                               np.broadcast_to(floats(4)[:, None, None], difference.shape),
                               atol=1e-4)


@pytest.mark.parametrize("attrs", [
    dict(strides=[2, 2]), dict(strides=[2, 2], output_padding=[1, 1]),
    dict(strides=[2, 2], output_size=[16, 18]),
    dict(strides=[2, 2], paddings=[1, 1]), dict(strides=[2, 2], padding_algorithm="SAME"),
    dict(dilations=[2, 2], paddings=[1, 1])])
def test_transposed_convolution(attrs):
    check("conv2d_transpose", {"Input": X, "Filter": floats(6, 4, 3, 3, seed=1)}, {"Output": 1},
          **attrs)


def test_depthwise_transposed_convolution():
    check("depthwise_conv2d_transpose", {"Input": X, "Filter": floats(6, 1, 4, 4, seed=1)},
          {"Output": 1}, groups=6,
          strides=[2, 2], paddings=[1, 1])


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("attrs", [
    dict(ksize=[3, 3], strides=[2, 2], paddings=[1, 1]),
    dict(ksize=[3, 3], strides=[2, 2], ceil_mode=True),
    dict(ksize=[3, 3], strides=[2, 2], paddings=[1, 1], exclusive=False),
    dict(ksize=[2, 2], global_pooling=True),
    dict(ksize=[3, 3], strides=[1, 1], padding_algorithm="SAME"),
    dict(ksize=[3, 3], strides=[2, 2], padding_algorithm="VALID", paddings=[1, 1]),
    dict(ksize=[3, 3], strides=[2, 2], paddings=[0, 1, 1, 0], exclusive=False),
    dict(ksize=[3, 3], strides=[2, 2], data_format="NHWC"),
    dict(ksize=[3, 3], global_pooling=True, data_format="NHWC")])
def test_pooling(kind, attrs):
    check("pool2d", {"X": X}, pooling_type=kind, **attrs)


@pytest.mark.parametrize("size", [[1, 1], [3, 2]])
def test_adaptive_pooling(size):
    check("pool2d", {"X": X}, pooling_type="avg", ksize=size, adaptive=True)
    check("pool2d", {"X": X}, pooling_type="avg", ksize=size, adaptive=True, data_format="NHWC")
    check("max_pool2d_with_index", {"X": X}, ksize=size, adaptive=True)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("inputs, attrs", [
    ({}, dict(scale=[2.0, 2.0])), ({}, dict(scale=[2.0, 4.0])), ({}, dict(scale=[1.5, 1.5])),
    ({}, dict(out_h=10, out_w=5)),
    ({"OutSize": ints(9, 11)}, dict(out_h=3, out_w=3)), ({"SizeTensor": [ints(9), ints(11)]}, {}),
    ({"Scale": np.array([3.0], "float32")}, {}), ({}, dict(scale=[2.0, 2.0], align_mode=0)),
    ({}, dict(scale=[2.0, 2.0], data_layout="NHWC"))])
def test_interpolation(mode, inputs, attrs):
    check(f"{mode}_interp_v2", dict(X=X, **inputs),
          **{"align_corners": False, "interp_method": mode, **attrs})


def test_interpolation_with_aligned_corners():
    check("bilinear_interp_v2", {"X": X}, out_h=5, out_w=13, align_corners=True,
          interp_method="bilinear")


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "max", "min"])
@pytest.mark.parametrize("shape, axis", [
    ((6,), 1), ((6, 7), 1), ((2,), 0), ((8,), -1), ((7, 8), 2), ((6, 1, 1), -1), ((6, 1, 1), 1),
    ((2, 6, 1, 1), -1),
    ((1,), -1), ((2, 6, 1, 8), -1)])
def test_elementwise_axis(name, shape, axis):
    check(f"elementwise_{name}", {"X": X, "Y": floats(*shape, seed=1, low=0.5)}, axis=axis)


def test_elementwise_with_the_longer_operand_second():
    check("elementwise_add", {"X": floats(6, 1, 1), "Y": X}, axis=-1)
    check("elementwise_mul", {"X": floats(1, 6, 1, 1), "Y": X}, axis=-1)


def test_integer_arithmetic():
    a, b = ints(7, -7, 3, dtype="int64"), ints(2, 2, 5, dtype="int64")
    for name in ("add", "sub", "mul", "floordiv", "mod", "max"):
        check(f"elementwise_{name}", {"X": a, "Y": b})
    check("scale", {"X": a}, scale=2.0, bias=3.0)


@pytest.mark.parametrize("attrs",
                         [dict(scale=0.5, bias=0.25),
                          dict(scale=0.5, bias=0.25, bias_after_scale=False), {}])
def test_scale(attrs):
    check("scale", {"X": X}, **attrs)
    check("scale", {"X": X, "ScaleTensor": floats(1)}, **attrs)


@pytest.mark.parametrize("op_type, attrs", [
    *((name, {}) for name in (
        "relu", "relu6", "sigmoid", "tanh", "silu", "swish", "hard_swish", "hard_sigmoid",
        "leaky_relu", "gelu", "elu",
        "celu", "selu", "softplus", "softshrink", "hard_shrink", "thresholded_relu", "stanh",
        "mish", "brelu",
        "softsign", "tanh_shrink", "logsigmoid", "exp", "square", "abs", "floor", "ceil", "sign",
        "sin", "cos", "erf",
        "pow", "softmax", "log_softmax")),
    ("leaky_relu", dict(alpha=0.3)), ("gelu", dict(approximate=True)),
    ("elu", dict(alpha=0.5)),
    ("hard_sigmoid", dict(slope=0.1666667, offset=0.5)), ("swish", dict(beta=1.0)),
    ("softplus", dict(beta=2.0, threshold=1.0)), ("brelu", dict(t_min=-1.0, t_max=1.0)),
    ("pow", dict(factor=2.0)),
    ("softmax", dict(axis=1)), ("log_softmax", dict(axis=2)), ("clip", dict(min=-0.5, max=1.0))])
def test_activation(op_type, attrs):
    check(op_type, {"X": X}, **attrs)


@pytest.mark.parametrize("op_type", ["sqrt", "rsqrt", "log", "log2", "log1p", "reciprocal"])
def test_functions_of_positive_numbers(op_type):
    check(op_type, {"X": floats(2, 3, low=0.1)})


def test_hard_swish_with_other_constants():
    x = paddle.to_tensor(X)
    op = Op("hard_swish", {"X": ["x"]}, {"Out": ["y"]}, dict(threshold=4.0, scale=5.0, offset=2.0))
    np.testing.assert_allclose(run_op(op, {"x": x})["y"].numpy(), X * np.clip(X + 2, 0, 4) / 5,
                               rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode, shape",
                         [("all", (1,)), ("channel", (6,)), ("element", (1, 6, 7, 8))])
def test_prelu(mode, shape):
    check("prelu", {"X": X, "Alpha": floats(*shape, seed=1)}, mode=mode, data_format="NCHW")


@pytest.mark.parametrize("mode", ["downgrade_in_infer", "upscale_in_train"])
def test_dropout_at_inference(mode):
    check("dropout", {"X": X}, dropout_prob=0.3, dropout_implementation=mode, is_test=True)


def test_normalisation():
    six = [floats(6, seed=s, low=0.5) for s in range(4)]
    statistics = dict(zip(("Mean", "Variance", "Scale", "Bias"), six))
    # running statistics whatever the attributes say
    for attrs in (dict(epsilon=1e-3), dict(is_test=False)):
        graph, feed = one_op("batch_norm", dict(X=X, **statistics), attrs, {"Y": 1})
        graph.ops[0].attrs = dict(attrs, is_test=True)
        expected, = executor_outputs(graph, feed, graph.outputs)
        graph.ops[0].attrs = attrs
        actual = run_op(graph.ops[0],
                        {n: paddle.to_tensor(a) for n, a in feed.items()})[graph.outputs[0]]
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-5)
    check("layer_norm", {"X": X, "Scale": floats(56), "Bias": floats(56)}, {"Y": 1},
          begin_norm_axis=2, epsilon=1e-3)
    check("layer_norm", {"X": X}, {"Y": 1})
    check("group_norm", {"X": X, "Scale": six[0], "Bias": six[1]}, {"Y": 1}, groups=3, epsilon=1e-3)
    check("group_norm", {"X": X.transpose(0, 2, 3, 1), "Scale": six[0], "Bias": six[1]}, {"Y": 1},
          groups=2,
          data_layout="NHWC")
    check("instance_norm", {"X": X, "Scale": six[0], "Bias": six[1]}, {"Y": 1}, epsilon=1e-3)


def test_matrix_products():
    a, b = floats(2, 3, 4, 5), floats(2, 3, 5, 6, seed=1)
    check("matmul_v2", {"X": a, "Y": b})
    check("matmul_v2", {"X": a, "Y": b.swapaxes(2, 3)}, trans_y=True)
    check("matmul_v2", {"X": a.swapaxes(2, 3), "Y": floats(5, 6)}, trans_x=True)
    check("mul", {"X": floats(2, 3, 4), "Y": floats(12, 5)})
    check("mul", {"X": floats(2, 3, 4), "Y": floats(4, 5)}, x_num_col_dims=2)
    check("bmm", {"X": a[0], "Y": b[0]})


def test_old_matmul():
    op = Op("matmul", {"X": ["x"], "Y": ["y"]}, {"Out": ["z"]}, dict(transpose_Y=True, alpha=0.5))
    x, y = floats(2, 3), floats(4, 3)
    result = run_op(op, {"x": paddle.to_tensor(x), "y": paddle.to_tensor(y)})["z"].numpy()
    np.testing.assert_allclose(result, 0.5 * x @ y.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "sum", "max", "min"])
@pytest.mark.parametrize("attrs", [
    dict(dim=[2, 3], keep_dim=True), dict(dim=[2, 3]), dict(dim=[-1]), dict(dim=[1], keep_dim=True),
    dict(dim=[], reduce_all=True), dict(dim=[0], reduce_all=True, keep_dim=True), {}])
def test_reduction(name, attrs):
    check(f"reduce_{name}", {"X": X}, **attrs)


def test_reduction_to_another_type():
    """quantile counts true values as float64."""
    check("reduce_sum", {"X": X > 0}, dim=[1], in_dtype=0, out_dtype=6)


def test_choice_between_two_types():
    graph, feed = one_op("where", {"Condition": X > 0, "X": X.astype("float64"),
                                   "Y": np.zeros_like(X, "int64")}, {}, {"Out": 1})
    chosen = run_op(graph.ops[0], {n: paddle.to_tensor(a) for n, a in feed.items()})["Out_out_0"]
    assert chosen.dtype == paddle.float64
    np.testing.assert_array_equal(chosen.numpy(), np.maximum(X, 0))


def test_search():
    check("arg_max", {"X": X}, axis=1)
    check("arg_max", {"X": X}, axis=-1, keepdims=True, dtype=INT32)
    check("top_k_v2", {"X": X}, {"Out": 1, "Indices": 1}, k=2, axis=1)
    check("p_norm", {"X": X}, porder=2.0, axis=1, keepdim=True)


@pytest.mark.parametrize("inputs, attrs", [
    ({}, dict(shape=[0, -1])), ({}, dict(shape=[2, 0, 56])),
    ({"Shape": ints(4, -1, dtype="int64")}, dict(shape=[1])),
    ({"ShapeTensor": [ints(2), ints(-1), ints(8)], "Shape": ints(1, 1)}, dict(shape=[-1, -1, 8]))])
def test_reshape(inputs, attrs):
    check("reshape2", dict(X=X, **inputs), **attrs)


def test_layout():
    check("transpose2", {"X": X}, axis=[0, 2, 3, 1])
    check("squeeze2", {"X": floats(2, 1, 3, 1)}, axes=[1])
    check("squeeze2", {"X": floats(2, 1, 3, 1)}, axes=[])
    check("unsqueeze2", {"X": X}, axes=[0, -1])
    check("unsqueeze2", {"X": X, "AxesTensor": ints(1)}, axes=[])
    check("flatten2", {"X": X}, axis=2)
    check("flatten_contiguous_range", {"X": X}, start_axis=1, stop_axis=-1)
    check("concat", {"X": [X, X]}, axis=1)
    check("concat", {"X": [X, X], "AxisTensor": ints(2)}, axis=0)
    check("stack", {"X": [X, X]}, {"Y": 1}, axis=1)
    check("unstack", {"X": X}, {"Y": 2}, axis=0, num=2)
    check("split", {"X": X}, {"Out": 2}, num=2, axis=1)
    check("split", {"X": X}, {"Out": 3}, sections=[1, 3, -1], axis=1)
    check("expand_v2", {"X": floats(1, 3, 1)}, shape=[2, -1, 4])
    check("expand_v2", {"X": floats(1, 3, 1), "Shape": ints(2, 3, 4)}, shape=[])
    check("tile", {"X": floats(2, 3)}, repeat_times=[2, 1, 3])
    check("flip", {"X": X}, axis=[2, 3])
    check("roll", {"X": X}, shifts=[1, 2], axis=[2, 3])
    check("pixel_shuffle", {"X": floats(2, 8, 3, 3)}, upscale_factor=2)
    check("shuffle_channel", {"X": X}, group=3)


@pytest.mark.parametrize("inputs, attrs", [
    ({}, dict(axes=[1], starts=[1], ends=[3])), ({}, dict(axes=[1], starts=[-2], ends=[2**31 - 1])),
    ({}, dict(axes=[0], starts=[1], ends=[2], decrease_axis=[0])),
    ({}, dict(axes=[1, 3], starts=[0, 2], ends=[2, -1])),
    ({"StartsTensor": ints(2), "EndsTensor": ints(4)},
     dict(axes=[1], starts=[-1], ends=[-1], infer_flags=[-1])),
    ({"StartsTensorList": [ints(1)], "EndsTensorList": [ints(5)]},
     dict(axes=[2], starts=[-1], ends=[-1], infer_flags=[-1])),
    ({}, dict(axes=[1], starts=[-100], ends=[2])),
    ({}, dict(axes=[1], starts=[-1], ends=[2**31 - 1], decrease_axis=[1]))])
def test_slice(inputs, attrs):
    check("slice", dict(Input=X, **inputs), **attrs)


def test_slice_of_a_shape():
    check("slice", {"Input": ints(2, 6, 7)}, axes=[0], starts=[1], ends=[2], decrease_axis=[0])


def test_strided_slice():
    check("strided_slice", {"Input": X}, axes=[2, 3], starts=[0, 1], ends=[7, 8], strides=[2, 3],
          infer_flags=[1, 1])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_padding(mode):
    op = Op("pad2d", {"X": ["x"]}, {"Out": ["y"]},
            dict(paddings=[1, 0, 2, 1], mode=mode, pad_value=0.5))
    constant = dict(constant_values=0.5) if mode == "constant" else {}
    # no Paddle of today runs pad2d
    expected = np.pad(X, [(0, 0), (0, 0), (1, 0), (2, 1)], mode, **constant)
    np.testing.assert_array_equal(run_op(op, {"x": paddle.to_tensor(X)})["y"].numpy(), expected)
    check("pad3d", {"X": X[:, :, None]}, paddings=[1, 0, 2, 1, 0, 0],
          mode="replicate" if mode == "edge" else mode, value=0.5)


def test_padding_of_every_dimension():
    check("pad", {"X": floats(2, 3)}, paddings=[0, 1, 2, 3], pad_value=1.5)


def test_making_and_asking():
    check("fill_constant", {}, shape=[2, 3], value=1.5, dtype=FLOAT32)
    check("fill_constant", {}, shape=[1], value=0.0, str_value="9007199254740993", dtype=INT64)
    check("fill_constant", {"ShapeTensorList": [ints(2), ints(3)]}, shape=[-1, -1], str_value="inf",
          dtype=FLOAT32)
    check("fill_constant_batch_size_like", {"Input": X}, shape=[1, 4], value=2.0, dtype=FLOAT32,
          input_dim_idx=1, output_dim_idx=1)
    check("fill_any_like", {"X": X}, value=3.0, dtype=-1)
    check("range", {"Start": ints(2), "End": ints(9), "Step": ints(3)})
    check("shape", {"Input": X})
    check("cast", {"X": X}, in_dtype=FLOAT32, out_dtype=INT64)


def test_picking():
    check("gather", {"X": X, "Index": ints(3, 1)}, axis=1)
    check("gather", {"X": X, "Index": ints(1), "Axis": ints(2)})
    check("gather_nd", {"X": X, "Index": ints([0, 3], [1, 2])})
    check("lookup_table_v2", {"Ids": ints(1, 0, 2, dtype="int64"), "W": floats(4, 3)})
    check("where", {"Condition": X > 0, "X": X, "Y": -X})


def test_sum_of_several():
    check("sum", {"X": [X, X, X]})


def test_unknown_op_is_named():
    with pytest.raises(UnsupportedOpError, match="warp_drive"):
        run_op(Op("warp_drive", {}, {"Out": ["y"]}), {})
    assert "warp_drive" not in SUPPORTED


@pytest.mark.parametrize("op_type, attrs", [
    ("logsumexp", dict(axis=[1], keepdim=True)), ("tril_triu", dict(diagonal=1, lower=False)),
    ("reduce_amax", dict(dim=[1])), ("cumprod", dict(dim=1))])
def test_ops_outside_the_table_have_their_gradient(op_type, attrs):
    check(op_type, {"X": X}, **attrs)
    op = Op(op_type, {"X": ["x"]}, {"Out": ["y"]}, attrs)
    x = paddle.to_tensor(X, stop_gradient=False)
    run_op(op, {"x": x})["y"].sum().backward()
    assert has_gradient(op) and float(x.grad.abs().sum()) > 0


def test_by_products_that_are_read():
    check("max_pool2d_with_index", {"X": X}, {"Out": 1, "Mask": 1}, ksize=[2, 2], strides=[2, 2],
          paddings=[0, 0])


def test_the_executor_takes_what_dygraph_cannot(monkeypatch):
    monkeypatch.setattr(legacy, "is_known", lambda op: False)
    op = Op("logsumexp", {"X": ["x"]}, {"Out": ["y"]}, dict(axis=[1]))
    x = paddle.to_tensor(X, stop_gradient=False)
    for _ in range(2):
        result = run_op(op, {"x": x})["y"]
        np.testing.assert_allclose(result.numpy(), np.log(np.exp(X).sum(1)), rtol=1e-5)
        result.sum().backward()
        assert not has_gradient(op) and float(x.grad.abs().max()) == 0.0


def test_rare_attribute_goes_another_way():
    op = Op("nearest_interp_v2", {"X": ["x"]}, {"Out": ["y"]},
            dict(align_corners=True, scale=[2.0, 2.0]))
    aligned = F.interpolate(paddle.to_tensor(X), scale_factor=2, mode="bilinear",
                            align_corners=True)
    result = run_op(op, {"x": paddle.to_tensor(X)})["y"]
    assert result.shape == aligned.shape
    np.testing.assert_array_equal(result.numpy()[..., -1, -1], X[..., -1, -1])


def test_views_are_read_as_what_they_show():
    """Paddle 2.6.2's own index_sample reads the memory behind a view."""
    wide, picked = paddle.to_tensor(floats(3, 4, 5)), paddle.to_tensor(ints([0, 4], [1, 2], [3, 3]))
    row = Op("index_sample", {"X": ["x"], "Index": ["i"]}, {"Out": ["y"]})
    np.testing.assert_array_equal(
        run_op(row, {"x": wide[:, 1], "i": picked})["y"].numpy(),
        np.take_along_axis(wide.numpy()[:, 1], picked.numpy(), 1))
    x = paddle.to_tensor(X)[:, :, 1::2, 1::3]
    op = Op("logsumexp", {"X": ["x"]}, {"Out": ["y"]}, dict(axis=[1]))
    np.testing.assert_allclose(run_op(op, {"x": x})["y"].numpy(),
                               np.log(np.exp(X[:, :, 1::2, 1::3]).sum(1)), rtol=1e-5)


def test_run_ops_adds_to_the_values_in_order():
    ops = [Op("relu", {"X": ["x"]}, {"Out": ["a"]}),
           Op("scale", {"X": ["a"]}, {"Out": ["b"]}, {"scale": 2.0})]
    values = {"x": paddle.to_tensor(X)}
    assert run_ops(ops, values) is values
    assert list(values) == ["x", "a", "b"]
    np.testing.assert_array_equal(values["b"].numpy(), 2 * np.maximum(X, 0))


def test_an_assignment_of_computed_values_runs_and_passes_gradients():
    attrs = dict(axes=[1], starts=[0], ends=[2], steps=[1], decrease_axes=[], none_axes=[],
                 shape=[], dtype=FLOAT32)
    check("set_value", {"Input": floats(2, 4), "ValueTensor": floats(2, 2, seed=1)}, **attrs)
    whole, part = paddle.to_tensor(floats(2, 4)), paddle.to_tensor(floats(2, 2, seed=1))
    whole.stop_gradient = part.stop_gradient = False
    op = Op("set_value", {"Input": ["whole"], "ValueTensor": ["part"]}, {"Out": ["out"]}, attrs)
    run_op(op, {"whole": whole, "part": part})["out"].sum().backward()
    assert whole.grad.tolist() == [[0, 0, 1, 1]] * 2 and part.grad.tolist() == [[1, 1]] * 2
