# SPDX-License-Identifier: Apache-2.0
"""The grids of all weights and activations."""
import numpy as np
import pytest

from paddle_mrecg.post import calibrate
from paddle_mrecg.config import QuantPost
from paddle_mrecg.errors import DataError, ModelError
from paddle_mrecg.grids.observers import ActivationObserver, weight_encoding
from paddle_mrecg.post.unit_loss import MEASURE_CHUNK
from paddle_mrecg.post.scheme import Scheme, build_scheme
from paddle_mrecg.post.unit_runner import UnitRunner

from tests.tiny import tiny_graph, tiny_samples


def values_of(graph, samples, names):
    """The float network's tensors for all samples."""
    runner = UnitRunner(graph, graph.ops, Scheme({}, {}, False), {})
    return runner.numpy(runner.run, names)(samples)


def activations(config, target="simulation", samples=None, graph=None, progress=None):
    graph = graph or tiny_graph()
    scheme = build_scheme(graph, config, target)
    return calibrate.activation_encodings(graph, scheme, samples or tiny_samples(), config,
                                          progress)


@pytest.mark.parametrize("target", ["paddle_lite", "simulation"])
@pytest.mark.parametrize("observer", ["min_max", "mse", "percentile", "kl"])
def test_activation_grids_are_those_of_the_tensors(target, observer):
    config = QuantPost(activation_bits=8 if target == "paddle_lite" else 4,
                       activation_observer=observer)
    scheme = build_scheme(tiny_graph(), config, target)
    found = activations(config, target)
    values = dict(tiny_samples(),
                  **values_of(tiny_graph(), tiny_samples(), ["a.relu", "b.relu", "c.relu", "flat"]))
    assert set(found) == set(values) == set(scheme.activations)
    for name, encoding in found.items():
        spec = scheme.activations[name]
        direct = ActivationObserver(spec.bits, spec.symmetric, observer,
                                    allow_unsigned=spec.unsigned_allowed)
        for start in range(0, len(values[name]), MEASURE_CHUNK):
            direct.update(values[name][start:start + MEASURE_CHUNK])
        assert encoding.to_dict() == direct.encoding().to_dict()


def depthwise_graph(largest):
    """``b`` is depthwise, and its first input channel is ``largest`` times as large as it was."""
    graph = tiny_graph()
    graph.params["b.w"] = graph.params["b.w"][:, :1].copy()
    next(op for op in graph.ops if "b.w" in op.input_names).attrs["groups"] = 6
    for name in ("a.w", "a.b"):
        graph.params[name][0] *= largest
    return graph


@pytest.mark.parametrize("largest, bits, names", [(1, 8, []), (1000, 8, ["b.w"]), (1000, 4, [])])
def test_inputs_of_depthwise_convolutions_that_one_step_cannot_serve_are_found(largest, bits,
                                                                               names):
    graph, config = depthwise_graph(largest), QuantPost(activation_bits=bits)
    scheme = build_scheme(graph, config, "paddle_lite")
    samples = tiny_samples()
    found = calibrate.coarse_inputs(graph, scheme, samples,
                                    calibrate.activation_encodings(graph, scheme, samples, config))
    assert list(found) == names and all(0.5 < share <= 1 for share in found.values())
    if names:  # the cure that is advised
        build_scheme(graph, QuantPost(skip=names), "paddle_lite")


def test_samples_beyond_one_batch_count_too():
    samples = tiny_samples(MEASURE_CHUNK + 1)
    samples["image"][-1] *= 100
    config = QuantPost(activation_observer="min_max")
    steps = []
    found = activations(config, samples=samples, progress=lambda: steps.append(1))
    assert found["image"].range[1] >= 0.9 * samples["image"].max() and len(steps) == 2


@pytest.mark.parametrize("count", [5, MEASURE_CHUNK + 3])
def test_only_so_many_samples_are_observed(count):
    samples, config = tiny_samples(100), QuantPost(num_observe=count, activation_observer="min_max")
    samples["image"][count:] *= 100
    few = activations(QuantPost(activation_observer="min_max"),
                      samples={"image": samples["image"][:count]})
    assert {n: e.to_dict() for n, e in activations(config, samples=samples).items()} == {
        n: e.to_dict() for n, e in few.items()}


@pytest.mark.parametrize("observer", ["min_max", "mse", "percentile", "kl"])
def test_weight_grids_are_those_of_the_parameters(observer):
    graph, config = (tiny_graph(),
                     QuantPost(weight_bits=3, weight_observer=observer, percentile=0.99))
    scheme = build_scheme(graph, config, "paddle_lite")
    for name, encoding in calibrate.weight_encodings(graph, scheme, config).items():
        direct = weight_encoding(graph.params[name], scheme.weights[name], observer, 0.99)
        assert (
            encoding.to_dict() == direct.to_dict()
            and encoding.scale.shape == graph.params[name].shape[:1]
            or name == "fc.w"
            and encoding.scale.shape == graph.params[name].shape[1:]
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(bad):
    graph = tiny_graph()
    graph.params["c.w"][0, 0, 0, 0] = bad
    config = QuantPost()
    with pytest.raises(ModelError, match="weight 'c.w'.*NaN or Inf"):
        calibrate.weight_encodings(graph, build_scheme(graph, config, "paddle_lite"), config)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_inputs_that_are_not_finite_are_named(bad):
    samples = tiny_samples()
    samples["image"][3, 0, 0, 0] = bad
    with pytest.raises(DataError, match="activation 'image'.*NaN or Inf"):
        activations(QuantPost(), samples=samples)


@pytest.mark.parametrize("observer", ["mse", "min_max", "output_error"])
def test_inputs_whose_squares_overflow_are_named(observer):
    samples = tiny_samples()
    samples["image"][20] *= np.float32(1e30)
    with pytest.raises(DataError, match=r"activation 'image': its values reach \d.*e\+30"):
        activations(QuantPost(activation_observer=observer), samples=samples)


def test_an_overflow_inside_the_network_is_named():
    graph = tiny_graph()
    graph.params["b.w"] *= 1e38
    with pytest.raises(DataError, match="activation 'b.relu'"):
        activations(QuantPost(), graph=graph, samples={"image": 100 * tiny_samples()["image"]})
