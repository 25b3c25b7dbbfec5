# SPDX-License-Identifier: Apache-2.0
"""One unit: its loss, its schedule, its training, and what it commits."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.config import MRECG
from paddle_mrecg.post.fisher import importance
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.post.reconstruct import annealed_beta
from paddle_mrecg.post.unit_loss import array_loss, measure, squared_error
from paddle_mrecg.post.streams import ActivationStore
from paddle_mrecg.post.walk import Network

from tests.tiny import tiny_graph, tiny_job, tiny_samples

WEIGHTS_ONLY = dict(activation_bits=32, first_layer_activation_bits=32,
                    last_layer_activation_bits=32)
QUICK = dict(rounding_lr=1e-2, keep_prob=1.0, batch_size=16)


@pytest.mark.parametrize("target", ["paddle_lite", "simulation"])
def test_with_weights_only_training_starts_from_the_float_output(target):
    job = tiny_job(target=target, weight_bits=3, **WEIGHTS_ONLY)
    params = job.network.graph.params
    # what lies beyond the grid has no way back
    for name, encoding in job.state.weight_encodings.items():
        params[name] = np.clip(params[name],
                               *(encoding.along(end, params[name].ndim) for end in encoding.range))
    for unit in job.units()[:1] + job.units((0, 2)):
        trainer = job.trainer(MRECG(), unit)
        losses, _ = measure(trainer.problem, job.state, weights=trainer.soft_weights())
        nearest, _ = measure(trainer.problem, job.state)
        for name in unit.outputs:
            assert losses[name].relative < 1e-10 < 1e-6 < nearest[name].relative


def test_inner_targets_count_as_much_as_the_output_in_relative_terms():
    job = tiny_job(weight_bits=3)
    unit, = job.units((0, len(job.modules) - 1))[:1]
    trainers = {w: job.trainer(MRECG(keep_prob=1.0, inner_weight=w), unit) for w in (0.0, 0.5, 1.0)}
    loss = {w: float(t._loss(None)) for w, t in trainers.items()}
    assert (not trainers[0.0].inner_weights
            and set(trainers[1.0].inner_weights) == set(trainers[1.0].problem.inner_targets))
    problem = trainers[1.0].problem
    power = {n: array_loss(v, v).power
             for n, v in {**problem.targets, **problem.inner_targets}.items()}
    output = sum(power[n] for n in problem.targets)
    assert (trainers[1.0].inner_weights
            == pytest.approx({n: output / power[n] for n in problem.inner_targets}))
    assert (loss[0.0] < loss[0.5]
            and loss[0.5] - loss[0.0] == pytest.approx(0.5 * (loss[1.0] - loss[0.0]), rel=1e-4))


def test_beta_is_off_during_warm_up_and_then_falls_linearly():
    settings = MRECG(warm_up=0.2, beta_start=20.0, beta_end=2.0)
    betas = [annealed_beta(step, 1000, settings) for step in range(1001)]
    assert betas[:200] == [None] * 200
    assert betas[200] == 20.0 and betas[600] == pytest.approx(11.0) and betas[1000] == 2.0
    assert np.diff(betas[200:]) == pytest.approx(-18.0 / 800)


@pytest.mark.parametrize("warm_up, first", [(0.0, 20.0), (1.0, None)])
def test_warm_up_may_be_nothing_or_everything(warm_up, first):
    assert annealed_beta(0, 10, MRECG(warm_up=warm_up, beta_start=20.0)) == first
    assert (annealed_beta(9, 10, MRECG(warm_up=warm_up)) is None) == (first is None)


@pytest.mark.parametrize("shape, channel", [((5, 7), 1), ((5, 6, 7), 2), ((5, 7, 3, 4), 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_summed_over_channels_and_averaged_over_the_rest(shape, channel, weighted):
    rng = np.random.default_rng(0)
    y, target, weight = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    weight = np.square(weight) if weighted else np.ones_like(weight)
    written_out = (np.square(y.astype(np.float64) - target) * weight).sum(axis=channel).mean()
    loss = squared_error(paddle.to_tensor(y), paddle.to_tensor(target),
                         paddle.to_tensor(weight) if weighted else None)
    assert float(loss) == pytest.approx(written_out, rel=1e-5)
    if not weighted:
        assert array_loss(y, target).error == pytest.approx(written_out, rel=1e-5)


def test_power_is_the_loss_of_an_output_of_zeros():
    target = np.random.default_rng(0).standard_normal((130, 3, 4, 4)).astype(np.float32)
    loss = array_loss(np.zeros_like(target), target)
    assert loss.error == loss.power == pytest.approx(np.square(target).sum(1).mean(), rel=1e-5)
    assert loss.relative == 1.0


def test_outputs_that_are_not_finite_lose_against_anything():
    values = np.ones((2, 3), np.float32)
    values[0, 0] = np.nan
    assert array_loss(values, np.ones((2, 3), np.float32)).error == np.inf


def test_training_lowers_the_soft_loss():
    job = tiny_job(weight_bits=2, activation_bits=4)
    unit = job.units((0, 2))[0]
    trainer = job.trainer(MRECG(scale_lr=1e-3, warm_up=1.0, **QUICK), unit)
    before, _ = measure(trainer.problem, job.state, weights=trainer.soft_weights())
    trainer.train(100)
    after, _ = measure(trainer.problem, trainer.commit(), weights=trainer.soft_weights())
    assert after["fc"].error < 0.7 * before["fc"].error


def _scaled(factor, **settings):
    """The whole tiny network without biases, trained on inputs times ``factor``: the
    loss grows by its square.
    """
    graph = tiny_graph()
    graph.params.update({n: np.zeros_like(v) for n, v in graph.params.items() if n.endswith(".b")})
    job = tiny_job(graph, {"image": factor * tiny_samples()["image"]}, weight_bits=3,
                   **WEIGHTS_ONLY)
    trainer = job.trainer(MRECG(**dict(QUICK, rounding_lr=5e-2, **settings)), job.units((0, 2))[0])
    trainer.train(100)
    committed = trainer.commit()
    soft, _ = measure(trainer.problem, committed, weights=trainer.soft_weights())
    hard, _ = measure(trainer.problem, committed)
    return trainer.settled(), hard["fc"].relative - soft["fc"].relative, committed.codes


def test_relative_rounding_weight_settles_large_losses_where_the_published_one_does_not():
    settled, gap, _ = _scaled(64.0, round_weight_relative=10.0)
    settled_published, gap_published, _ = _scaled(64.0, round_weight=0.01)
    assert settled > 1.5 * settled_published
    assert gap < 0.5 * gap_published


def test_relative_rounding_weight_does_not_depend_on_the_scale_of_the_loss():
    codes = [_scaled(factor, round_weight_relative=3.0)[2] for factor in (1.0, 64.0)]
    published = [_scaled(factor, round_weight=0.01)[2] for factor in (1.0, 64.0)]
    assert _share_equal(*codes) > 0.99 > _share_equal(*published)


def _share_equal(a, b):
    return np.mean(np.concatenate([(a[n] == b[n]).ravel() for n in a]))


@pytest.mark.parametrize("target, bits",
                         [("paddle_lite", 2), ("paddle_lite", 8), ("simulation", 3)])
def test_commit_gives_integer_codes_within_the_grid(target, bits):
    job = tiny_job(target=target, weight_bits=bits, activation_bits=8)
    trainer = job.trainer(MRECG(scale_lr=1e-3, **QUICK), job.units((0, 2))[0])
    trainer.train(20)
    state = trainer.commit()
    assert set(trainer.rounding) == {"a.w", "b.w", "c.w", "d.w", "fc.w"} <= state.finished
    for name in trainer.rounding:
        codes, spec = state.codes[name], state.weight_encodings[name].spec
        assert (np.array_equal(codes, np.rint(codes)) and spec.qmin <= codes.min()
                and codes.max() <= spec.qmax)
        assert abs(codes - job.state.codes[name]).max() <= 1, "rounded down or up, nothing else"
    assert not job.state.finished, "the state that training started from is left as it was"


def test_scales_move_only_when_they_may():
    job = tiny_job(weight_bits=4, activation_bits=4)
    for rate in (0.0, 1e-2):
        trainer = job.trainer(MRECG(scale_lr=rate, **QUICK))
        trainer.train(10)
        moved = (trainer.commit().activation_encodings["image"].scale
                 != job.state.activation_encodings["image"].scale)
        assert moved == (rate > 0)


def test_warm_start_takes_over_roundings():
    job = tiny_job(weight_bits=3)
    first = job.trainer(MRECG(**QUICK))
    first.train(30)
    second = job.trainer(MRECG(**QUICK))
    second.warm_start(first.alphas())
    assert np.array_equal(second.commit().codes["a.w"], first.commit().codes["a.w"])
    assert np.any(first.alphas()["a.w"] != job.trainer(MRECG()).alphas()["a.w"])


def _softmax_net(features=5, classes=3, seed=0):
    """x -> fc -> softmax, and its parameters."""
    weight = np.random.default_rng(seed).standard_normal((features, classes)).astype(np.float32)
    tensors = {n: TensorInfo(n, s)
               for n, s in dict(x=(-1, features), w=weight.shape, z=(-1, classes),
                                 p=(-1, classes)).items()}
    ops = [Op("matmul_v2", {"X": ["x"], "Y": ["w"]}, {"Out": ["z"]},
              dict(trans_x=False, trans_y=False)),
           Op("softmax", {"X": ["z"]}, {"Out": ["p"]}, dict(axis=-1))]
    return Graph(ops, tensors, {"w": weight}, ["x"], ["p"])


def test_squared_gradients_estimate_the_fisher_diagonal_of_a_softmax():
    graph = _softmax_net()
    x = np.repeat(np.random.default_rng(1).standard_normal((1, 5)).astype(np.float32), 4000, axis=0)
    network = Network(graph, None, graph.ops, {}, {"x": x}, ActivationStore(64))
    found = importance(network, ["z"], chunk=1000)["z"]
    logits = (x[0] @ graph.params["w"]).astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    analytic = p * (1 - p)  # of the Fisher matrix diag(p) - p p' of the logits
    assert np.asarray(found).mean(0) == pytest.approx(analytic / analytic.mean(), rel=0.08)


def test_importance_has_mean_one_and_no_weight_where_nothing_depends_on_it():
    job = tiny_job()
    network = job.network
    found = importance(network, ["a.sum", "c.relu"])
    blocked = _float(job, "c.add") < 0
    assert {n: v.shape[0] for n, v in found.items()} == {"a.sum": 48, "c.relu": 48}
    for array in map(np.asarray, found.values()):
        assert array.mean() == pytest.approx(1.0, rel=1e-4) and array.min() >= 0
    before_relu = np.asarray(importance(network, ["c.add"])["c.add"])
    assert blocked.any() and not before_relu[blocked].any() and before_relu[~blocked].mean() > 1


def _float(job, name):
    unit = job.units((0, 2))[0]
    runner = job.problem(unit).runner
    return runner.numpy(runner.run, [name])(job.network.samples)[name]


def test_fisher_loss_weighs_the_errors_with_the_importance():
    job = tiny_job(weight_bits=2)
    unit = job.units()[0]
    shape = _float(job, "a.relu").shape
    job.network.importance = {"a.relu": np.full(shape, 3.0, np.float32)}
    plain, weighted = (job.trainer(MRECG(loss=loss, **QUICK), unit)._loss(None)
                       for loss in ("mse", "fisher"))
    assert float(weighted) == pytest.approx(3 * float(plain), rel=1e-5)
    job.network.importance["a.relu"][:] = 0
    assert float(job.trainer(MRECG(loss="fisher", **QUICK), unit)._loss(None)) == 0


@pytest.mark.parametrize("start", (1.0, 0.1))
def test_rounding_step_grows_from_its_start(start):
    """Adam's first step is the step size itself; the last one may use the whole of it."""
    job = tiny_job(weight_bits=3)
    trainer = job.trainer(MRECG(**dict(QUICK, rounding_lr_start=start, scale_lr=0.0)),
                          job.units((0, 2))[0])
    before, travelled = trainer.alphas(), []

    def note(trainer, step, loss):
        travelled.append(max(float(np.abs(a - b).max())
                             for a, b in zip(trainer.alphas().values(), note.last.values())))
        note.last = trainer.alphas()
    note.last = before
    trainer.train(20, note)
    assert travelled[0] == pytest.approx(start * QUICK["rounding_lr"], rel=1e-3)
    if start < 1:
        assert travelled[-1] > 3 * travelled[0]
