# SPDX-License-Identifier: Apache-2.0
"""Training towards the float model without labels."""
import numpy as np
import paddle
import pytest
from paddle import nn

import paddle_mrecg
from paddle_mrecg.errors import ConfigError, ModelError


def network():
    paddle.seed(0)
    return nn.Sequential(nn.Conv2D(3, 8, 3), nn.ReLU(), nn.Conv2D(8, 8, 3), nn.ReLU(),
                         nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(8, 5))


def images(seed=0):
    rng = np.random.default_rng(seed)
    return paddle.to_tensor(4 * rng.standard_normal((16, 3, 8, 8)).astype("float32"))


def test_it_is_the_divergence_of_the_softmax():
    teacher, given = paddle_mrecg.FloatTeacher(network(), temperature=2.0), paddle.randn([16, 5])
    wanted = network()(images()).numpy()

    def softmax(x):
        return np.exp(x / 2) / np.exp(x / 2).sum(1, keepdims=True)
    p, q = softmax(wanted), softmax(given.numpy())
    want = 4 * (p * np.log(p / q)).sum(1).mean()
    assert float(teacher(given, images())) == pytest.approx(want, rel=1e-4)
    assert float(teacher(paddle.to_tensor(wanted), images())) == pytest.approx(0.0, abs=1e-6)


def test_the_quantized_model_comes_nearer_without_labels():
    model = network()
    teacher = paddle_mrecg.FloatTeacher(model)
    before = {name: p.numpy() for name, p in teacher.model.named_parameters()}
    model, penalty = paddle_mrecg.quant_aware_prepare(
        model, {"QuantAware": {"weight_bits": 2, "last_layer_weight_bits": 2}}, [images()])
    momentum = paddle.optimizer.Momentum(0.002, parameters=penalty.parameter_groups())
    model.train()
    losses = []
    for _ in range(40):
        loss = teacher(model(images()), images()) + penalty()
        loss.backward()
        momentum.step()
        momentum.clear_grad()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    for name, p in teacher.model.named_parameters():
        assert p.stop_gradient and np.array_equal(p.numpy(), before[name])
    assert not {id(p) for p in model.parameters()} & {id(p) for p in teacher.model.parameters()}


def test_what_cannot_be_is_said():
    model, _ = paddle_mrecg.quant_aware_prepare(network(), {}, [images()])
    with pytest.raises(ModelError, match="before quant_aware_prepare"):
        paddle_mrecg.FloatTeacher(model)
    with pytest.raises(ConfigError, match="above 0"):
        paddle_mrecg.FloatTeacher(network(), temperature=0.0)
    with pytest.raises(ModelError, match="gives outputs of shapes"):
        paddle_mrecg.FloatTeacher(network())([paddle.ones([16, 5])] * 2, images())
