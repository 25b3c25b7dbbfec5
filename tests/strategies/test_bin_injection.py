# SPDX-License-Identifier: Apache-2.0
"""Bin regularization injected into gradients trains as the loss does."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.aware.bin_regularizer import BinRegularizer
from paddle_mrecg.config.aware import BinRegularization
from paddle_mrecg.strategies.bin_regularization import inject
from tests.plain_quanter import weights


@pytest.mark.parametrize("grad_to_scale", [True, False])
def test_injection_trains_like_the_loss(grad_to_scale, make_layer, make_quanter):
    """Twenty momentum steps of a two-layer network with quantized weights."""
    settings = BinRegularization(schedule="S1", grad_to_scale=grad_to_scale)
    rng = np.random.default_rng(0)
    x, y = (paddle.to_tensor(rng.normal(size=(32, n)).astype(np.float32)) for n in (12, 4))
    start = [rng.normal(size=s).astype(np.float32) * 0.3 for s in ((12, 16), (16, 4))]
    ends = []
    for injected in (False, True):
        first, second = (make_layer(w, make_quanter(0.15, 3, gradient_scale=0.05)) for w in start)
        regularizer = BinRegularizer([("first", first), ("second", second)], settings)
        if injected:
            first.inject = second.inject = regularizer.inject
        parameters = [first.weight, second.weight, *first.weight_quanter.parameters(),
                      *second.weight_quanter.parameters()]
        optimizer = paddle.optimizer.Momentum(0.02, 0.9, [dict(params=parameters[:2]),
                                                          dict(params=parameters[2:],
                                                               learning_rate=0.1)])
        for _ in range(20):
            loss = (second(paddle.tanh(first(x))) - y).square().mean()
            (loss if injected else loss + regularizer.loss()).backward()
            optimizer.step()
            optimizer.clear_grad()
        ends.append([p.numpy() for p in parameters])
    for a, b, before, moved in zip(*ends, [*start, 0.15, 0.15], [1e-2, 1e-2, 1e-3, 1e-3]):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
        assert np.abs(a - before).max() > moved


def test_injected_gradient_follows_loss_scale_and_accumulation(make_layer, make_quanter):
    """With the loss scaled by 1024 and gradients of four batches summed, factor 1024 /
    4 is the loss's gradient.
    """
    value = weights(3, (8, 6))[0]
    x = paddle.to_tensor(np.random.default_rng(3).normal(size=(4, 8)).astype(np.float32))
    grads = []
    for injected in (False, True):
        layer = make_layer(value, make_quanter(0.1, 3))
        regularizer = BinRegularizer([("layer", layer)], BinRegularization(schedule="S1"))
        regularizer.gradient_factor = lambda: 1024.0 / 4
        layer.inject = regularizer.inject if injected else layer.inject
        for _ in range(4):
            loss = layer(x).sum() * 1e-3
            ((loss if injected else loss + regularizer.loss() / 4) * 1024).backward()
        grads.append(layer.weight.grad.numpy())
    np.testing.assert_allclose(grads[0], grads[1], rtol=1e-5, atol=1e-3)


def test_injection_leaves_the_forward_pass_alone(make_quanter):
    weight = paddle.to_tensor(weights(4)[0], stop_gradient=False)
    assert (inject(weight, make_quanter(0.1, 4), 0.5).numpy() == weight.numpy()).all()
    frozen = paddle.to_tensor(weights(4)[0])
    quanter = make_quanter(0.1, 4)
    inject(frozen, quanter, 0.5).sum().backward()  # only the step wants a gradient
    assert frozen.grad is None and quanter.parameter.grad is not None
