# SPDX-License-Identifier: Apache-2.0
"""Layers behind a trained unit are solved again, for the inputs that they get by now."""
import dataclasses

import numpy as np
import pytest

from paddle_mrecg.config import MRECG
from paddle_mrecg.post import walk
from paddle_mrecg.post.layer_biases import biases_of
from paddle_mrecg.post.solved_rounding import LayerWalk, solved_again
from paddle_mrecg.post.walk import Walker
from tests.tiny import tiny_job

NOTHING, TRAIN = MRECG(), MRECG(rounding_lr=5e-2, keep_prob=1.0, batch_size=16, train_above=0.0)


@pytest.fixture(scope="module")
def job():
    """The tiny network at W2A4, solved; ``layers`` are its single layers."""
    made = tiny_job(weight_bits=2, activation_bits=4)
    layers = tiny_job(weight_bits=2, activation_bits=4, granularity="layer").modules
    made.network.biases = biases_of(made.network.graph, made.network.scheme.is_quantized)
    solved = LayerWalk(made.network, made.state).run(layers)
    made = dataclasses.replace(made, state=solved)
    made.layers = layers
    return made


def test_behind_an_unchanged_prefix_codes_and_biases_come_out_the_same(job):
    walker, units = Walker(job.network, job.state, job.layers), job.units()
    for k, unit in enumerate(units):
        again = solved_again(walker, job.layers, unit)
        for name in unit.weights:
            assert np.array_equal(again.codes[name], job.state.codes[name]), name
        for name, bias in job.state.biases.items():
            np.testing.assert_allclose(again.biases[name], bias, atol=1e-5, err_msg=name)
        walker.step(unit, units[k + 1:], NOTHING, 0)


def test_a_unit_starts_where_its_layers_fit_the_inputs_that_training_left(job):
    starts = {}
    for layers in ((), job.layers):
        walker, units = Walker(job.network, job.state, layers), job.units()
        walker.step(units[0], units[1:], TRAIN, 0)
        walker.step(units[1], units[2:], TRAIN, 25)
        assert walker.results[1].kept
        stream = walker.quant_stream.values["c.relu"]
        stream[:] = 2.0 * stream[:]  # as if the trained unit's output had moved that much
        starts[bool(layers)] = walker.step(units[2], [], TRAIN, 0).start.error
    assert starts[True] < 0.5 * starts[False]


def test_nothing_is_solved_again_where_nothing_was_trained(job, monkeypatch):
    monkeypatch.setattr(walk, "solved_again", lambda *_: pytest.fail("not wanted"))
    walker, units = Walker(job.network, job.state, job.layers), job.units()
    for k, unit in enumerate(units):
        walker.step(unit, units[k + 1:], NOTHING, 0)


def test_finished_weights_keep_their_codes(job):
    walker, units = Walker(job.network, job.state, job.layers), job.units()
    walker.step(units[0], units[1:], TRAIN, 0)
    walker.step(units[1], units[2:], TRAIN, 25)
    before = {n: walker.state.codes[n].copy() for u in units[:2] for n in u.weights}
    walker.step(units[2], [], TRAIN, 0)
    assert all(np.array_equal(walker.state.codes[n], c) for n, c in before.items())


def test_units_that_single_layers_do_not_tile_are_left_as_they_are(job):
    walker, unit = Walker(job.network, job.state, job.layers), job.units()[0]
    assert solved_again(walker, job.layers[1:], unit) is None


def test_without_solved_roundings_and_biases_there_is_nothing_to_do():
    plain = tiny_job(weight_bits=2)
    layers = tiny_job(weight_bits=2, granularity="layer").modules
    assert solved_again(Walker(plain.network, plain.state), layers, plain.units()[0]) is None
