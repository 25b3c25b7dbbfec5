# SPDX-License-Identifier: Apache-2.0
"""Networks whose batch norms see other statistics in training than they have kept."""
import logging

import numpy as np
import paddle
import pytest
import paddle.nn.functional as F

from paddle_mrecg.aware.job import quant_aware_prepare
from paddle_mrecg.report.progress import get_logger

LABELS = paddle.to_tensor(np.arange(32) % 10)


@pytest.fixture
def messages(caplog):
    """(level, text) of our logger, as they come."""
    logger = get_logger()
    logger.addHandler(caplog.handler)
    yield lambda: [(r.levelno, r.getMessage()) for r in caplog.records]
    logger.removeHandler(caplog.handler)


def network(momentum):
    """MobileNetV3-small; with 0.99, Paddle's own, 40 steps leave the running statistics far
    from those of a batch.
    """
    paddle.seed(0)
    model = paddle.vision.models.mobilenet_v3_small(scale=0.35, num_classes=10)
    batches = [paddle.randn([32, 3, 32, 32]) for _ in range(2)]
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer._momentum = momentum
    model.train()
    with paddle.no_grad():
        for k in range(40):
            model(batches[k % 2])
    return model, batches


def largest_gradient(model, x):
    model.train()
    F.cross_entropy(model(x), LABELS).backward()
    largest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    for parameter in model.parameters():
        parameter.clear_gradient()
    return largest


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("momentum", [0.99, 0.5])
def test_a_mobile_network_trains(momentum, bits, messages):
    model, batches = network(momentum)
    want = largest_gradient(model, batches[0])
    settings = dict(weight_bits=bits, activation_bits=bits, target="simulation")
    before = [b.numpy() for b in model.buffers()]
    model, penalty = quant_aware_prepare(model, {"QuantAware": settings}, batches)
    fresh = [text for _, text in messages() if "with a batch's statistics" in text]
    assert bool(fresh) == (momentum == 0.99)
    known = {id(b) for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)
             for b in layer.buffers()}
    after = [b.numpy() for b in model.buffers() if id(b) in known]
    assert all(np.array_equal(a, b) for a, b in zip(before, after))
    assert largest_gradient(model, batches[0]) < 10 * want
    momentum = paddle.optimizer.Momentum(0.01, parameters=penalty.parameter_groups())
    losses = []
    for k in range(12):
        loss = F.cross_entropy(model(batches[k % 2]), LABELS) + penalty()
        loss.backward()
        momentum.step()
        momentum.clear_grad()
        losses.append(float(loss))
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_a_small_batch_warns_and_changes_nothing(messages):
    model, batches = network(0.99)
    quant_aware_prepare(model, {}, [batches[0][:2]])
    (level, text), = [m for m in messages() if "statistics" in m[1]]
    assert level == logging.WARNING and "batches of at least 8 samples" in text


def test_norms_that_keep_their_statistics_are_calibrated_so(messages):
    model, batches = network(0.99)
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer._use_global_stats = True
    quant_aware_prepare(model, {}, batches)
    assert not any("statistics" in text for _, text in messages())
