# SPDX-License-Identifier: Apache-2.0
"""The written program computes what was simulated, in the form that runtimes read."""
import numpy as np
import pytest

from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.post.program import qdq_graph
from paddle_mrecg.post.program import verify
from paddle_mrecg.graph.float_weights import float_weights
from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.graph import WEIGHT_SLOTS, Op, TensorInfo, weight_name
from paddle_mrecg.graph.program import read_program
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.grids.affine import dequantize

from tests.tiny import CONV, graph_of, tiny_graph, tiny_job, tiny_samples

FLOAT_ACTIVATIONS = dict(activation_bits=32, first_layer_activation_bits=32,
                         last_layer_activation_bits=32)
SETTINGS = {
    "paddle_lite W4A8": dict(target="paddle_lite", weight_bits=4),
    "paddle_lite W8A8": dict(target="paddle_lite", weight_bits=8),
    "paddle_lite W2A8": dict(target="paddle_lite", weight_bits=2),
    "paddle_lite per tensor": dict(target="paddle_lite", weight_bits=4, weight_per_channel=False),
    "simulation W4A4": dict(weight_bits=4, activation_bits=4),
    "simulation W2A4": dict(weight_bits=2, activation_bits=4),
    "simulation W8A2": dict(weight_bits=8, activation_bits=2),
    "simulation per tensor": dict(weight_bits=4, activation_bits=4, weight_per_channel=False),
    "simulation symmetric weights": dict(weight_bits=4, activation_bits=4, weight_symmetric=True),
    "simulation unsigned activations": dict(weight_bits=4, activation_bits=4,
                                            activation_symmetric=True),
    "simulation float shortcuts": dict(weight_bits=4, activation_bits=4, quantize_shared=False),
    "simulation weights only": dict(weight_bits=3, **FLOAT_ACTIVATIONS),
    "paddle_lite weights only": dict(target="paddle_lite", weight_bits=3, **FLOAT_ACTIVATIONS),
    "overlapping bits": dict(target="paddle_lite", weight_bits=5, first_layer_weight_bits=3,
                             last_layer_weight_bits=2),
}


def written(job, folder):
    """Write the program of ``job``; its prefix and its graph."""
    graph = qdq_graph(job.network.graph, job.network.scheme, job.state)
    prefix = str(folder / "model")
    save_program(graph, prefix)
    return prefix, graph


def check(job, folder):
    """The program's outputs equal the simulation's, and the float network's by and large only."""
    prefix, graph = written(job, folder)
    found = verify(job.network, job.state, prefix)
    assert found["outputs"] == len(job.network.graph.outputs) and found["max_abs_output"] > 0
    assert found["max_abs_diff"] <= 1e-6 * found["max_abs_output"]
    stored = read_program(prefix + ".pdmodel", prefix + ".pdiparams", allow_quantized=True)
    for name in job.state.weight_encodings:
        assert graph.params[name].dtype == np.int8 == stored.params[name].dtype
        assert np.array_equal(graph.params[name], stored.params[name])
    return prefix, graph


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_program_equals_simulation(settings, tmp_path):
    job = tiny_job(**settings)
    prefix, _ = check(job, tmp_path)
    float_prefix = str(tmp_path / "float")
    save_program(job.network.graph, float_prefix)
    feed = {"image": tiny_samples()["image"][:8]}
    assert np.abs(Predictor(prefix)(feed)[0] - Predictor(float_prefix)(feed)[0]).max() > 1e-4, (
        "something is quantized")


