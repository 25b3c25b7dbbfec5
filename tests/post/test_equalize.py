# SPDX-License-Identifier: Apache-2.0
"""Channels that one step cannot serve are scaled, the float network stays the same function, and
nothing is done that does not pay.
"""
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddle_mrecg.config import QuantPost
from paddle_mrecg.deploy.check import doctor
from paddle_mrecg.graph.graph import Op, activation_name, weight_name
from paddle_mrecg.graph.inserted_factors import without_factors
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.ops import run_ops
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.grids.affine import fake_quantize
from paddle_mrecg.grids.observers import weight_encoding
from paddle_mrecg.post import calibrate
from paddle_mrecg.post.equalize import LARGEST, equalize
from paddle_mrecg.post.job import quant_post_mrecg
from paddle_mrecg.post.layer_noise import ChannelRange, LayerNoise
from paddle_mrecg.post.network_state import NetworkState
from paddle_mrecg.post.scheme import build_scheme
from tests.jobs import batches, settings
from tests.lite import lite_tools
from tests.tiny import tiny_graph, tiny_samples

SPREAD = np.array([1, 200, 3, 0.5, 40, 1], np.float32)


def network(activation="relu", spread=SPREAD, depthwise=True, more=()):
    """The tiny graph with conv b depthwise, other sizes of channels in front of it and another
    activation there; conv b and c work as if its input were as before.
    """
    graph = tiny_graph()
    if depthwise:
        graph.params["b.w"] = graph.params["b.w"][:, :1].copy()
        next(op for op in graph.ops if "b.w" in op.input_names).attrs["groups"] = 6
        graph.params["b.w"] /= spread[:, None, None, None]
    else:
        graph.params["b.w"] /= spread[:, None, None]
    graph.params["a.w"] *= spread[:, None, None, None]
    graph.params["a.b"] *= spread
    front = next(op for op in graph.ops if op.output_names == ["a.relu"])
    front.type = activation
    join = next(op for op in graph.ops if op.output_names == ["c.add"])
    if not more:  # without the shortcut only conv b reads the activation
        join.inputs["Y"] = ["b.relu"]
    return graph


def behind_b(done):
    """What was done for conv b alone: the random layers around it may gain a little, too."""
    return [(e.layers, e.way) for e in done if "b.w" in e.layers]


def outputs(graph, samples):
    values = {n: paddle.to_tensor(v) for n, v in (*graph.params.items(), *samples.items())}
    with paddle.no_grad():
        values = run_ops(graph.ops, values)
    return values[graph.outputs[0]].numpy()


def run(graph, mode="auto", **quant_post):
    """Equalize in place; what was done, what was inserted, the scheme."""
    scheme = build_scheme(graph, QuantPost(**quant_post), "paddle_lite")
    samples = tiny_samples()
    before = outputs(graph, samples)
    done, inserted = equalize(graph, scheme, samples, mode)
    after = outputs(graph, samples)
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    return done, inserted, scheme


def channel_sizes(graph, name):
    values = {n: paddle.to_tensor(v) for n, v in (*graph.params.items(), *tiny_samples().items())}
    return np.abs(run_ops(graph.ops, values)[name].numpy()).max((0, 2, 3))


def test_free_factors_are_folded():
    graph = network()
    done, inserted, scheme = run(graph, "fold")
    assert not inserted and behind_b(done) == [(["b.w"], "fold")]
    found = next(e for e in done if e.layers == ["b.w"])
    assert found.after < 0.1 * found.before
    sizes = channel_sizes(graph, "a.relu")
    assert sizes.max() < 2 * sizes.min()
    assert "elementwise_mul" not in {op.type for op in graph.ops}


def test_weight_codes_of_depthwise_convolutions_do_not_change():
    before, after = network(), network()
    scheme = run(after, "fold")[2]
    config = QuantPost(weight_observer="min_max")
    codes = [NetworkState.nearest(g.params, calibrate.weight_encodings(g, scheme, config),
                                  {}).codes["b.w"] for g in (before, after)]
    np.testing.assert_array_equal(*codes)


@pytest.mark.parametrize("activation", ["hard_swish", "relu6", "swish"])
def test_what_is_not_homogeneous_is_multiplied_behind(activation):
    spread = SPREAD if activation != "relu6" else np.array([6, 0.01, 6, 0.02, 1, 1], np.float32)
    graph = network(activation, spread)
    assert not behind_b(run(network(activation, spread), "fold")[0])
    done, inserted, scheme = run(graph)
    assert list(inserted.values()) == ["a.relu"] and behind_b(done) == [(["b.w"], "multiply")]
    product, = inserted
    reader = next(op for op in graph.ops if weight_name(op, graph) == "b.w")
    assert activation_name(reader) == product
    assert product in scheme.activations and "a.relu" not in scheme.activations
    multiplication = graph.ops[graph.ops.index(reader) - 1]
    assert multiplication.type == "elementwise_mul" and multiplication.input("X") == "a.relu"
    factors = graph.params[multiplication.input("Y")]
    assert 1 <= factors.min() and factors.max() <= LARGEST * (1 + 1e-6)


