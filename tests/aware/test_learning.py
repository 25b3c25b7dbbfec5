# SPDX-License-Identifier: Apache-2.0
"""Training with the quanters wins back what rounding to 2 bits loses, on the digits
that come with scikit-learn.
"""
import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware.job import quant_aware_prepare

datasets = pytest.importorskip("sklearn.datasets")
TRAIN, BATCH = 1200, 64


def digits():
    """Images and labels, shuffled, mean 0 and deviation 1."""
    found = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = found.images[order, None].astype(np.float32)
    return (images - images.mean()) / images.std(), found.target[order].astype(np.int64)


def network():
    paddle.seed(0)
    return nn.Sequential(nn.Conv2D(1, 16, 3, padding=1, bias_attr=False), nn.BatchNorm2D(16),
                         nn.ReLU(),
                         nn.Conv2D(16, 16, 3, padding=1, groups=16, bias_attr=False),
                         nn.BatchNorm2D(16), nn.ReLU(),
                         nn.Conv2D(16, 24, 3, stride=2, padding=1, bias_attr=False),
                         nn.BatchNorm2D(24), nn.Hardswish(),
                         nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(24, 10))


def fit(model, parameters, epochs, lr, penalty=None):
    images, labels = digits()
    rate = paddle.optimizer.lr.CosineAnnealingDecay(lr, epochs * -(-TRAIN // BATCH))
    momentum, rng = (paddle.optimizer.Momentum(rate, 0.9, parameters, weight_decay=1e-4),
                     np.random.default_rng(1))
    for epoch in range(epochs):
        model.train()
        order = rng.permutation(TRAIN)
        if penalty is not None:
            penalty.on_epoch(epoch, epochs)
        for k in range(0, TRAIN, BATCH):
            batch = order[k:k + BATCH]
            loss = nn.functional.cross_entropy(model(paddle.to_tensor(images[batch])),
                                               paddle.to_tensor(labels[batch]))
            (loss if penalty is None else loss + penalty()).backward()
            momentum.step()
            momentum.clear_grad()
            rate.step()


def accuracy(model) -> float:
    images, labels = digits()
    model.eval()
    with paddle.no_grad():
        scores = model(paddle.to_tensor(images[TRAIN:])).numpy()
    return float((scores.argmax(1) == labels[TRAIN:]).mean())


@pytest.mark.slow
def test_two_bits():
    """W2A2: rounding leaves little more than guessing; six epochs of LSQ, LSQ with bin
    regularization and TQT do not.
    """
    net = network()
    fit(net, net.parameters(), 10, 0.1)
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    assert accuracy(net) > 0.95
    for quanter, sections in (("lsq", {}), ("lsq", {"BinRegularization": {}}), ("tqt", {})):
        net = network()
        net.set_state_dict({k: paddle.to_tensor(v) for k, v in state.items()})
        settings = dict(target="simulation", weight_bits=2, activation_bits=2,
                        weight_quanter=quanter)
        model, penalty = quant_aware_prepare(net, dict(sections, QuantAware=settings),
                                             [digits()[0][:256]])
        before = accuracy(model)
        fit(model, penalty.parameter_groups(), 6, 0.02, penalty)
        assert accuracy(model) > max(0.7, before + 0.2), (quanter, sections)
