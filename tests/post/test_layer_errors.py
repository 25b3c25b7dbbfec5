# SPDX-License-Identifier: Apache-2.0
"""The error of a layer is its own, and a histogram counts where values lie on their grid."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.graph.ops import run_ops
from paddle_mrecg.grids.affine import Encoding, QuantSpec
from paddle_mrecg.post.layer_errors import histogram, layer_errors
from paddle_mrecg.report.layers import ranked

from tests.tiny import tiny_job


@pytest.fixture
def tiny():
    job = tiny_job(target="paddle_lite", weight_bits=3, first_layer_weight_bits=3)
    return job.network, job.state


def test_every_layer_is_measured_and_the_worst_are_drawn(tiny):
    network, state = tiny
    layers = layer_errors(network, state, samples=2, drawn=2)
    assert [layer.name for layer in layers] == ["a.w", "b.w", "c.w", "d.w", "fc.w"]
    assert all(0 < layer.error < 1 for layer in layers)
    drawn = [layer.name for layer in layers if layer.weights]
    assert sorted(drawn) == sorted(layer.name for layer in ranked(layers)[:2])


def test_the_error_is_that_of_the_damaged_layer_alone(tiny):
    network, state = tiny
    before = {layer.name: layer for layer in layer_errors(network, state)}
    state.codes["b.w"] = np.clip(state.codes["b.w"] + 2, -4, 3)
    after = {layer.name: layer for layer in layer_errors(network, state)}
    assert after["b.w"].error > 1.5 * before["b.w"].error
    assert after["b.w"].activation_error == before["b.w"].activation_error
    for name in ("a.w", "c.w", "d.w", "fc.w"):
        assert after[name].error == before[name].error
    assert after["d.w"].arriving_error > before["d.w"].arriving_error
    assert ranked(list(after.values()))[0].name == "b.w"


def test_the_error_is_the_root_mean_square_over_that_of_the_output(tiny):
    network, state = tiny
    layer = layer_errors(network, state, samples=3)[-1]
    exact = network.graph.params["fc.w"]
    values = {n: paddle.to_tensor(p) for n, p in network.graph.params.items()}
    values["image"] = paddle.to_tensor(network.samples["image"][:3])
    flat = run_ops(network.graph.ops, values)["flat"].numpy().astype(np.float64)
    output, changed = flat @ exact, flat @ state.weight("fc.w").astype(np.float64)
    spread = np.sqrt(np.mean(np.square(output - output.mean(0))))
    assert layer.weight_error == pytest.approx(
        np.sqrt(np.mean(np.square(changed - output))) / spread, rel=1e-4)


def test_a_constant_difference_does_not_count_where_biases_are_corrected(tiny):
    network, state = tiny
    network.biases = {"fc.w": "fc.b"}
    centred = layer_errors(network, state)[-1].error
    network.biases = {}
    assert centred < layer_errors(network, state)[-1].error


def test_histogram_of_a_grid_with_one_scale():
    encoding = Encoding(QuantSpec(2, signed=True, symmetric=True), 0.5, 0)  # -1, -0.5, 0, 0.5
    found = histogram([np.array([-1.0, -1.2, -7.0, 0.1, 9.0]), np.array([0.4])], encoding)
    assert (found.grid_low, found.grid_high, found.levels) == (-1.0, 0.5, 4)
    assert found.used == 3 and found.outside == pytest.approx(2 / 6)
    assert sum(found.counts) == 6 and found.counts[-1] == 1 and found.counts[0] == 1
    assert (found.low, found.high) == (-1.5, 1.0)


def test_histogram_of_one_scale_per_channel_is_in_steps():
    encoding = Encoding(QuantSpec(3, signed=True, symmetric=True, axis=0), [0.1, 10.0], [0, 0])
    found = histogram([np.array([[0.1, 0.3], [10.0, 30.0]])], encoding)
    middles = np.linspace(found.low, found.high, len(found.counts) + 1)
    places = [m for m, count in zip(middles, found.counts) if count]
    assert sum(found.counts) == 4 and found.used == 2
    assert np.allclose(places, [1, 3], atol=(found.high - found.low) / len(found.counts))


def test_no_grid_no_histogram():
    assert histogram([np.zeros(3)], None) is None
