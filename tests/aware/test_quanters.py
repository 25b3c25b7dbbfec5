# SPDX-License-Identifier: Apache-2.0
"""What every quanter owes its users: levels, sign, state, types, and
``paddle.quantization``'s interface.
"""
import copy

import numpy as np
import paddle
import pytest
from paddle.quantization import QAT, QuantConfig

from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.grids import fake_quantize as kernels
from paddle_mrecg.aware.quanters.abs_max import AbsMaxQuanter
from paddle_mrecg.aware.quanters.lsq import LSQQuanter
from paddle_mrecg.aware.quanters.lsq_plus import LSQPlusQuanter
from paddle_mrecg.slim.quanters import LSQ, TQT, SymmetricPACT
from paddle_mrecg.strategies.symmetric_pact import Injection, SymmetricPACTQuanter
from paddle_mrecg.aware.quanters.tqt import TQTQuanter
from paddle_mrecg.grids.affine import fake_quantize, quantize

KINDS = [LSQQuanter, LSQPlusQuanter, TQTQuanter, AbsMaxQuanter, SymmetricPACTQuanter]
WEIGHT_KINDS = [LSQQuanter, TQTQuanter, AbsMaxQuanter]


def normal(*shape, seed=0, spread=1.0):
    return paddle.to_tensor((np.random.default_rng(seed).standard_normal(shape)
                             * spread).astype(np.float32))


def evaluate(quanter, x):
    quanter.eval()  # which returns None on Paddle 2.6
    return quanter(x)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("negative", [True, False])
def test_levels_and_sign(kind, bits, negative):
    """As many codes as the bits allow; the sign comes from the data; codes
    times step are what comes out.
    """
    quanter = kind(bits=bits)
    x = normal(8, 3, 6, 6)
    quanter(x if negative else x.abs())
    spread = 20.0 * (x if negative else x.abs())  # beyond both ends
    y, codes = evaluate(quanter, spread).numpy(), quanter.codes(spread).numpy()
    offset = isinstance(quanter, LSQPlusQuanter)
    assert quanter.signed == (negative and not offset)
    lowest = 0 if not quanter.signed else -2**(bits - 1) + (kind is SymmetricPACTQuanter)
    highest = 2**(bits - 1) - 1 if quanter.signed else 2**bits - 1
    assert (quanter.qmin, quanter.qmax) == (lowest, highest)
    assert codes.max() == highest and (codes.min() == lowest or not negative)
    np.testing.assert_array_equal(codes, np.rint(codes))
    np.testing.assert_array_equal(quantize(spread.numpy(), quanter.encoding()), codes)
    np.testing.assert_allclose(fake_quantize(spread.numpy(), quanter.encoding()), y, rtol=1e-6)


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
@pytest.mark.parametrize("layer",
                         [paddle.nn.Conv2D(3, 5, 3), paddle.nn.Conv2DTranspose(3, 5, 3),
                          paddle.nn.Linear(6, 5)],
                         ids=lambda layer: type(layer).__name__)
def test_per_channel(kind, layer):
    """Every output channel is quantized as it would be alone."""
    axis = 0 if isinstance(layer, paddle.nn.Conv2D) else 1
    spread = np.array([0.1, 1.0, 3.0, 10.0, 0.01], np.float32)
    shape = [1] * layer.weight.ndim
    shape[axis] = -1
    weight = normal(*layer.weight.shape) * paddle.to_tensor(spread.reshape(shape))
    layer.weight.set_value(weight)
    quanter = kind(layer, role="weight", bits=4, per_channel=True)
    y = quanter(layer.weight).numpy()
    assert (quanter.quant_axis() == axis and quanter.step().shape == [5]
            and quanter.encoding().scale.shape == (5,))
    for channel in range(5):
        alone = kind(role="weight", bits=4)
        np.testing.assert_allclose(alone(paddle.to_tensor(np.take(weight.numpy(), [channel],
                                                                  axis))).numpy(),
                                   np.take(y, [channel], axis), rtol=1e-6)


def test_two_bit_weights_have_four_levels():
    quanter = LSQQuanter(role="weight", bits=2)
    quanter(normal(64, 8))
    assert np.unique(quanter.codes(normal(64, 8)).numpy()).tolist() == [-2.0, -1.0, 0.0, 1.0]