@pytest.mark.parametrize("target", ["paddle_lite", "simulation"])
def test_stored_codes_and_scales_give_the_simulated_weights(target):
    job = tiny_job(target=target, weight_bits=3)
    graph = qdq_graph(job.network.graph, job.network.scheme, job.state)
    readers = {op.input("X"): op for op in graph.ops if op.type == "dequantize_linear"}
    adders = {op.input("X"): op for op in graph.ops if op.type == "elementwise_add"}
    for name, encoding in job.state.weight_encodings.items():
        op = readers[name]
        shape = [1] * graph.params[name].ndim
        shape[op.attrs["quant_axis"]] = -1
        value = (graph.params[name]
                 * (graph.params[op.input("Scale")] / np.float32(127)).reshape(shape))
        if op.output("Y") in adders:
            value = value + graph.params[adders[op.output("Y")].input("Y")].reshape(shape)
        expected = dequantize(job.state.codes[name], encoding)
        assert np.allclose(value, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        if target == "paddle_lite":
            assert abs(int(graph.params[name].min())) <= 127, (
                "-128 overflows in Paddle Lite's batch-norm fusion")


def test_paddle_lite_form_is_quantize_and_dequantize_with_shared_scales():
    job = tiny_job(target="paddle_lite", weight_bits=4)
    graph = qdq_graph(job.network.graph, job.network.scheme, job.state)
    assert {op.type for op in graph.ops} == {op.type for op in job.network.graph.ops} | {
        "quantize_linear",
        "dequantize_linear",
    }
    producers = graph.producers()
    pairs = [op for op in graph.ops if op.type == "quantize_linear"]
    assert sorted(op.input("X") for op in pairs) == sorted(job.state.activation_encodings)
    for quantize in pairs:
        dequantize_op, = graph.consumers()[quantize.output("Y")]
        assert dequantize_op.type == "dequantize_linear"
        for slot in ("Scale", "ZeroPoint"):
            assert quantize.inputs[slot] == dequantize_op.inputs[slot], (
                "Paddle Lite fuses by the variable's name")
    for op in graph.ops:
        if op.type in WEIGHT_SLOTS:
            for slot in WEIGHT_SLOTS[op.type][:2]:
                assert producers[op.input(slot)].type == "dequantize_linear"


def test_the_float_graph_is_left_as_it_was():
    job = tiny_job()
    graph = job.network.graph
    before = ([repr(op) for op in graph.ops], set(graph.params), set(graph.tensors),
              graph.params["a.w"].dtype)
    qdq_graph(graph, job.network.scheme, job.state)
    assert (before == ([repr(op) for op in graph.ops], set(graph.params), set(graph.tensors),
                       graph.params["a.w"].dtype))


def test_names_that_are_taken_stay_apart(tmp_path):
    graph = tiny_graph()
    for op in graph.ops:
        for names in [*op.inputs.values(), *op.outputs.values()]:
            names[:] = [n.replace("c.add", "a.w.dequantized").replace("d.sum", "a.relu.codes")
                        for n in names]
    for old, new in (("c.add", "a.w.dequantized"), ("d.sum", "a.relu.codes")):
        graph.tensors[new] = TensorInfo(new, graph.tensors.pop(old).shape)
    check(tiny_job(graph, target="paddle_lite"), tmp_path)


def _weight(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
            / np.float32(np.sqrt(shape[-1])))


def _images(count=16, channels=4, side=6, seed=1):
    return {"x": np.random.default_rng(seed).standard_normal((count, channels, side,
                                                              side)).astype(np.float32)}


def _rows(*shape, seed=1):
    return {"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def _matmul(source, weight, out, kind="matmul_v2", **attrs):
    attrs = attrs or dict(trans_x=False, trans_y=False)
    return Op(kind, {"X": [source], "Y": [weight]}, {"Out": [out]}, attrs)


def _conv(source, weight, out, kind="conv2d", **attrs):
    return Op(kind, {"Input": [source], "Filter": [weight]}, {"Output": [out]}, dict(CONV, **attrs))


def _relu(source, out):
    return Op("relu", {"X": [source]}, {"Out": [out]}, {})


def one_parameter_read_twice():
    ops = [_matmul("x", "w", "h"), _relu("h", "r"), _matmul("r", "w", "s"), _matmul("s", "v", "y")]
    return (graph_of(ops, {"w": _weight(6, 6), "v": _weight(6, 3, seed=2)}, _rows(16, 6), ["y"]),
            _rows(16, 6))


def one_activation_read_by_several():
    ops = [_conv("x", "u", "h"), _relu("h", "r"), _conv("r", "v", "p"), _conv("r", "w", "q"),
           Op("elementwise_add", {"X": ["p"], "Y": ["q"]}, {"Out": ["s"]}, {"axis": -1}),
           Op("elementwise_add", {"X": ["s"], "Y": ["r"]}, {"Out": ["y"]}, {"axis": -1})]
    params = {n: _weight(4, 4, 3, 3, seed=k) / 3 for k, n in enumerate("uvw")}
    return graph_of(ops, params, _images(), ["y"]), _images()


def an_input_that_is_an_output_too():
    ops = [_conv("x", "u", "h"), _relu("h", "r"), _conv("r", "v", "y")]
    params = {n: _weight(4, 4, 3, 3, seed=k) for k, n in enumerate("uv")}
    return graph_of(ops, params, _images(), ["y", "r"]), _images()


def transposed_convolution():
    ops = [_conv("x", "u", "h"), _relu("h", "r"),
           _conv("r", "w", "y", "conv2d_transpose", strides=[2, 2], paddings=[0, 0], output_size=[],
                 output_padding=[])]
    return (graph_of(ops, {"u": _weight(4, 4, 3, 3), "w": _weight(4, 5, 2, 2, seed=3)}, _images(),
                     ["y"]), _images())


def transposed_convolution_in_groups():
    ops = [_conv("x", "u", "h"), _relu("h", "r"),
           _conv("r", "w", "y", "conv2d_transpose", strides=[2, 2], groups=2, output_size=[],
                 output_padding=[])]
    return (graph_of(ops, {"u": _weight(4, 4, 3, 3), "w": _weight(4, 3, 3, 3, seed=3)}, _images(),
                     ["y"]), _images())


def depthwise_convolution():
    ops = [_conv("x", "u", "h"), _relu("h", "r"),
           _conv("r", "d", "e", "depthwise_conv2d", groups=4), _relu("e", "f"),
           _conv("f", "v", "y", paddings=[0, 0])]
    params = {"u": _weight(4, 4, 3, 3), "d": _weight(4, 1, 3, 3, seed=2),
              "v": _weight(5, 4, 1, 1, seed=3)}
    return graph_of(ops, params, _images(), ["y"]), _images()


def transposed_matrix():
    ops = [_matmul("x", "w", "h"), _relu("h", "r"),
           _matmul("r", "v", "y", trans_x=False, trans_y=True)]
    return (graph_of(ops, {"w": _weight(6, 8), "v": _weight(3, 8, seed=2)}, _rows(16, 6), ["y"]),
            _rows(16, 6))


def old_matmul_with_alpha():
    ops = [_matmul("x", "w", "h"), _relu("h", "r"),
           _matmul("r", "v", "y", "matmul", transpose_X=False, transpose_Y=True, alpha=0.5)]
    return (graph_of(ops, {"w": _weight(6, 8), "v": _weight(3, 8, seed=2)}, _rows(16, 6), ["y"]),
            _rows(16, 6))


def matrix_product_of_a_sequence():
    ops = [_matmul("x", "w", "h"), _relu("h", "r"),
           _matmul("r", "v", "y", "mul", x_num_col_dims=2, y_num_col_dims=1)]
    return (graph_of(ops, {"w": _weight(6, 8), "v": _weight(8, 3, seed=2)}, _rows(16, 5, 6), ["y"]),
            _rows(16, 5, 6))


def one_product_per_head():
    ops = [_matmul("x", "w", "h"), _relu("h", "r"), _matmul("r", "v", "y")]
    samples = _rows(16, 2, 5, 6)
    return (graph_of(ops, {"w": _weight(6, 8), "v": _weight(2, 8, 3, seed=2)}, samples, ["y"]),
            samples)


def a_weight_that_something_else_reads():
    """Row sums of a quantized weight are added to the result, as tied
    embeddings and weight norms do.
    """
    ops = [_matmul("x", "w", "h"), _relu("h", "r"), _matmul("r", "v", "s"),
           Op("reduce_sum", {"X": ["v"]}, {"Out": ["t"]},
              dict(dim=[0], keep_dim=False, reduce_all=False)),
           Op("elementwise_add", {"X": ["s"], "Y": ["t"]}, {"Out": ["y"]}, {"axis": -1})]
    return (graph_of(ops, {"w": _weight(6, 8), "v": _weight(8, 3, seed=2)}, _rows(16, 6), ["y"]),
            _rows(16, 6))


GRAPHS = [one_parameter_read_twice, one_activation_read_by_several, an_input_that_is_an_output_too,
          transposed_convolution, transposed_convolution_in_groups, depthwise_convolution,
          transposed_matrix,
          old_matmul_with_alpha, matrix_product_of_a_sequence, one_product_per_head,
          a_weight_that_something_else_reads]


@pytest.mark.parametrize("target", ["paddle_lite", "simulation"])
@pytest.mark.parametrize("build", GRAPHS, ids=lambda build: build.__name__)
def test_every_kind_of_quantized_op_is_exported_as_simulated(build, target, tmp_path):
    graph, samples = build()
    bits = dict(weight_bits=4, first_layer_weight_bits=4, last_layer_weight_bits=4,
                activation_bits=8 if target == "paddle_lite" else 4)
    job = tiny_job(fold(graph), samples, target=target, **bits)
    weights = {weight_name(op, job.network.graph) for op in job.network.graph.ops} - {None}
    assert set(job.state.codes) == weights, "the sums have become a parameter of their own"
    check(job, tmp_path)


def test_a_tied_weight_stays_float_and_is_named(tmp_path):
    """An embedding that is the output layer too would have to be stored as codes and as floats."""
    ops = [_matmul("x", "w", "h"), _relu("h", "r"), _matmul("r", "v", "s"),
           Op("arg_max", {"X": ["r"]}, {"Out": ["ids"]},
              dict(axis=1, keepdims=False, flatten=False, dtype=3)),
           Op("lookup_table_v2", {"W": ["v"], "Ids": ["ids"]}, {"Out": ["e"]},
              dict(padding_idx=-1)),
           Op("elementwise_add", {"X": ["s"], "Y": ["e"]}, {"Out": ["y"]}, {"axis": -1})]
    samples = _rows(16, 6)
    graph = graph_of(ops, {"w": _weight(6, 8), "v": _weight(8, 3, seed=2)}, samples, ["y"])
    job = tiny_job(fold(graph), samples, target="paddle_lite", weight_bits=8,
                   first_layer_weight_bits=8, last_layer_weight_bits=8, activation_bits=8)
    assert set(job.state.codes) == {"w"}
    assert "another op reads it too" in float_weights(job.network.graph, job.state.codes)["v"]
    prefix, _ = written(job, tmp_path)
    assert verify(job.network, job.state, prefix)["verdict"] == "agrees"
