# SPDX-License-Identifier: Apache-2.0
"""The range of an activation by the error in the outputs of the layers that read it."""
import numpy as np
import pytest

from paddle_mrecg.config import QuantPost
from paddle_mrecg.errors import DataError
from paddle_mrecg.graph.graph import Op
from paddle_mrecg.grids.affine import fake_quantize
from paddle_mrecg.grids.observers import ActivationObserver
from paddle_mrecg.post import calibrate, choose_ranges
from paddle_mrecg.post.choose_ranges import candidates, chosen_ranges
from paddle_mrecg.post.scheme import Scheme, build_scheme
from paddle_mrecg.post.unit_loss import MEASURE_CHUNK
from paddle_mrecg.post.unit_runner import UnitRunner

from tests.tiny import graph_of, tiny_graph, tiny_samples

CONV = dict(strides=[1, 1], paddings=[0, 0], dilations=[1, 1], groups=1, data_format="NCHW",
            padding_algorithm="EXPLICIT")
# op type, attributes, shape of a sample, shape of the weight
READERS = {
    "conv2d": ("conv2d", {}, (6, 5, 5), (4, 6, 3, 3)),
    "more columns than rows": ("conv2d", {}, (6, 5, 5), (40, 6, 1, 1)),
    "depthwise_conv2d": ("depthwise_conv2d", dict(groups=6), (6, 5, 5), (6, 1, 3, 3)),
    "conv2d_transpose": ("conv2d_transpose", dict(strides=[2, 2]), (6, 5, 5), (6, 4, 2, 2)),
    "matmul_v2": ("matmul_v2", dict(trans_x=False, trans_y=False), (25, 6), (6, 4)),
    "matmul with alpha": ("matmul", dict(alpha=0.5), (25, 6), (6, 4)),
}


def network(kinds, samples, weights):
    """One layer of each kind, all reading ``x``."""
    ops, params = [], {}
    for k, kind in enumerate(kinds):
        type_, attrs, _, _ = READERS[kind]
        slots = ("Input", "Filter", "Output") if "conv" in type_ else ("X", "Y", "Out")
        attrs = {**CONV, **attrs} if "conv" in type_ else attrs
        params[f"w{k}"] = weights[k]
        ops.append(Op(type_, {slots[0]: ["x"], slots[1]: [f"w{k}"]}, {slots[2]: [f"y{k}"]}, attrs))
    return graph_of(ops, params, {"x": samples}, [f"y{k}" for k in range(len(kinds))])


def inputs(shape, large=30.0):
    """Uniform values of 24 samples; channel 2 of every other sample is ``large`` times larger."""
    x = np.random.default_rng(0).uniform(-1, 1, (24,) + shape).astype(np.float32)
    np.moveaxis(x, 1 if len(shape) == 3 else -1, 0)[2, 1::2] *= large
    return x


def weight_of(kind, ignored, seed=1):
    """Random; what reads channel ``ignored`` of the input is tiny."""
    type_, _, _, shape = READERS[kind]
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    along = 1 if type_ == "conv2d" else 0
    np.moveaxis(weight, along, 0)[ignored] *= 1e-3
    return weight


def ranges(graph, samples, bits=4, target="simulation", **settings):
    config = QuantPost(activation_bits=bits, first_layer_activation_bits=bits,
                       last_layer_activation_bits=bits, activation_symmetric=True, **settings)
    scheme = build_scheme(graph, config, target)
    return {n: float(e.range[1]) for n, e in
            calibrate.activation_encodings(graph, scheme, {"x": samples}, config).items()}


