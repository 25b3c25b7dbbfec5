# SPDX-License-Identifier: Apache-2.0
"""Unit by unit through the network, with both streams."""
import dataclasses

import numpy as np
import paddle
import pytest

from paddle_mrecg.post.checkpoint import Checkpoint
from paddle_mrecg.config import MRECG
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.post.drop import DropMask, mix
from paddle_mrecg.post.reconstruct import UnitTrainer
from paddle_mrecg.post.unit_loss import array_loss
from paddle_mrecg.post.scheme import FAKE_QUANTIZE
from paddle_mrecg.post.unit_runner import UnitRunner
from paddle_mrecg.post.walk import UnitResult, Walker

from tests.tiny import tiny_job

QUICK = MRECG(rounding_lr=5e-2, scale_lr=1e-3, keep_prob=1.0, batch_size=16,
              round_weight_relative=3.0)


def walk(job, units, settings=QUICK, iters=25, after=None):
    """Reconstruct ``units`` in order; ``after(walker, k)`` is called behind each."""
    walker = Walker(job.network, job.state)
    for k, unit in enumerate(units):
        walker.step(unit, units[k + 1:], settings, iters)
        if after:
            after(walker, k)
    return walker


def frozen(state, names=None):
    """Codes and encodings of ``names``, comparable."""
    names = sorted(state.finished if names is None else names)
    return {n: state.codes[n].astype(np.int16).tobytes() if n in state.codes else
            str(state.activation_encodings[n].to_dict()) for n in names}


@pytest.fixture(scope="module")
def job():
    # one observer for all: what training gains does not hang on how ranges are chosen
    return tiny_job(weight_bits=2, activation_bits=4, activation_observer="mse")


def test_finished_units_never_change_again(job):
    snapshots = []
    walker = walk(job, job.units(), after=lambda w, k: snapshots.append(frozen(w.state)))
    assert [len(s) for s in snapshots] == [2, 6, 10], (
        "every weight and every activation is finished once")
    for snapshot in snapshots:
        assert frozen(walker.state, snapshot) == snapshot
    assert sum(frozen(job.state, [n])[n] != value for n, value in snapshots[-1].items()) > 5, (
        "training did something")


def test_a_unit_that_gets_worse_stays_at_nearest_rounding(job):
    wild = MRECG(rounding_lr=1e3, scale_lr=10.0, keep_prob=1.0, batch_size=4)
    walker = walk(job, job.units(), wild, iters=3)
    rejected = [r for r in walker.results if not r.kept]
    assert rejected
    for result in rejected:
        assert result.hard == result.start
        for name in result.unit.weights:
            assert np.array_equal(walker.state.codes[name], job.state.codes[name])
    assert walker.state.finished >= {n for r in rejected for n in r.unit.weights}, (
        "and no later unit may train it")


def test_reconstruction_beats_nearest_rounding_in_every_kept_unit(job):
    walker = walk(job, job.units((0, 2)), iters=100)
    result = walker.results[0]
    assert result.kept and result.hard.error < 0.8 * result.start.error


def test_no_steps_is_nearest_rounding(job):
    walker = walk(job, job.units(), iters=0)
    assert all(r.kept and r.hard == r.start == r.soft for r in walker.results)
    assert frozen(walker.state) == frozen(job.state, walker.state.finished)


def test_qdrop_trains_on_mixed_activations(job):
    """Nothing kept: as if only weights were quantized. Half kept: neither that nor all."""
    unit = job.units()[1]
    none, half, every = (trained_alphas(job, unit, dataclasses.replace(QUICK, keep_prob=p))
                         for p in (0.0, 0.5, 1.0))
    weights_only = trained_alphas(job, unit, QUICK, on_float_activations=True)
    for name, expected in weights_only.items():
        np.testing.assert_allclose(none[name], expected, atol=1e-5)
    for other in (none, every):
        assert all(np.abs(half[n] - other[n]).max() > 0.01 for n in half)


def trained_alphas(job, unit, settings, seed=0, on_float_activations=False):
    walker = Walker(job.network, job.state)
    for k, earlier in enumerate(job.units()[:unit.index]):
        walker.step(earlier, job.units()[k + 1:], settings, 0)
    problem, _ = walker._problem(unit, settings)
    if on_float_activations:
        problem.quant_stream = problem.float_stream
    if settings.keep_prob == 1.0:
        problem.float_stream = None  # reading it fails
    trainer = UnitTrainer(problem, walker.state, settings, job.network.graph.params, seed)
    if on_float_activations:
        trainer.quantizers = {n: LeavesFloat() for n in trainer.quantizers}
    trainer.train(10)
    return trainer.alphas()


class LeavesFloat:
    """An activation quantizer that does not quantize."""

    def __call__(self, x, mask, float_x):
        return x

    def parameters(self):
        return []