def test_few_bits_of_the_weights_do_not_hide_what_a_multiplication_gains():
    """They hide it before the rounding is solved, and not behind that."""
    spread = np.array([1, 12, 3, 1, 6, 1], np.float32)
    assert behind_b(run(network("hard_swish", spread), weight_bits=2)[0]) == [(["b.w"], "multiply")]


def test_other_readers_keep_the_tensor_behind_a_multiplication():
    """A shortcut to a clipped sum: it cannot carry factors."""
    graph = network(more=True)
    next(op for op in graph.ops if op.output_names == ["c.relu"]).type = "relu6"
    done, inserted, scheme = run(graph)
    assert behind_b(done) == [(["b.w"], "multiply")] and list(inserted.values()) == ["a.relu"]
    assert next(op for op in graph.ops if op.output_names == ["c.add"]).input("Y") == "a.relu"


def test_shortcut_is_folded_on_both_sides():
    graph = network(more=True)
    for name in ("c.w", "c.b"):  # as large as the shortcut, and read accordingly
        graph.params[name] *= SPREAD.reshape([-1] + [1] * (graph.params[name].ndim - 1))
    graph.params["d.w"] /= SPREAD[:, None, None]
    done, inserted, _ = run(graph, "fold")
    assert not inserted and behind_b(done) == [(["b.w", "d.w"], "fold")]


def test_dense_pairs_are_balanced():
    """Cross-layer equalization: weights of conv b that read large channels drown otherwise."""
    graph = network(depthwise=False)
    done, _, _ = run(graph, "fold", weight_bits=4)
    assert behind_b(done) == [(["b.w"], "fold")]
    assert all(e.after < e.before for e in done)


@pytest.mark.parametrize("mode", ["fold", "auto"])
def test_nothing_is_done_without_a_gain(mode):
    graph = network("hard_swish", np.ones(6, np.float32), more=True)
    before = {n: v.copy() for n, v in graph.params.items()}
    done, inserted, _ = run(graph, mode)
    assert not inserted and not behind_b(done)
    np.testing.assert_array_equal(graph.params["a.w"], before["a.w"])


def test_shared_weight_gets_no_multiplication():
    graph = network("hard_swish")
    twin = next(op for op in graph.ops if weight_name(op, graph) == "b.w")
    graph.ops.insert(graph.ops.index(twin) + 1,
                     Op(twin.type, dict(twin.inputs, Input=["a.relu"]), {"Output": ["twin"]},
                        dict(twin.attrs)))
    assert run(graph)[1] == {}


@pytest.mark.parametrize("weight_bits, depthwise", [(8, True), (4, True), (4, False)])
def test_error_is_that_of_the_rounded_layer(weight_bits, depthwise):
    """Against the layer itself, run with rounded input and weight at every position. Codes of a
    depthwise weight do not depend on the factors, so it stays float.
    """
    graph = network(depthwise=depthwise)
    scheme = build_scheme(graph, QuantPost(weight_bits=weight_bits), "paddle_lite")
    values = {n: paddle.to_tensor(v) for n, v in (*graph.params.items(),
                                                  *tiny_samples(4).items())}
    values = run_ops(graph.ops, values)
    op = next(op for op in graph.ops if weight_name(op, graph) == "b.w")
    x, exact = values["a.relu"].numpy(), values["b.conv"].numpy()
    seen = ChannelRange(1)
    seen.update(x)
    np.testing.assert_allclose(seen.size, np.abs(x).max((0, 2, 3)))
    noise = LayerNoise(op, graph, scheme.weights["b.w"], scheme.activations["a.relu"])
    noise.sample(x, exact, 0)
    factors = seen.size.max() / seen.size
    step = seen.size.max() / 127
    rounded = np.round(x * factors[:, None, None] / step) * step
    weight = graph.params["b.w"]
    # the same input channel in every weight: depthwise by the first axis, dense by the second
    divided = weight / (factors[:, None, None, None] if depthwise else factors[:, None, None])
    spec = scheme.weights["b.w"]
    if not depthwise:
        divided = fake_quantize(divided, weight_encoding(divided, spec, "mse"))
    run_ops([op], again := {"a.relu": paddle.to_tensor(rounded.astype(np.float32)),
                            "b.w": paddle.to_tensor(divided.astype(np.float32))})
    change = again["b.conv"].numpy() - exact
    change -= change.mean((0, 2, 3), keepdims=True)
    error, power = np.square(change).mean((0, 2, 3)), exact.var((0, 2, 3))
    expected = (error / power).mean() if depthwise else error.sum() / power.sum()
    assert 0.6 * expected < noise.error(factors, seen) < 1.3 * expected


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("equalized")
    graph = network("hard_swish")
    save_program(graph, str(folder / "float" / "inference"))

    def result(mode):
        return quant_post_mrecg(str(folder / "float"), batches(),
                                settings({"QuantPost": dict(weight_bits=8, equalize=mode)},
                                         preset="none", num_iters=0, granularity="block"),
                                str(folder / mode))
    return {mode: result(mode) for mode in ("none", "auto")}


