# SPDX-License-Identifier: Apache-2.0
"""Folding keeps every remaining tensor and leaves one weight and one bias per convolution."""
import numpy as np
import pytest

from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo, weight_name
from paddle_mrecg.graph.load import load_graph
from tests.executor import executor_outputs

CONV = {"strides": [1, 1], "paddings": [1, 1], "dilations": [1, 1], "groups": 1,
        "data_format": "NCHW",
        "padding_algorithm": "EXPLICIT"}
SHAPE = (2, 4, 6, 6)


def chain(*steps, weight_shape=(4, 4, 3, 3), first="conv2d", attrs=None):
    """conv followed by ``steps``: (op type, operand or None, attrs);
    operands are drawn away from 0.
    """
    random = np.random.RandomState(0)
    params = {"w": random.randn(*weight_shape).astype("float32")}
    slots = {"Input": ["x"], "Filter": ["w"]}
    ops = [Op(first, slots, {"Output": ["t0"]}, dict(CONV, **(attrs or {})))]
    for k, (op_type, shape, step_attrs) in enumerate(steps, 1):
        inputs = {"X": [f"t{k - 1}"]}
        if op_type == "batch_norm":
            for slot in ("Mean", "Variance", "Scale", "Bias"):
                params[f"{slot}{k}"] = random.uniform(0.5, 2, 4).astype("float32")
                inputs[slot] = [f"{slot}{k}"]
        elif shape is not None:
            params[f"p{k}"] = random.uniform(0.5, 2, shape).astype("float32")
            inputs["Y"] = [f"p{k}"]
        ops.append(Op(op_type, inputs, {"Y" if op_type == "batch_norm" else "Out": [f"t{k}"]},
                      step_attrs))
    tensors = {f"t{k}": TensorInfo(f"t{k}", (-1, 4, 6, 6)) for k in range(len(steps) + 1)}
    tensors["x"] = TensorInfo("x", (-1, 4, 6, 6))
    tensors.update({n: TensorInfo(n, p.shape) for n, p in params.items()})
    return Graph(ops, tensors, params, ["x"], [f"t{len(steps)}"])


BN = ("batch_norm", None, {"is_test": True, "epsilon": 1e-5, "data_layout": "NCHW"})
FEED = {"x": np.random.RandomState(1).randn(*SHAPE).astype("float32")}


def assert_equal_outputs(graph, folded, feed=None, tolerance=1e-4):
    """Outputs and all tensors with the same name, but for raw results of scaled weights."""
    feed = FEED if feed is None else feed
    raw = {n for op in folded.ops if weight_name(op, folded) for n in op.output_names}
    mine = {n for op in folded.ops for n in op.output_names} - raw
    names = [n for op in graph.ops for n in op.output_names if n in mine or n in graph.outputs]
    assert folded.outputs == graph.outputs
    assert set(graph.outputs) <= set(names)
    for name, want, got in zip(names, executor_outputs(graph, feed, names),
                               executor_outputs(folded, feed, names)):
        assert want.shape == got.shape, name
        if want.size:
            error = np.abs(got.astype("float64") - want).max() / (np.abs(want).max() + 1e-9)
            assert error < tolerance, (name, error)


@pytest.mark.parametrize("steps", [
    [BN],
    [("elementwise_add", (4,), {"axis": 1}), BN],
    [("elementwise_add", (1, 4, 1, 1), {"axis": -1})],
    [("elementwise_mul", (1,), {"axis": -1}), ("elementwise_add", (1,), {"axis": -1})],
    [("elementwise_mul", (4, 1, 1), {"axis": -1}), ("elementwise_sub", (1, 4, 1, 1), {"axis": -1})],
    [BN, ("elementwise_div", (4,), {"axis": 1}),
     ("scale", None, {"scale": 3.0, "bias": 2.0, "bias_after_scale": False})],
    [("elementwise_add", (4, 1, 1), {"axis": 1}), BN,
     ("elementwise_mul", (1, 1, 1, 1), {"axis": -1})],
], ids=lambda steps: "-".join(s[0] for s in steps))
def test_affine_chain_becomes_one_bias(steps):
    graph = chain(*steps)
    folded = fold(graph)
    assert [op.type for op in folded.ops] == ["conv2d", "elementwise_add"]
    assert folded.ops[1].attrs["axis"] == 1
    assert folded.params[folded.ops[1].input("Y")].shape == (4,)
    assert folded.ops[0].input("Filter") == "w"
    assert len(folded.params) == 2
    assert_equal_outputs(graph, folded)


