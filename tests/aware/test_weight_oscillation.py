# SPDX-License-Identifier: Apache-2.0
"""Dampening, iterative freezing and batch-norm re-estimation do what they claim."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.errors import ConfigError, DataError, ModelError
from paddle_mrecg.aware.weight_oscillation import (DampeningLoss, IterativeFreezing, cosine,
                                                   dampening_loss, reestimate_batch_norm)

# Dampening ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_dampening_is_the_distance_inside_the_grid(reduction, axis, make_quanter):
    value = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32) * 0.4
    step = np.linspace(0.08, 0.12, 6).astype(np.float32) if axis == 0 else np.float32(0.1)
    along = step.reshape(-1, 1) if axis == 0 else step
    weight, quanter = paddle.to_tensor(value, stop_gradient=False), make_quanter(step, 3, axis)
    loss = dampening_loss(weight, quanter, reduction)
    loss.backward()
    inside = (value >= -4 * along) & (value <= 3 * along)
    assert 0.3 < inside.mean() < 0.9
    error = np.where(inside, value - np.clip(np.rint(value / along), -4, 3) * along, 0)
    share = 1 if reduction == "sum" else 1 / value.size
    assert float(loss) == pytest.approx(share * np.square(error, dtype=float).sum(), rel=1e-5)
    np.testing.assert_allclose(weight.grad.numpy(), 2 * share * error, rtol=1e-4, atol=1e-7)
    assert quanter.parameter.grad is None


def test_unknown_reduction(make_quanter):
    with pytest.raises(ConfigError, match="sum or mean"):
        dampening_loss(paddle.ones([2]), make_quanter(0.1, 3), "kernel")


def test_dampening_grows_along_a_cosine(make_layer, make_quanter):
    layers = [(name, make_layer(np.full([2, 3], 0.04, np.float32), make_quanter(0.1, 3)))
              for name in "ab"]
    dampening = DampeningLoss(layers, weight=2.0, start=0.25)
    assert float(dampening.loss()) == 0.0
    values = []
    for epoch in range(9):
        dampening.on_epoch(epoch, 9)
        values.append(float(dampening.loss()))
    assert values[:3] == [0, 0, 0] and (np.diff(values[2:]) > 0).all()
    assert values[-1] == pytest.approx(2.0 * 2 * 6 * 0.04**2, rel=1e-5)


def test_cosine_reaches_its_end_whatever_the_number_of_epochs():
    for epochs in (1, 2, 3, 90):
        for start in (0.0, 0.25, 0.5):
            assert cosine(epochs - 1, epochs, start, 0.1, 0.01) == pytest.approx(0.01)
    assert cosine(0, 90, 0.0, 0.1, 0.01) == 0.1


# Freezing -----------------------------------------------------------------------------------------


def run(freezing, layer, codes, step=0.1):
    """Set the weights to codes, as an optimizer would, step after step."""
    for row in codes:
        layer.weight.set_value(np.asarray(row, np.float32).reshape(layer.weight.shape)
                               * np.float32(step))
        freezing.step()


def layer_of(make_layer, make_quanter, codes, bits=3):
    return make_layer(np.asarray([codes], np.float32) * np.float32(0.1), make_quanter(0.1, bits))


def walk(steps):
    """Codes of four weights: three quarters at 1 and one at 2; one quarter at -3 and
    three at -2; a drift; at rest.
    """
    return [[2 if t % 4 == 0 else 1, -3 if t % 4 == 0 else -2, min(3, -4 + t // 20),
             0] for t in range(1, steps + 1)]


def test_an_oscillating_weight_is_frozen_where_it_was_most_of_the_time(make_layer, make_quanter):
    layer = layer_of(make_layer, make_quanter, [1, -2, -4, 0])
    freezing = IterativeFreezing([("layer", layer)], threshold=0.3, end=0.2, momentum=0.02)
    run(freezing, layer, walk(200))
    assert freezing.states["layer"].frozen.numpy().tolist() == [[True, True, False, False]]
    np.testing.assert_array_equal(layer.weight.numpy()[0, :2], np.float32([0.1, -0.2]))
    row, = freezing.statistics()
    assert row["frozen"] == 0.5
    # Now it holds against the optimizer, and follows its step.
    layer.weight_quanter.parameter.set_value(np.float32([0.3]))
    run(freezing, layer, [[3, 3, 3, 3]], step=0.3)
    np.testing.assert_allclose(layer.weight.numpy(), [[0.3, -0.6, 0.9, 0.9]], rtol=1e-6)


def test_a_weight_between_two_levels_oscillates_until_it_is_frozen(make_layer, make_quanter):
    """The paper's toy: regression on a target between two levels; the straight-through
    gradient cannot stand still.
    """
    ends = {}
    for threshold in (None, 0.5):
        layer = layer_of(make_layer, make_quanter, [0.4])
        layer.weight_quanter.parameter.stop_gradient = True
        freezing = IterativeFreezing([("layer", layer)], threshold or 0.99, threshold or 0.98,
                                     momentum=0.05)
        optimizer = paddle.optimizer.SGD(0.06, layer.parameters())
        seen = []
        for _ in range(120):
            (layer(paddle.ones([1, 1])) - 0.07).square().sum().backward()
            optimizer.step()
            optimizer.clear_grad()
            freezing.step()
            seen.append(layer.weight_quanter.codes(layer.weight).item())
        ends[threshold] = seen[-40:]
    assert set(ends[None]) == {0.0, 1.0}
    assert len(set(ends[0.5])) == 1 and set(ends[0.5]) == {np.round(np.mean(ends[None]))}


def test_freezing_goes_on_where_it_was_stopped(make_layer, make_quanter, tmp_path):
    codes = walk(200)
    weights = []
    for stop in (None, 30):
        layer = layer_of(make_layer, make_quanter, [1, -2, -4, 0])
        freezing = IterativeFreezing([("a.layer", layer)], 0.3, 0.2, momentum=0.02)
        run(freezing, layer, codes[:stop])
        if stop:
            assert (not freezing.states["a.layer"].frozen.numpy().any()
                    and freezing.states["a.layer"].frequency.numpy().any())
            paddle.save(freezing.state_dict(), str(tmp_path / "freezing.pdparams"))
            freezing = IterativeFreezing([("a.layer", layer)], 0.3, 0.2, momentum=0.02)
            missing, unexpected = freezing.set_state_dict(paddle.load(str(tmp_path
                                                                          / "freezing.pdparams")))
            assert not missing and not unexpected
            run(freezing, layer, codes[stop:])
        weights.append([v.numpy() for v in [layer.weight, *freezing.states["a.layer"].buffers()]])
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)


def test_the_threshold_falls_and_fine_grids_are_left_alone(make_layer, make_quanter):
    layers = [(f"w{bits}", layer_of(make_layer, make_quanter, [1, 0], bits))
              for bits in (2, 4, 5, 8)]
    freezing = IterativeFreezing(layers, 0.1, 0.02, 0.001)
    assert list(freezing.states.keys()) == ["w2", "w4"] and not freezing.parameters()
    thresholds = []
    for epoch in range(5):
        freezing.on_epoch(epoch, 5)
        thresholds.append(freezing.now)
    assert (thresholds[0] == 0.1 and thresholds[-1] == pytest.approx(0.02)
            and (np.diff(thresholds) < 0).all())


def test_thresholds_that_one_oscillation_would_pass_are_refused(make_layer, make_quanter):
    with pytest.raises(ConfigError, match="single oscillation"):
        IterativeFreezing([("layer", layer_of(make_layer, make_quanter, [1]))], 0.1, 0.01,
                          momentum=0.02)


def test_a_weight_with_its_batch_norm_folded_in_is_refused(make_layer, make_quanter):
    layer = layer_of(make_layer, make_quanter, [1])
    layer.float_weight = lambda: layer.weight * 2.0
    with pytest.raises(ModelError, match="layer 'conv'.*fold_batch_norm: false"):
        IterativeFreezing([("conv", layer)])


# Batch norm ---------------------------------------------------------------------------------------


def network(norm=paddle.nn.BatchNorm2D):
    paddle.seed(0)
    return paddle.nn.Sequential(paddle.nn.Conv2D(2, 3, 1), norm(3, momentum=0.99),
                                paddle.nn.Dropout(0.5),
                                paddle.nn.Conv2D(3, 2, 1),
                                paddle.nn.BatchNorm2D(2, use_global_stats=True))


def batches(count):
    return [paddle.to_tensor(np.random.default_rng(k).normal(k, 1 + k,
                                                             (4, 2, 5, 5)).astype(np.float32))
            for k in range(count)]


@pytest.mark.parametrize("norm", [paddle.nn.BatchNorm2D, paddle.nn.BatchNorm])
def test_batch_norm_gets_the_average_over_batches(norm):
    model, data = network(norm), batches(4)
    model[3].eval()  # a mode of its own
    fixed = model[4]._mean.numpy()
    reestimate_batch_norm(model, ([x, None] for x in data), count=3)
    outputs = [model[0](x).numpy() for x in data[:3]]
    np.testing.assert_allclose(model[1]._mean.numpy(),
                               np.mean([y.mean((0, 2, 3)) for y in outputs], 0), rtol=1e-4)
    np.testing.assert_allclose(model[1]._variance.numpy(),
                               np.mean([y.var((0, 2, 3)) for y in outputs], 0), rtol=1e-4)
    np.testing.assert_array_equal(model[4]._mean.numpy(), fixed)
    assert (model[1]._momentum == 0.99
            and [layer.training for layer in model] == [True, True, True, False, True])


def test_batch_norm_uses_the_given_forward_and_restores_after_an_error():
    model = network()

    def forward(model, batch):
        assert model[1].training and not model[2].training
        if batch is None:
            raise KeyError("broken data")
        model(batch)

    with pytest.raises(KeyError):
        reestimate_batch_norm(model, batches(1) + [None], forward=forward)
    assert model[1]._momentum == 0.99 and all(layer.training for layer in model)


def test_batch_norm_needs_norms_and_batches():
    with pytest.raises(DataError, match="no batch"):
        reestimate_batch_norm(network(), [])
    with pytest.raises(ModelError, match="no batch norm"):
        reestimate_batch_norm(paddle.nn.Linear(2, 2), batches(1))