def test_written_program_has_the_multiplication(job):
    verification = job["auto"].report.verification
    assert verification["max_abs_diff"] <= 1e-5 * verification["max_abs_output"]
    ops = load_graph(job["auto"].save_dir, allow_quantized=True).ops
    assert [op.type for op in ops].count("elementwise_mul") == 1


@pytest.mark.parametrize("runtime, needs", [("inference", ()),
                                            ("onnxruntime", ("onnx", "paddle2onnx"))])
def test_runtimes_compute_the_multiplication(job, runtime, needs):
    for module in needs:
        pytest.importorskip(module)
    graph = load_graph(job["auto"].save_dir, allow_quantized=True)
    found, = doctor.check(graph, {"image": tiny_samples()["image"][:2]}, [runtime]).runtimes
    assert found.status == doctor.AGREES, found


def test_onednn_computes_the_multiplication(job):
    """Its fusions know no ``axis``: constants must have all axes of the map."""
    config = paddle.inference.Config(*(f"{job['auto'].prefix}.{s}" for s in ("pdmodel",
                                                                             "pdiparams")))
    config.disable_gpu()
    config.enable_mkldnn()
    config.enable_mkldnn_int8()
    predictor = paddle.inference.create_predictor(config)
    image = tiny_samples()["image"][:2]
    predictor.get_input_handle("image").copy_from_cpu(image)
    predictor.run()
    found = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    assert np.abs(found - outputs(network("hard_swish"), {"image": image})).max() < 0.05


def test_paddle_lite_takes_the_multiplication(job):
    """Behind it the convolution is int8 on ARM; x86 computes the same."""
    lite_tools()
    graph = load_graph(job["auto"].save_dir, allow_quantized=True)
    report = doctor.check(graph, {"image": tiny_samples()["image"][:2]}, ["lite"])
    assert [row.int8 for row in report.lite_ops if row.weight == "b.w"] == [True]
    assert report.runtimes[0].status == doctor.AGREES, report.runtimes[0]


def test_what_the_multiplication_costs_is_measured_and_said(job, tmp_path):
    result = quant_post_mrecg(str(Path(job["auto"].save_dir).parent / "float"), batches(),
                              settings({"Global": dict(measure_speed=True),
                                        "QuantPost": dict(weight_bits=8, equalize="auto")},
                                       preset="none", num_iters=0, granularity="block"),
                              str(tmp_path / "timed"))
    assert "inference" in result.report.equalize_cost
    assert any(note.startswith("the inserted multiplications add") and "Paddle Inference" in note
               for note in result.report.notes)
    assert job["auto"].report.equalize_cost == job["none"].report.equalize_cost == {}


def test_a_program_without_the_multiplications_is_otherwise_the_same(job):
    program = load_graph(job["auto"].save_dir, allow_quantized=True)
    bare = without_factors(program)
    kinds = [op.type for op in program.ops]
    kinds.remove("elementwise_mul")
    assert [op.type for op in bare.ops] == kinds
    computed = {n for op in bare.ops for n in op.output_names} | set(bare.params) | {"image"}
    assert all(n in computed for op in bare.ops for n in op.input_names)
    plain = load_graph(job["none"].save_dir, allow_quantized=True)
    assert len(without_factors(plain).ops) == len(plain.ops)


def test_report_says_what_was_done(job):
    entry, = [e for e in job["auto"].report.equalized if e["way"] == "multiply"]
    assert entry["layers"] == ["b.w"] and entry["after"] < entry["before"]
    assert any("1 multiplication by constants" in note for note in job["auto"].report.notes)
    assert job["none"].report.equalized == []
    assert any("QuantPost.equalize=auto" in note for note in job["none"].report.notes)