def test_without_dropping_the_float_stream_is_not_read(job):
    assert trained_alphas(job, job.units()[1], QUICK)


def test_dropped_elements_come_from_the_float_stream():
    """With keep_prob 0 nothing is quantized: a unit then sees exactly the float network's input."""
    job = tiny_job(weight_bits=2, activation_bits=2)
    unit = job.units()[1]
    runner = UnitRunner(job.network.graph, unit.ops(job.network.graph), job.network.scheme,
                        job.network.constants)
    rng = np.random.default_rng(0)
    shape = (4,) + tuple(job.network.graph.tensors["a.relu"].shape[1:])
    float_x, quant_x = (paddle.to_tensor(rng.standard_normal(shape).astype(np.float32))
                        for _ in range(2))
    quantizers = job.state.quantizers(runner.activations)
    weights = {n: runner.fixed[n] for n in runner.weights}
    dropped = runner.run_quantized({"a.relu": quant_x}, unit.outputs, weights, quantizers,
                                   DropMask(0.0, 0), float_feed={"a.relu": float_x})
    expected = runner.run({"a.relu": float_x}, unit.outputs)
    assert np.allclose(dropped["c.relu"].numpy(), expected["c.relu"].numpy(), atol=1e-6)


def test_shortcut_and_convolution_see_the_same_elements_quantized():
    """Where the quantizer changes nothing, both read one mixed tensor, so that the unit gives what
    the float network gives for it."""
    job = tiny_job(target="paddle_lite", weight_bits=8, activation_bits=8)
    unit = job.units()[1]
    runner = UnitRunner(job.network.graph, unit.ops(job.network.graph), job.network.scheme,
                        job.network.constants)
    assert "a.relu" in runner.direct_inputs and "a.relu" in runner.activations
    shape = (4,) + tuple(job.network.graph.tensors["a.relu"].shape[1:])
    float_x, quant_x = (paddle.to_tensor(np.full(shape, v, np.float32)) for v in (1.0, -1.0))
    read = []
    quantizers = {n: lambda x, mask, float_x: read.append((mask, float_x)) or
                  (x if mask is None or float_x is None else mix(x, float_x, mask))
                  for n in runner.activations}
    weights = {n: runner.fixed[n] for n in runner.weights}
    result = runner.run_quantized({"a.relu": quant_x}, unit.outputs, weights, quantizers,
                                  DropMask(0.5, 3), float_feed={"a.relu": float_x})
    mixed = mix(quant_x, float_x, next(mask for mask, other in read if other is not None))
    assert 0.2 < float(mixed.mean() + 1) / 2 < 0.8
    expected = runner.run({"a.relu": mixed}, unit.outputs)
    assert np.allclose(result["c.relu"].numpy(), expected["c.relu"].numpy(), atol=1e-5)


def test_inner_losses_of_joined_units_are_those_of_the_inner_tensors(job):
    units = job.units((0, 1), (2, 2))
    walker = walk(job, units)
    (module, nearest, hard), = walker.results[0].inner
    assert module.index == 0 and module.outputs == ["a.relu"]
    for state, loss in ((job.state, nearest), (walker.state, hard)):
        target, value = float_tensor(job, "a.relu"), quantized_tensor(job, state, "a.relu")
        assert loss.error == pytest.approx(array_loss(value, target).error, rel=1e-6)
        assert loss.power == pytest.approx(array_loss(value, target).power, rel=1e-6)
    assert nearest != hard and not walker.results[1].inner


def float_tensor(job, name):
    network = job.network
    runner = UnitRunner(network.graph, network.reached, network.scheme, network.constants)
    return runner.numpy(runner.run, [name])(network.samples)[name]


def quantized_tensor(job, state, name):
    network = job.network
    runner = UnitRunner(network.graph, network.reached, network.scheme, network.constants)
    return runner.numpy(runner.run_quantized, [name], weights=state.weights(runner.weights),
                        quantizers=state.quantizers(runner.activations))(network.samples)[name]


@pytest.mark.parametrize("target", ["simulation", "paddle_lite"])
def test_streams_are_those_of_the_whole_networks_and_hold_only_what_is_needed(target):
    job = tiny_job(target=target, weight_bits=2, activation_bits=8)
    units, seen = job.units(), []

    def look(walker, k):
        # in this network no later unit reads further back
        needed = set(units[k + 1].inputs) if k < 2 else set()
        assert set(walker.float_stream.values) == set(walker.quant_stream.values) == needed
        for name in needed:
            assert np.array_equal(walker.float_stream.values[name], float_tensor(job, name))
            quantized = quantized_tensor(job, walker.state, name)
            assert np.array_equal(walker.quant_stream.values[name], quantized)
            seen.append(np.any(quantized != walker.float_stream.values[name]))
    walk(job, units, after=look)
    assert seen == [True, True]


