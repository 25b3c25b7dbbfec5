# SPDX-License-Identifier: Apache-2.0
"""Solved roundings and corrected biases of a whole network, in front of any reconstruction."""
import numpy as np
import pytest

from paddle_mrecg.config import MRECG
from paddle_mrecg.config.io import load_config
from paddle_mrecg.errors import DataError
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.partition import Unit
from paddle_mrecg.post import walk, write
from paddle_mrecg.post.layer_biases import add_missing_biases, bias_of, biases_of
from paddle_mrecg.post.job import quant_post_mrecg
from paddle_mrecg.post.prepare import prepare
from paddle_mrecg.post.solved_rounding import LayerWalk, rounded_layers
from paddle_mrecg.post.unit_runner import UnitRunner
from paddle_mrecg.post.walk import Walker
from tests.jobs import batches, content, model_dir, settings  # noqa: F401
from tests.tiny import tiny_job

ALONE = settings(preset="none", num_iters=0, granularity="block")


@pytest.fixture(scope="module")
def solved(model_dir, tmp_path_factory):
    """A job without reconstruction; its evaluator gives the output's error relative to the float
    program, which is scored first.
    """
    seen = []

    def evaluate(predict):
        outputs = np.concatenate([predict(b)[0] for b in batches()])
        seen.append(outputs)
        return {"error": float(np.square(outputs - seen[0]).sum() / np.square(seen[0]).sum())}
    folder = str(tmp_path_factory.mktemp("solved") / "out")
    return quant_post_mrecg(model_dir, batches(), ALONE, folder, evaluate)


def test_each_step_brings_the_output_closer(solved):
    errors = {s: m["error"] for s, m in solved.report.metrics.items()}
    assert errors["float"] < 1e-6
    assert errors["quantized"] < 0.6 * errors["nearest_bias"] < 0.6 * errors["nearest"]


def test_nothing_trained_and_the_program_computes_what_was_simulated(solved):
    assert all(u.iterations == 0 for u in solved.report.units)
    verification = solved.report.verification
    assert verification["max_abs_diff"] <= 1e-5 * verification["max_abs_output"]


def test_same_seed_same_bytes(solved, model_dir, tmp_path):
    again = quant_post_mrecg(model_dir, batches(), ALONE, str(tmp_path / "out"))
    assert content(again.save_dir) == content(solved.save_dir)


def test_a_layer_that_cannot_be_solved_is_named():
    job = tiny_job(granularity="layer")
    job.network.samples["image"][5, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match="weight 'a.w': .* NaN or Inf"):
        LayerWalk(job.network, job.state).run(job.modules)


def test_the_walk_ends_with_the_error_of_the_last_layers_output():
    job = tiny_job(granularity="layer")
    done = LayerWalk(job.network, job.state)
    done.run(job.modules)
    runner = UnitRunner(job.network.graph, job.network.graph.ops[:job.modules[-1].stop],
                        job.network.scheme, job.network.constants)
    (name,) = job.modules[-1].outputs
    wanted = runner.numpy(runner.run, [name])(job.network.samples)[name]
    found = runner.numpy(runner.run_quantized, [name], weights=done.state.parameters(runner),
                         quantizers=done.state.quantizers(runner.activations)
                         )(job.network.samples)[name]
    error = np.square(found - wanted).sum() / np.square(wanted - wanted.mean()).sum()
    assert done.output_error == pytest.approx(error, rel=1e-4) and error > 0


@pytest.mark.parametrize("granularity", ["loss_peaks", "layer"])
def test_nothing_is_trained_where_the_output_is_close_enough(granularity, solved, model_dir,
                                                             tmp_path):
    error = rounded_layers(prepare(model_dir, batches(), load_config(ALONE)), "solve").output_error
    jobs = [quant_post_mrecg(model_dir, batches(),
                             settings(granularity=granularity, train_network_above=bound),
                             str(tmp_path / str(k)))
            for k, bound in enumerate((1.01 * error, 0.99 * error))]
    close, far = ([u.iterations for u in job.report.units] for job in jobs)
    assert not any(close) and any(far)
    assert content(jobs[0].save_dir) == content(solved.save_dir)
    assert jobs[0].report.output_error == pytest.approx(error, rel=1e-5)
    said = [any(note.startswith("nothing was trained: the solve left") for note in job.report.notes)
            for job in jobs]
    assert said == [True, False] and not jobs[0].report.first_pass


def test_an_untrained_walk_ends_with_the_error_that_the_solve_ended_with():
    layers = tiny_job(granularity="layer")
    solve = LayerWalk(layers.network, layers.state)
    solve.run(layers.modules)
    job = tiny_job(granularity="block")
    walker = Walker(layers.network, solve.state)
    units = [Unit.single(m) for m in job.modules]
    for k, unit in enumerate(units):
        walker.step(unit, units[k + 1:], MRECG(), iters=0)
    assert walker.output_error == pytest.approx(solve.output_error, rel=1e-5)