@pytest.mark.parametrize("kind", READERS)
def test_a_range_that_the_layer_ignores_is_given_up(kind):
    """The mean squared error of the activation wants channel 2 kept; the layer hardly reads it."""
    x = inputs(READERS[kind][2])
    ignoring, reading = (network([kind], x, [weight_of(kind, c)]) for c in (2, 3))
    assert ranges(ignoring, x)["x"] < 0.4 * ranges(reading, x)["x"]
    plain = [ranges(g, x, activation_observer="mse")["x"] for g in (ignoring, reading)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize("kind", READERS)
def test_the_choice_is_the_least_error_of_the_outputs(kind, monkeypatch):
    """All positions looked at: the candidate is the best that running the op itself finds."""
    x = inputs(READERS[kind][2])
    graph = network([kind], x, [weight_of(kind, 1)])
    config = QuantPost(activation_bits=4, first_layer_activation_bits=4)
    scheme = build_scheme(graph, config, "simulation")
    observer = ActivationObserver(4, False)
    observer.update(x)
    errors = []

    def relative(self):
        errors.append(plain(self))
        return errors[-1]
    plain = choose_ranges._Error.relative
    monkeypatch.setattr(choose_ranges._Error, "relative", relative)
    monkeypatch.setattr(choose_ranges, "SCORED_POSITIONS", 10000)
    found = chosen_ranges(graph, scheme, {"x": x}, {"x": observer}, len(x))["x"]
    grids = candidates(observer)
    exact = outputs(graph, x)
    expected = [np.square(outputs(graph, fake_quantize(x, g)) - exact).sum() for g in
                grids.values()]
    power = np.square(exact - exact.mean(axes(exact), keepdims=True)).sum()
    np.testing.assert_allclose(errors[0], np.array(expected) / power, rtol=2e-3)
    assert found.to_dict() == list(grids.values())[int(np.argmin(expected))].to_dict()


def axes(y):
    return (0, 2, 3) if y.ndim == 4 else tuple(range(y.ndim - 1))


def outputs(graph, x):
    runner = UnitRunner(graph, graph.ops, Scheme({}, {}, False), {})
    return runner.numpy(runner.run, graph.outputs)({"x": x})["y0"].astype(np.float64)


def test_readers_are_summed():
    x, kinds = inputs((6, 5, 5), large=8.0), ("conv2d", "depthwise_conv2d")
    ignoring = [weight_of(k, 2) for k in kinds]
    narrow = ranges(network(kinds, x, ignoring), x)["x"]
    assert narrow < 2 and ranges(network(kinds[:1], x, ignoring), x)["x"] < 2
    reads_it = weight_of(kinds[1], 3)
    assert ranges(network(kinds, x, [ignoring[0], reads_it]), x)["x"] > 2 * narrow


@pytest.mark.parametrize("shared", [False, True])
def test_a_shortcut_counts_where_it_reads_the_quantized_activation(shared):
    x, weight = inputs((6, 5, 5), large=8.0), weight_of("conv2d", 2)
    alone = network(["conv2d"], x, [weight])
    add = Op("elementwise_add", {"X": ["x"], "Y": ["x"]}, {"Out": ["twice"]}, {"axis": -1})
    graph = network(["conv2d"], x, [weight])
    graph.ops.append(add)
    narrow, found = ranges(alone, x)["x"], ranges(graph, x, quantize_shared=shared)["x"]
    assert found > 2 * narrow if shared else found == narrow


def test_every_activation_of_a_network_gets_one_of_its_candidates():
    graph, samples = tiny_graph(), tiny_samples()
    for target in ("simulation", "paddle_lite"):
        config = QuantPost()
        scheme = build_scheme(graph, config, target)
        found = calibrate.activation_encodings(graph, scheme, samples, config)
        assert set(found) == set(scheme.activations)
        again = calibrate.activation_encodings(graph, scheme, samples, config)
        assert ({n: e.to_dict() for n, e in found.items()}
                == {n: e.to_dict() for n, e in again.items()}), "the same for the same seed"


def test_progress_counts_both_passes():
    steps, graph, config = [], tiny_graph(), QuantPost(num_observe=40)
    calibrate.activation_encodings(graph, build_scheme(graph, config, "simulation"),
                                   tiny_samples(), config, lambda: steps.append(1))
    assert len(steps) == calibrate.calibration_steps(config, 48) == 2 * -(-40 // MEASURE_CHUNK)


def test_samples_that_are_scored_lie_apart(monkeypatch):
    """The last sample counts although fewer are scored than observed."""
    monkeypatch.setattr(choose_ranges, "SCORED", 2)
    x = inputs((6, 5, 5))
    x[1:-1] = np.clip(x[1:-1], -1, 1)
    graph = network(["conv2d"], x, [weight_of("conv2d", 3)])
    assert ranges(graph, x)["x"] > 12


def test_equal_candidates_are_tried_once():
    observer = ActivationObserver(8, True)
    observer.update(np.zeros(4, np.float32))
    assert list(candidates(observer)) == ["mse"]
    observer.update(np.random.default_rng(0).standard_normal(1000).astype(np.float32))
    grids = candidates(observer)
    assert {"min_max", "0.5 of min_max"} <= set(grids)
    assert len({float(g.scale) for g in grids.values()}) == len(grids)
    with pytest.raises(DataError, match="no batch"):
        candidates(ActivationObserver(8, True))


def test_layers_whose_output_never_varies_do_not_decide():
    """A constant output has no power of variation: its size takes that place."""
    x = np.ones((24, 6, 5, 5), np.float32)
    graph = network(["conv2d"], x, [weight_of("conv2d", 2)])
    assert ranges(graph, x)["x"] == pytest.approx(1.0, rel=0.2)
