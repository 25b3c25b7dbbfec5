# SPDX-License-Identifier: Apache-2.0
"""``QuantAware.rounding: solve`` without calibration data: solved for training's first batch."""
import copy
import logging

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware.export import export_quantized
from paddle_mrecg.aware.job import quant_aware_prepare, quantized_layers
from paddle_mrecg.errors import ModelError
from tests.aware.test_solved_start import TwoInputs, configured, error_of
from tests.training_nets import float_net, images, train

SPEC = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")]
STARTED = "roundings were solved for the first batch"


def prepared(rounding="solve", make=float_net, **more):
    return quant_aware_prepare(make(), configured(rounding, **more))


def called(model, batch=None):
    """After one call in training mode, which a host's loop begins with."""
    model.train()
    model(images(64, seed=1) if batch is None else batch)
    return model


def weights(model):
    return {n: layer.weight.numpy() for n, layer in quantized_layers(model)}


def same(one, other):
    return all(np.array_equal(v, other[n]) for n, v in one.items())


@pytest.mark.parametrize("more", [
    {}, dict(weight_per_channel=False), dict(weight_quanter="tqt"), dict(penalty_mode="injection"),
    dict(activation_bits=4, activation_quanter="lsq_plus")], ids=str)
def test_the_first_call_in_training_mode_starts_closer(more):
    nearest, solved = (error_of(called(prepared(rounding, **more)[0]), float_net())
                       for rounding in ("nearest", "solve"))
    assert solved < 0.7 * nearest, (nearest, solved)


def test_calls_in_evaluation_mode_come_before(caplog):
    model, before = prepared()[0], weights(prepared()[0])
    model.eval()
    model(images(4))
    assert same(weights(model), before)
    with caplog.at_level(logging.INFO, "paddle_mrecg"):
        after = weights(called(model))
        assert not same(after, before)
        assert same(weights(called(model)), after)  # once
    assert caplog.text.count(STARTED) == 1 and model.training


def test_the_weights_that_were_loaded_by_then_are_solved():
    paddle.seed(11)
    other = float_net()
    other.head.weight.set_value(other.head.weight * 3.0)
    model = prepared()[0]
    model.set_state_dict(other.state_dict())
    nearest = prepared("nearest")[0]
    nearest.set_state_dict(other.state_dict())
    assert error_of(called(model), other) < 0.7 * error_of(called(nearest), other)


def test_a_checkpoint_of_training_is_left_as_it_is(caplog):
    trained, penalty = prepared()
    train(trained, penalty, steps=3)
    resumed = prepared()[0]
    resumed.set_state_dict(trained.state_dict())
    before = weights(resumed)
    caplog.clear()
    with caplog.at_level(logging.INFO, "paddle_mrecg"):
        called(resumed)
    assert same(weights(resumed), before) and STARTED not in caplog.text
    assert "keep the roundings of the checkpoint" in caplog.text


class Detector(nn.Layer):
    """Its losses read boxes, of which a batch has a list, and more that is not a tensor."""

    def __init__(self):
        super().__init__()
        self.net = TwoInputs()

    def forward(self, inputs):
        out = self.net(inputs)
        if self.training:
            out = out + sum(b.sum() for b in inputs["boxes"])
        return out


def test_of_a_dict_what_evaluation_reads():
    def make():
        paddle.seed(4)
        net = Detector()
        net.eval()
        return net
    batch = {"image": images(256, seed=1), "scale": paddle.full([256, 1], 2.0), "epoch_id": 3,
             "boxes": [paddle.ones([2, 4]), paddle.ones([5, 4])]}
    x = {"image": images(64, seed=50), "scale": paddle.ones([64, 1])}
    reference = called(make(), batch)  # whose batch norm has seen it too
    nearest, solved = (error_of(called(prepared(rounding, make)[0], batch), reference, x)
                       for rounding in ("nearest", "solve"))
    assert solved < 0.7 * nearest, (nearest, solved)


def test_other_hooks_stay_and_see_the_batch():
    model, seen = prepared()[0], []
    hook = model.register_forward_pre_hook(lambda layer, inputs: seen.append(layer.training))
    called(model)
    assert seen[-1] is True
    hook.remove()


def test_copies_and_exports_do_not_start(tmp_path, caplog):
    model, penalty = prepared()
    twin = copy.deepcopy(model)
    before = weights(twin)
    with caplog.at_level(logging.INFO, "paddle_mrecg"):
        assert same(weights(called(twin)), before)
        assert STARTED not in caplog.text
        train(model, penalty, steps=3)
        assert export_quantized(model, str(tmp_path / "trained"), SPEC).agrees
    assert caplog.text.count(STARTED) == 1


def test_a_checkpoint_is_exported_without_a_call(tmp_path):
    trained, penalty = prepared()
    train(trained, penalty, steps=3)
    fresh = prepared()[0]
    fresh.set_state_dict(trained.state_dict())
    assert export_quantized(fresh, str(tmp_path / "out"), SPEC).agrees


def test_under_mixed_precision():
    model = prepared()[0]
    model.train()
    with paddle.amp.auto_cast(dtype="bfloat16"):
        model(images(64, seed=1))
    assert same(weights(model), weights(called(prepared()[0])))


class Teaching(nn.Layer):
    """Evaluation wants something that no batch of training has."""

    def __init__(self):
        super().__init__()
        self.net = float_net()

    def forward(self, inputs):
        return self.net(inputs["image"]) * (1.0 if self.training else inputs["size"])


def test_what_evaluation_misses_is_said():
    model = prepared(make=Teaching)[0]
    with pytest.raises(ModelError, match="first batch of training, and that fails .*size.*nearest"):
        called(model, {"image": images(8)})
    assert model.training


def test_ranges_are_those_of_the_training_step():
    """A network whose running statistics are far off, and a batch too small to compare them."""
    def make():
        net = float_net()
        for norm in (net.stem[1], net.depthwise[1], net.norm):
            norm._variance.set_value(norm._variance * 400.0)
        return net

    def steps(rounding):
        model = called(prepared(rounding, make)[0], images(4, seed=1))
        return np.array([layer.activation_quanter.step().item()
                         for _, layer in quantized_layers(model)])
    ratio = steps("solve") / steps("nearest")
    assert (ratio > 0.5).all() and (ratio < 2.0).all(), ratio