def test_halves_round_to_even():
    quanter = LSQQuanter(bits=8, role="weight", init="abs_max")
    quanter(paddle.to_tensor([127.0, 0.0]))
    assert (quanter(paddle.to_tensor([0.5, 1.5, 2.5, -0.5, -1.5])).numpy().tolist()
            == [0.0, 2.0, 2.0, 0.0, -2.0])


def test_tqt_steps_are_powers_of_two_that_move_by_whole_ones():
    quanter = TQTQuanter(bits=4)
    quanter(normal(64, 8))
    start = quanter.step().item()
    assert np.log2(start) == round(np.log2(start))
    quanter.log2_threshold.set_value(quanter.log2_threshold.numpy() + np.float32(0.4))
    assert quanter.step().item() == start
    quanter.log2_threshold.set_value(quanter.log2_threshold.numpy() + np.float32(0.6))
    assert quanter.step().item() == 2 * start


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_brings_everything(kind):
    """After loading, other data neither re-initialises the grid nor changes its sign."""
    trained, resumed = kind(bits=4), kind(bits=4)
    trained(normal(4, 4).abs())
    resumed(normal(4, 4, seed=2, spread=9.0))
    for parameter in trained.parameters():
        parameter.set_value(parameter.numpy() * np.float32(1.25) + np.float32(0.01))
    missing, unexpected = resumed.set_state_dict(trained.state_dict())
    assert not missing and not unexpected
    x = normal(4, 4, seed=3, spread=5.0)
    np.testing.assert_array_equal(evaluate(trained, x).numpy(), evaluate(resumed, x).numpy())
    assert resumed.signed == trained.signed and resumed.initialized


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_agree(kind):
    quanter, x = kind(bits=4), normal(4, 3, 5, 5)
    quanter(x)
    quanter.eval()
    first = quanter(x).numpy()
    if kind is not AbsMaxQuanter:  # whose range follows the data while training
        quanter.train()
    np.testing.assert_array_equal(quanter(x).numpy(), first)
    np.testing.assert_array_equal(copy.deepcopy(quanter)(x).numpy(), first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_amp(kind, dtype):
    """Low-precision inputs are quantized in float32; type and gradient's
    type are those of the input.
    """
    quanter, x = kind(bits=4), normal(4, 3, 5, 5).cast(dtype)
    exact = kind(bits=4)
    exact(x.cast("float32"))
    x.stop_gradient = False
    with paddle.amp.auto_cast(custom_white_list={"scale", "elementwise_mul"}, dtype=dtype,
                              level="O1"):
        y = quanter(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.cast("float32").numpy(),
                                  evaluate(exact,
                                           x.cast("float32")).cast(dtype).cast("float32").numpy())
    y.cast("float32").sum().backward()
    assert x.grad.dtype == x.dtype and all(p.grad is not None for p in quanter.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_of_other_devices(kind, monkeypatch):
    """Off the CPU steps stay tensors, so that nothing waits for the device; codes
    and gradients are the same.
    """
    x, found = normal(4, 3, 5, 5, spread=3.0), []
    for tensors in (False, True):
        if tensors:
            monkeypatch.setattr(kernels, "_operand",
                                lambda values, x, axis, unit=1.0: values.detach() / unit)
        quanter = kind(bits=4)
        quanter(x / 2.0)
        given = x.clone()
        given.stop_gradient = False
        y = quanter(given)
        (y * normal(4, 3, 5, 5, seed=1)).sum().backward()
        found.append([quanter.codes(x), y, given.grad, *(p.grad for p in quanter.parameters())])
    np.testing.assert_array_equal(found[0][0].numpy(), found[1][0].numpy())
    for a, b in zip(*found):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def test_moving_average_of_abs_max():
    quanter = AbsMaxQuanter(bits=8, momentum=0.75)
    quanter(paddle.to_tensor([-4.0, 1.0]))
    assert quanter.scales().item() == pytest.approx(4.0)
    quanter(paddle.to_tensor([8.0]))
    assert quanter.scales().item() == pytest.approx(0.75 * 4.0 + 0.25 * 8.0)
    evaluate(quanter, paddle.to_tensor([80.0]))
    assert quanter.scales().item() == pytest.approx(5.0)


@pytest.mark.parametrize("injected", [False, True])
def test_decay_of_alpha_acts_where_float32_would_lose_it(injected):
    """PaddleSlim's alpha of 20 with lr 1e-4 and decay 1e-4 never moves: a step of
    2e-7 is below its resolution.
    """
    quanter = SymmetricPACTQuanter(decay=1e-4)
    quanter(paddle.to_tensor([-20.0, 20.0]))
    quanter.injection = Injection(enabled=injected)
    x, sgd = (paddle.to_tensor([-1.0, 1.0]),
              paddle.optimizer.SGD(1e-4, parameters=quanter.parameters()))
    for _ in range(200):
        loss = quanter(x).sum() * 0.0 + (0.0 if injected else quanter.clip_penalty().sum())
        loss.backward()
        sgd.step()
        sgd.clear_grad()
    assert np.float32(20.0) - np.float32(2e-7) == np.float32(20.0)
    assert quanter.alpha().item() == pytest.approx(20.0 * (1.0 - 1e-8)**200, abs=2e-6)
    assert quanter.alpha_shift.item() == pytest.approx(-20.0 * 200e-8, rel=1e-3)


def test_injected_gradients_follow_the_loss_scale():
    quanter = SymmetricPACTQuanter(decay=0.5)
    quanter(paddle.to_tensor([-2.0, 2.0]))
    quanter.injection = Injection(enabled=True, factor=8.0)
    (quanter(paddle.to_tensor([1.0])).sum() * 0.0).backward()
    assert quanter.alpha_shift.grad.item() == pytest.approx(8.0 * 0.5 * 2.0)


def test_memory_kept_for_the_backward_pass():
    """Of an input, one byte per value; the output belongs to the layer behind."""
    kept = []

    class Context:
        def save_for_backward(self, *tensors):
            kept.extend(tensors)

    from paddle_mrecg.grids.fake_quantize import Grid
    from paddle_mrecg.strategies.symmetric_pact import _ClipAndQuantize
    x = normal(64, 64)
    y = _ClipAndQuantize.forward(Context(), x, paddle.to_tensor([1.0]), Grid(-127, 127))
    others = [t for t in kept if t is not y and t.size > 1]
    assert [(t.dtype, t.size) for t in others] == [(paddle.bool, x.size)]


@pytest.mark.parametrize("act",
                         [LSQ(bits=4), TQT(bits=4), SymmetricPACT(bits=4)],
                         ids=lambda factory: type(factory).__name__)
def test_paddle_quantization_takes_the_factories(act):
    paddle.seed(0)
    model = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.ReLU(), paddle.nn.Flatten(),
                                 paddle.nn.Linear(36, 2))
    qat = QAT(QuantConfig(activation=act, weight=LSQ(role="weight", bits=4, per_channel=True)))
    quantized = qat.quantize(model)
    x = normal(2, 3, 5, 5)
    quantized(x).sum().backward()
    quanters = [s for s in quantized.sublayers() if hasattr(s, "bit_length")]
    # it wraps ReLU and Flatten too
    assert len(quanters) >= 4 and all(q.initialized for q in quanters)
    assert {q.bit_length() for q in quanters} == {4}
    for q in quanters:
        np.testing.assert_allclose(q.scales().numpy(), q.step().numpy() * q.qmax)
        assert q.zero_points().shape == q.step().shape


@pytest.mark.parametrize("make, message", [
    (lambda: LSQQuanter(bits=1), "choose 2 to 8"),
    (lambda: LSQQuanter(role="input"), "unknown role"),
    (lambda: LSQQuanter(per_channel=True), "per_channel"),
    (lambda: LSQQuanter(init="best")(normal(2)), "unknown init"),
    (lambda: LSQPlusQuanter(role="weight"), "offset is for activations"),
    (lambda: SymmetricPACTQuanter(role="weight"), "clips activations"),
])
def test_wrong_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_nan_is_an_error():
    with pytest.raises(DataError, match="NaN or infinity"):
        LSQQuanter()(paddle.to_tensor([1.0, float("nan")]))
