# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions as matrix products compute what Paddle's kernel computes."""
import numpy as np
import pytest

import paddle
import paddle.nn.functional as F
from demo.classification.training import depthwise

TOLERANCE = 1e-5  # sums of 25 products in another order


def counted(monkeypatch):
    """How often the fast way is taken."""
    calls, original = [], depthwise.depthwise
    monkeypatch.setattr(depthwise, "depthwise", lambda *args: calls.append(1) or original(*args))
    return calls


@pytest.mark.parametrize("size, kernel, stride, padding", [
    ((4, 4), 3, 1, 1), ((8, 8), 3, 2, 1), ((5, 5), 5, 1, 2), ((7, 7), 5, 2, 2), ((3, 3), 3, 1, 0),
    ((3, 40), 5, 1, 2), ((6, 37), 5, (2, 1), 2), ((20, 6), 5, 2, 2), ((17, 19), 5, 1, 0),
])
def test_value_and_gradients(monkeypatch, size, kernel, stride, padding):
    paddle.seed(size[0])
    calls = counted(monkeypatch)
    layer = paddle.nn.Conv2D(6, 6, kernel, stride=stride, padding=padding, groups=6)
    x = paddle.randn([2, 6, *size])
    x.stop_gradient = False
    found = []
    for fast in (False, True):
        with depthwise.fast_depthwise(fast):
            y = layer(x)
        found.append([y, *paddle.grad((y * y).sum(), [x, layer.weight, layer.bias])])
    assert len(calls) == 1
    for slow, fast in zip(*found):
        assert np.allclose(slow.numpy(), fast.numpy(), rtol=TOLERANCE,
                           atol=TOLERANCE * float(slow.abs().max()))


@pytest.mark.parametrize("rests", ["x", "weight"])
def test_what_rests_has_no_gradient(rests):
    """The last epochs of QuantAware.affine_epochs train no weight."""
    given = dict(x=paddle.randn([2, 4, 8, 8]), weight=paddle.randn([4, 1, 3, 3]))
    for name, tensor in given.items():
        tensor.stop_gradient = name == rests
    with depthwise.fast_depthwise():
        F.conv2d(given["x"], given["weight"], padding=1, groups=4).sum().backward()
    assert [name for name, tensor in given.items() if tensor.grad is None] == [rests]


@pytest.mark.parametrize("shape, options", [
    ((1, 4, 8, 8), dict(groups=2)), ((1, 4, 8, 8), dict(groups=4, dilation=2)),
    ((1, 4, 64, 64), dict(groups=4)),
    ((1, 4, 8, 8), dict(groups=4, padding="SAME")),
    ((1, 4, 8, 8), dict(groups=4, padding=[1, 0, 1, 0])),
])
def test_what_it_does_not_cover_stays_with_paddle(monkeypatch, shape, options):
    calls = counted(monkeypatch)
    x, weight = paddle.randn(shape), paddle.randn([4, 4 // options["groups"], 3, 3])
    slow = F.conv2d(x, weight, **options)
    with depthwise.fast_depthwise():
        fast = F.conv2d(x, weight, **options)
    assert not calls and np.array_equal(slow.numpy(), fast.numpy())


def test_the_functional_call_is_covered_too_and_everything_is_put_back(monkeypatch):
    calls, before = counted(monkeypatch), F.conv._conv_nd
    with pytest.raises(RuntimeError), depthwise.fast_depthwise():
        F.conv2d(paddle.randn([1, 4, 4, 4]), paddle.randn([4, 1, 3, 3]), padding=1, groups=4)
        raise RuntimeError
    assert len(calls) == 1 and F.conv._conv_nd is before
