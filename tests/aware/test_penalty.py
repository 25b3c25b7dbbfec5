# SPDX-License-Identifier: Apache-2.0
"""The penalty as loss and as injected gradients, its schedule, and the optimizer's groups."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.config.io import load_training_config
from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.aware.job import quantized_layers

LOW = {"target": "simulation", "weight_bits": 2, "activation_bits": 3,
       "activation_quanter": "symmetric_pact"}
SECTIONS = {"BinRegularization": {"schedule": "S1"},
            "SymmetricPACT": {"init": "abs_max", "decay": 0.05}}


def config(mode="loss", **more):
    return dict(SECTIONS, QuantAware=dict(LOW, penalty_mode=mode, **more))


def test_injection_trains_as_the_loss_does(small):
    """All parameters after five steps agree to 1e-6, and the penalty itself is 0."""
    trained = {}
    for mode in ("loss", "injection"):
        model, penalty = small.prepared(config(mode))
        small.train(model, penalty, steps=5, lr=0.02)
        trained[mode] = {k: v.numpy().astype(np.float64) for k, v in model.state_dict().items()}
        assert (penalty().item() == 0.0) == (mode == "injection")
    unregularized, penalty = small.prepared({"QuantAware": LOW,
                                             "SymmetricPACT": {"init": "abs_max", "decay": 0.0}})
    small.train(unregularized, penalty, steps=5, lr=0.02)
    for key, value in trained["loss"].items():
        np.testing.assert_allclose(trained["injection"][key], value, atol=1e-6)
    moved = np.abs(unregularized.plain.weight.numpy() - trained["loss"]["plain.weight"]).max()
    assert moved > 1e-3  # the penalty does something


def test_weights_that_diverged_are_named_as_the_cause(small):
    model, penalty = small.prepared(config())
    penalty.on_epoch(0, 1)
    model.plain.weight.set_value(np.full(model.plain.weight.shape, np.nan, np.float32))
    with pytest.raises(DataError, match="NaN: the training diverged; lower the learning rate"):
        penalty()


def test_injected_gradients_are_scaled_where_the_loss_is(small):
    """With a loss scale of 128, unscaled gradients are those without a scale."""
    gradients = []
    for scale in (1.0, 128.0):
        model, penalty = small.prepared(config("injection"))
        penalty.gradient_factor = scale if scale == 1.0 else lambda: 128.0
        penalty.on_epoch(0, 1)
        (model(small.images()).square().mean() * scale).backward()
        gradients.append([p.grad.numpy() / scale for p in model.plain.parameters()])
    for a, b in zip(*gradients):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_the_schedule_of_bin_regularization(small):
    model, penalty = small.prepared({"QuantAware": {"weight_bits": 2},
                                     "BinRegularization": {"schedule": "S2", "start": 0.5}})
    values = []
    for epoch in range(4):
        penalty.on_epoch(epoch, 4)
        values.append(penalty().item() > 0.0)
    assert values == [False, False, True, True]
    with pytest.raises(ConfigError, match="count from 0"):
        penalty.on_epoch(4, 4)


def test_dampening_grows_along_its_schedule(small):
    model, penalty = small.prepared({"QuantAware": {"weight_bits": 3},
                                     "Dampening": {"weight": 0.1, "start": 0.5}})
    values = []
    for epoch in range(5):
        penalty.on_epoch(epoch, 5)
        values.append(penalty().item())
    assert values[:3] == [0.0] * 3 and 0.0 < values[3] < values[4]
    with pytest.raises(ConfigError, match="a term of the loss only"):
        small.prepared({"QuantAware": {"penalty_mode": "injection"}, "Dampening": {}})


def test_weights_that_turn_are_frozen_by_their_section(small):
    section = {"threshold": 0.04, "end": 0.02, "momentum": 0.015}
    model, penalty = small.prepared({"QuantAware": {"weight_bits": 3}, "Freezing": section})
    name, layer = next((n, q) for n, q in quantized_layers(model) if q.weight_quanter.bits == 3)
    layer.weight_quanter.ready(layer.float_weight())
    quanter, start = layer.weight_quanter, layer.weight.numpy()
    step = quanter.step().numpy().reshape([-1] + [1] * (start.ndim - 1))
    penalty.on_epoch(0, 2)
    penalty.after_step()
    for turn in range(4):
        layer.weight.set_value(start + step * (1.0 if turn % 2 else -1.0))
        penalty.after_step()
    assert not penalty.freezing.states[name].frozen.numpy().all()
    penalty.on_epoch(1, 2)  # a lower threshold
    layer.weight.set_value(start - step)
    penalty.after_step()
    frozen = penalty.freezing.states[name].frozen.numpy()
    assert frozen.any()
    codes = quanter.codes(layer.weight).numpy()
    layer.weight.set_value(start + 2 * step)
    penalty.after_step()
    np.testing.assert_array_equal(quanter.codes(layer.weight).numpy()[frozen], codes[frozen])
    again, other = small.prepared({"QuantAware": {"weight_bits": 3}, "Freezing": section})
    again.set_state_dict(model.state_dict())
    other.set_state_dict(penalty.state_dict())
    np.testing.assert_array_equal(other.freezing.states[name].frozen.numpy(), frozen)


@pytest.mark.parametrize("sections, match", [
    ({"QuantAware": {"penalty_mode": "injection"}, "Freezing": {}}, "penalty.after_step"),
    ({"QuantAware": {"fold_batch_norm": True}, "Freezing": {}}, "leave one of the two out"),
    ({"Freezing": {"momentum": 0.05}}, "single oscillation")])
def test_freezing_that_cannot_act_is_refused(sections, match):
    with pytest.raises(ConfigError, match=match):
        load_training_config(sections)


def test_without_sections_there_is_no_penalty(small):
    _, penalty = small.prepared()
    assert penalty().item() == 0.0 and penalty.alphas() == {}
    assert [row["layer"] for row in penalty.statistics()] == small.LAYERS


def test_decay_of_alpha(small):
    model, penalty = small.prepared({"QuantAware": LOW, "SymmetricPACT": {"decay": 0.05}})
    alphas = penalty.alphas()
    assert list(alphas) == small.LAYERS and min(alphas.values()) > 0
    assert penalty().item() == pytest.approx(sum(0.025 * a * a for a in alphas.values()), rel=1e-5)


def test_parameters_without_groups_train_as_in_groups(small):
    """For paddle.Model, ``minimize`` and the like, which take no groups."""
    states = []
    for grouped in (True, False):
        model, penalty = small.prepared({"QuantAware": dict(LOW, scale_lr=0.5),
                                         "SymmetricPACT": {"lr": 3.0}})
        momentum = paddle.optimizer.Momentum(
            0.01, weight_decay=0.1,
            parameters=penalty.parameter_groups(weight_decay=0.1) if grouped
            else model.parameters())
        model.train()
        for step in range(3):
            loss = model(small.images(seed=step)).square().mean() + penalty()
            loss.backward()
            momentum.step() if grouped else momentum.minimize(loss)
            momentum.clear_grad()
        states.append({k: v.numpy() for k, v in model.state_dict().items()})
    for key, value in states[0].items():
        np.testing.assert_allclose(states[1][key], value, rtol=1e-5, atol=1e-7, err_msg=key)


def test_groups_hold_every_parameter_once_and_act(small):
    model, penalty = small.prepared({"QuantAware": dict(LOW, scale_lr=0.0),
                                     "SymmetricPACT": {"lr": 3.0, "decay": 0.0}})
    network, steps, clips = penalty.parameter_groups(weight_decay=0.1)
    assert (sorted(p.name for g in (network, steps, clips) for p in g["params"])
            == sorted(p.name for p in model.parameters()))
    assert ({id(p) for p in clips["params"]}
            == {id(layer.activation_quanter.alpha_shift) for _, layer in quantized_layers(model)})
    before = {p.name: p.numpy() for p in model.parameters()}
    sgd = paddle.optimizer.SGD(0.5, parameters=[network, steps, clips])
    model.train()
    model(10.0 * small.images()).square().mean().backward()  # beyond the clips
    sgd.step()

    def change(p):
        return (before[p.name] - p.numpy()).astype(np.float64)
    for p in steps["params"]:
        np.testing.assert_array_equal(change(p), 0.0)  # factor 0
    # factor 3, no decay; their start is 0, so neither is any value lost to rounding
    for p in clips["params"]:
        np.testing.assert_allclose(change(p), 1.5 * p.grad.numpy(), rtol=1e-6)
    assert any(np.abs(change(p)).max() > 0 for p in clips["params"])
    weight = model.plain.weight
    np.testing.assert_allclose(change(weight),
                               0.5 * (weight.grad.numpy() + 0.1 * before[weight.name]), atol=1e-6)