def test_training_that_takes_the_output_farther_is_taken_back(solved, model_dir, tmp_path,
                                                              monkeypatch):
    jobs = []
    for error in (0.0, 1e9):  # of the trained network, whatever its units gained
        monkeypatch.setattr(walk, "end_error", lambda *_: error)
        jobs.append(quant_post_mrecg(model_dir, batches(), settings(granularity="block"),
                                     str(tmp_path / str(error))))
    kept, back = jobs
    assert all(any(u.iterations for u in job.report.units) for job in jobs)
    assert content(back.save_dir) == content(solved.save_dir) != content(kept.save_dir)
    assert back.report.output_error == solved.report.output_error != kept.report.output_error
    said = [any(note.startswith("the training was taken back") for note in job.report.notes)
            for job in jobs]
    assert said == [False, True]


def test_only_what_modules_hand_on_is_stored(monkeypatch):
    """Outputs in front of their biases and activations are sampled on the way, never kept."""
    job, stored = tiny_job(granularity="layer", target="paddle_lite"), []
    allocate = job.network.store.allocate

    def counted(shape, *args, **kwargs):
        stored.append(shape)
        return allocate(shape, *args, **kwargs)
    monkeypatch.setattr(job.network.store, "allocate", counted)
    job.network.biases = biases_of(job.network.graph, job.network.scheme.is_quantized)
    done = LayerWalk(job.network, job.state)
    state = done.run(job.modules)
    assert len(done.layers) == 5 and len(state.biases) == 4
    assert len(stored) == 2 * sum(len(m.outputs) for m in job.modules)


def layer(attrs=None, op_type="conv2d", shape=(4, 3, 1, 1)):
    """One convolution or product without a bias."""
    slots = ("Input", "Filter", "Output") if "conv" in op_type else ("X", "Y", "Out")
    op = Op(op_type, {slots[0]: ["x"], slots[1]: ["w"]}, {slots[2]: ["y"]}, dict(attrs or {}))
    tensors = {n: TensorInfo(n, (-1, 3, 5, 5)) for n in ("x", "y")}
    return Graph([op], tensors, {"w": np.ones(shape, np.float32)}, ["x"], ["y"])


@pytest.mark.parametrize("op_type, shape, channels, axis", [
    ("conv2d", (4, 3, 1, 1), 4, 1), ("conv2d_transpose", (3, 5, 2, 2), 5, 1),
    ("matmul_v2", (3, 7), 7, -1)])
def test_a_layer_without_a_bias_gets_one_of_zeros(op_type, shape, channels, axis):
    graph = layer(op_type=op_type, shape=shape)
    add_missing_biases(graph, lambda op: op.type == op_type)
    assert [op.type for op in graph.ops] == [op_type, "elementwise_add"]
    assert graph.ops[1].output_names == ["y"] and graph.ops[1].attrs["axis"] == axis
    name = bias_of(graph.ops[0], graph, graph.consumers())
    assert graph.params[name].shape == (channels,) and not graph.params[name].any()
    add_missing_biases(graph, lambda op: op.type == op_type)
    assert len(graph.ops) == 2, "and no second one"


def test_a_bias_that_others_read_is_left_alone():
    graph = layer()
    add_missing_biases(graph, lambda op: op.type == "conv2d")
    bias = graph.ops[1].input("Y")
    graph.ops.append(Op("relu", {"X": [bias]}, {"Out": ["z"]}))
    assert biases_of(graph, lambda op: op.type == "conv2d") == {}


def test_the_baseline_walks_few_samples(model_dir, tmp_path, monkeypatch):
    counts, plain = [], write.rounded_layers

    def counted(prepared, rounding, most=None):
        counts.append((rounding, most))
        return plain(prepared, rounding, most)
    monkeypatch.setattr(write, "rounded_layers", counted)
    monkeypatch.setattr(write, "BASELINE_SAMPLES", 16)
    result = quant_post_mrecg(model_dir, batches(), ALONE, str(tmp_path / "out"),
                              lambda predict: {"mean": float(predict(batches()[0])[0].mean())})
    assert counts == [("nearest", 16)] and "nearest_bias" in result.report.metrics


def test_fewer_samples_correct_biases_from_those_samples_alone(model_dir):
    config = load_config(settings({"QuantPost": {"equalize": "none"}}, preset="none",
                                  num_iters=0, granularity="block"))  # factors follow the samples
    prepared, few = (prepare(model_dir, given, config) for given in (batches(), batches(16)))
    few.state = prepared.state
    biases = [rounded_layers(p, "nearest", most).state.biases
              for p, most in ((prepared, 16), (few, None), (prepared, None))]
    assert all(np.array_equal(biases[0][n], biases[1][n]) for n in biases[0])
    assert any(np.any(biases[0][n] != biases[2][n]) for n in biases[0])


def test_layers_are_cut_only_where_something_goes_layer_by_layer(model_dir):
    plain = dict(rounding="nearest", bias_correction=False)
    for sections, wanted in ((dict(QuantPost=plain), False),
                             (dict(QuantPost=dict(plain, bias_correction=True)), True),
                             (dict(QuantPost=dict(plain, rounding="solve")), True),
                             (dict(QuantPost=plain, MRECG=dict(granularity="layer")), True)):
        assert bool(prepare(model_dir, batches(), load_config(settings(sections))).layers) == wanted