def test_pure_scaling_needs_no_bias():
    folded = fold(chain(("elementwise_mul", (4,), {"axis": 1})))
    assert [op.type for op in folded.ops] == ["conv2d"]


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_scales_its_output_channels(groups):
    graph = chain(BN, weight_shape=(4, 4 // groups, 3, 3), first="conv2d_transpose",
                  attrs={"groups": groups})
    folded = fold(graph)
    assert [op.type for op in folded.ops] == ["conv2d_transpose", "elementwise_add"]
    assert_equal_outputs(graph, folded)


@pytest.mark.parametrize("steps", [
    [("relu", None, {}), BN],  # not affine between them
    [("elementwise_add", (6,), {"axis": -1})],  # along the width, not the channels
    [("elementwise_mul", (4, 6, 6), {"axis": -1})],
    [("batch_norm", None, dict(BN[2], is_test=False))],  # statistics of the batch
])
def test_what_must_not_be_folded_stays(steps):
    graph = chain(*steps)
    folded = fold(graph)
    assert [op.type for op in folded.ops] == [op.type for op in graph.ops]
    np.testing.assert_array_equal(folded.params["w"], graph.params["w"])


def test_result_that_others_read_is_not_folded():
    graph = chain(BN)
    graph.ops.append(Op("relu", {"X": ["t0"]}, {"Out": ["r"]}))
    graph.tensors["r"] = TensorInfo("r", (-1, 4, 6, 6))
    graph.outputs.append("r")
    folded = fold(graph)
    assert [op.type for op in folded.ops] == ["conv2d", "batch_norm", "relu"]


def test_shared_weight_is_copied_before_it_is_scaled():
    graph = chain(BN)
    graph.ops.append(Op("conv2d", {"Input": ["x"], "Filter": ["w"]}, {"Output": ["other"]},
                        dict(CONV)))
    graph.tensors["other"] = TensorInfo("other", (-1, 4, 6, 6))
    graph.outputs.append("other")
    folded = fold(graph)
    assert len({op.input("Filter") for op in folded.ops if op.type == "conv2d"}) == 2
    np.testing.assert_array_equal(folded.params["w"], graph.params["w"])
    assert_equal_outputs(graph, folded)


def test_operands_may_come_in_either_order():
    graph = chain(("elementwise_mul", (1,), {"axis": -1}))
    op = graph.ops[1]
    op.inputs = {"X": op.inputs["Y"], "Y": op.inputs["X"]}
    folded = fold(graph)
    assert [op.type for op in folded.ops] == ["conv2d"]
    assert_equal_outputs(graph, folded)


def test_scalar_affine_ops_after_an_activation_become_one_scale():
    graph = chain(("relu", None, {}), ("elementwise_mul", (1,), {"axis": -1}),
                  ("elementwise_add", (1,), {"axis": -1}))
    folded = fold(graph)
    assert [op.type for op in folded.ops] == ["conv2d", "relu", "scale"]
    assert_equal_outputs(graph, folded)


@pytest.mark.parametrize("mode, types", [("upscale_in_train", ["conv2d", "relu", "tanh"]),
                                         ("downgrade_in_infer",
                                          ["conv2d", "relu", "scale", "tanh"])])
def test_dropout(mode, types):
    dropout = {"dropout_prob": 0.25, "dropout_implementation": mode, "is_test": True}
    graph = chain(("relu", None, {}), ("dropout", None, dropout), ("assign", None, {}),
                  ("tanh", None, {}))
    folded = fold(graph)
    assert [op.type for op in folded.ops] == types
    assert_equal_outputs(graph, folded)


def test_names_of_outputs_survive():
    graph = chain(("relu", None, {}), ("scale", None, {"scale": 1.0, "bias": 0.0}))
    folded = fold(graph)
    assert [op.type for op in folded.ops] == ["conv2d", "relu"]
    assert_equal_outputs(graph, folded)


def test_folding_twice_changes_nothing_and_the_input_graph_stays():
    graph = chain(("elementwise_add", (1, 4, 1, 1), {"axis": -1}), BN)
    before = graph.params["w"].copy()
    once = fold(graph)
    np.testing.assert_array_equal(graph.params["w"], before)
    assert len(graph.ops) == 3
    twice = fold(once)
    assert [repr(op) for op in once.ops] == [repr(op) for op in twice.ops]
    for name, value in once.params.items():
        np.testing.assert_array_equal(twice.params[name], value)


def test_small_network(small_graph, small_feed):
    folded = fold(small_graph)
    assert not {"batch_norm", "dropout", "assign"} & {op.type for op in folded.ops}
    assert_equal_outputs(small_graph, folded, small_feed)


def _check_model(name, registry_model, left_over):
    prefix, feed = registry_model(name)
    graph = load_graph(prefix)
    folded = fold(graph)
    assert {op.type for op in folded.ops} & {"batch_norm", "dropout", "assign"} == left_over
    assert_equal_outputs(graph, folded, feed)


def test_real_model(registry_model):
    _check_model("ocr_cls", registry_model, set())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ocr_det", "ocr_rec", "lcnet_v2", "picodet"])
def test_large_real_models(name, registry_model):
    _check_model(name, registry_model, set())


def test_depthwise_transposed_convolution_is_a_layer():
    """Its kernels lie on axis 0, one per channel, and what follows is folded into them."""
    from paddle_mrecg.graph.graph import channel_axis
    random = np.random.RandomState(0)
    weight, factor = (random.uniform(0.5, 2, s).astype("float32") for s in ((4, 1, 2, 2), (4,)))
    attrs = dict(strides=[2, 2], groups=4)
    up = Op("depthwise_conv2d_transpose", {"Input": ["x"], "Filter": ["w"]}, {"Output": ["u"]},
            attrs)
    scaled = Op("elementwise_mul", {"X": ["u"], "Y": ["f"]}, {"Out": ["y"]}, {"axis": 1})
    tensors = {n: TensorInfo(n, (-1, 4, 3, 3)) for n in ("x", "u", "y")}
    graph = Graph([up, scaled], tensors, {"w": weight, "f": factor}, ["x"], ["y"])
    folded = fold(graph)
    assert [op.type for op in folded.ops] == ["depthwise_conv2d_transpose"]
    assert weight_name(folded.ops[0], folded) == "w" and channel_axis(folded.ops[0]) == 0
    x = random.uniform(-1, 1, (2, 4, 3, 3)).astype("float32")
    want, got = (executor_outputs(g, {"x": x}, ["y"])[0] for g in (graph, folded))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_stack_of_matrices_has_no_channel():
    """Paddle's kernels scale along the first two axes alone; a third has the output channels."""
    product = Op("matmul_v2", {"X": ["x"], "Y": ["w"]}, {"Out": ["y"]})
    weight = np.ones((2, 3, 4), "float32")
    graph = Graph([product], {}, {"w": weight, "v": weight[0]}, ["x"], ["y"])
    assert weight_name(product, graph) is None
    product.inputs["Y"] = ["v"]
    assert weight_name(product, graph) == "v"