def test_losses_are_those_of_the_whole_network(job):
    walker = walk(job, job.units())
    expected = array_loss(quantized_tensor(job, walker.state, "fc"), float_tensor(job, "fc"))
    assert walker.results[-1].hard.error == pytest.approx(expected.error, rel=1e-6)


def test_replay_gives_the_same_streams_as_the_step_it_repeats(job, tmp_path):
    units = job.units((0, 0), (1, 2))
    checkpoint = Checkpoint(str(tmp_path), "job")
    first = Walker(job.network, job.state)
    result = first.step(units[0], units[1:], QUICK, 25)
    checkpoint.save("0", first.state, sorted(first.state.finished), result.to_dict(), result.alphas)
    again = Walker(job.network, job.state)
    state, summary, alphas = checkpoint.load("0", again.state)
    repeated = again.replay(units[1:], state, UnitResult.from_dict(units[0], summary, alphas))
    for name in first.quant_stream.values:
        assert np.array_equal(first.quant_stream.values[name], again.quant_stream.values[name])
        assert np.array_equal(first.float_stream.values[name], again.float_stream.values[name])
    assert repeated.restored and repeated.hard == result.hard and repeated.kept == result.kept
    first.step(units[1], [], QUICK, 25), again.step(units[1], [], QUICK, 25)
    assert frozen(first.state) == frozen(again.state)


@pytest.mark.parametrize("keep_prob", [1.0, 0.5])
def test_same_seed_same_codes_other_seed_other_codes(keep_prob):
    settings = MRECG(**dict(vars(QUICK), keep_prob=keep_prob))
    states = []
    for seed in (0, 0, 1):
        job = tiny_job(weight_bits=2, activation_bits=4, seed=seed)
        states.append(frozen(walk(job, job.units(), settings).state))
    assert states[0] == states[1] != states[2]


def test_the_order_of_masks_does_not_depend_on_hashes(job):
    runner = UnitRunner(job.network.graph, job.network.reached, job.network.scheme,
                        job.network.constants)
    in_order = dict.fromkeys(n for op in runner.quantized_ops if op.type != FAKE_QUANTIZE
                             for n in op.input_names)
    assert list(runner.direct_inputs) == list(in_order), (
        "a set would give other bytes in every process")


def shared_weight_graph(channels=4):
    """x -> fc w -> relu -> fc w (the same parameter) -> relu -> fc v."""
    rng = np.random.default_rng(0)
    graph = Graph([], {}, {}, ["x"], ["out"])
    for name in "wv":
        graph.params[name] = rng.standard_normal((channels, channels)).astype(np.float32)
    chain = ["x", "h1", "r1", "h2", "r2", "out"]
    for source, out, weight in zip(chain, chain[1:], ("w", None, "w", None, "v")):
        if weight:
            graph.ops.append(Op("matmul_v2", {"X": [source], "Y": [weight]}, {"Out": [out]},
                                dict(trans_x=False, trans_y=False)))
        else:
            graph.ops.append(Op("relu", {"X": [source]}, {"Out": [out]}))
    graph.tensors = {n: TensorInfo(n, (-1, channels)) for n in chain}
    graph.tensors.update({n: TensorInfo(n, v.shape) for n, v in graph.params.items()})
    return graph, {"x": rng.standard_normal((64, channels)).astype(np.float32)}


@pytest.mark.parametrize("scale_lr", [0.0, 1e-3])
def test_a_parameter_read_twice_is_trained_by_its_first_unit_only(scale_lr):
    graph, samples = shared_weight_graph()
    job = tiny_job(graph, samples, granularity="layer", weight_bits=2, activation_bits=4,
                   first_layer_weight_bits=3)
    assert [m.weights for m in job.modules] == [["w"], ["w"], ["v"]]
    codes = []
    settings = MRECG(**dict(vars(QUICK), scale_lr=scale_lr))
    walker = walk(job, job.units(), settings,
                  after=lambda w, k: codes.append(w.state.codes["w"].copy()))
    assert all(np.array_equal(c, codes[0]) for c in codes)
    assert [r.iterations for r in walker.results] == [25, 0, 25] and walker.results[1].kept


def test_a_unit_whose_error_is_small_is_not_trained(job):
    start = walk(job, job.units(), iters=0).results
    bound = sorted(r.start.relative for r in start)[0] * 1.001
    walker = walk(job, job.units(), dataclasses.replace(QUICK, train_above=bound))
    skipped = [r for r in walker.results if r.skipped]
    assert skipped and len(skipped) < len(walker.results)
    for result in walker.results:
        assert result.skipped == (result.start.relative <= bound) == (not result.iterations)
        assert not result.skipped or result.hard == result.start
    again = UnitResult.from_dict(skipped[0].unit, skipped[0].to_dict(), {})
    assert again.skipped and again.hard == skipped[0].hard
