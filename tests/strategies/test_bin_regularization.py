# SPDX-License-Identifier: Apache-2.0
"""Bin regularization: the closed form is the paper's sum over bins, in value and gradient.
"""
import numpy as np
import paddle
import pytest

from paddle_mrecg.config.aware import BinRegularization
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.aware.quanters.lsq import LSQQuanter
from paddle_mrecg.aware.quanters.tqt import TQTQuanter
from paddle_mrecg.grids import affine
from paddle_mrecg.strategies.bin_regularization import bin_reg_loss, bin_statistics
from paddle_mrecg.aware.bin_regularizer import BinRegularizer, phase_of
from tests.plain_quanter import weights

BITS = (2, 3, 4, 8)


def paper(weight, codes, step, unbiased=False):
    """The paper's definition, bin after bin; ``step`` broadcasts over
    ``weight``, both float64 Tensors.
    """
    total = paddle.zeros([], "float64")
    for code in np.unique(codes):
        inside = paddle.to_tensor(np.flatnonzero(codes == code))
        level_error = paddle.gather((weight - paddle.to_tensor(codes.astype(float))
                                     * step).reshape([-1]), inside)
        total = total + level_error.mean().square()
        if len(inside) > 1:
            total = total + level_error.var(unbiased=unbiased)
    return total


def both(bits, axis=None, unbiased=False, gradient_scale=1.0, make_quanter=None):
    """(value, dL/dv, dL/ds) of this package and of the paper's definition."""
    value, step = weights(bits)
    steps = (step * np.random.default_rng(1).uniform(0.8, 1.2, 16).astype(np.float32) if axis == 0
             else step)
    quanter, weight = (make_quanter(steps, bits, axis, gradient_scale),
                       paddle.to_tensor(value, stop_gradient=False))
    ours = bin_reg_loss(weight, quanter, unbiased)
    ours.backward()
    value64 = paddle.to_tensor(value.astype(np.float64), stop_gradient=False)
    step64 = paddle.to_tensor(quanter.parameter.numpy().astype(np.float64), stop_gradient=False)
    along = step64 if axis is None else step64.reshape([-1, 1, 1, 1])
    reference = paper(value64, quanter.codes(weight).numpy(), along, unbiased)
    reference.backward()
    return ((float(ours), weight.grad.numpy(), quanter.parameter.grad.numpy()),
            (float(reference), value64.grad.numpy(), step64.grad.numpy()))


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_the_closed_form_is_the_sum_over_bins(bits, unbiased, axis, make_quanter):
    ours, reference = both(bits, axis, unbiased, make_quanter=make_quanter)
    assert abs(ours[0] - reference[0]) < 1e-7
    np.testing.assert_allclose(ours[1], reference[1], rtol=0, atol=1e-7)
    # The step collects one term per weight, each times a code: float32 leaves a relative error.
    np.testing.assert_allclose(ours[2], reference[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_gradients_are_those_of_finite_differences(bits, make_quanter):
    (_, by_weight, by_step), _ = both(bits, make_quanter=make_quanter)
    value, step = weights(bits)
    codes = make_quanter(step, bits).codes(paddle.to_tensor(value)).numpy()

    def loss(values, step):
        return float(paper(paddle.to_tensor(values), codes,
                           paddle.to_tensor([step], dtype="float64")))

    direction, h = np.random.default_rng(2).normal(size=value.shape), 1e-4
    start, step = value.astype(float), float(np.float32(step))
    slope = (loss(start + h * direction, step) - loss(start - h * direction, step)) / (2 * h)
    assert np.vdot(by_weight, direction) == pytest.approx(slope, rel=1e-5)
    slope = (loss(start, step + h * step) - loss(start, step - h * step)) / (2 * h * step)
    assert by_step[0] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("cls", [LSQQuanter, TQTQuanter])
def test_real_quanters_regularize_to_the_values_they_export(cls, per_channel):
    """The levels are those of the encoding, also for steps that training moved."""
    paddle.seed(1)
    conv = paddle.nn.Conv2D(8, 16, 3)
    quanter = cls(conv, role="weight", bits=3, per_channel=per_channel)
    quanter(conv.weight)
    quanter.step_parameters()[0].set_value(quanter.step_parameters()[0].numpy() * np.float32(1.01))
    encoding, value = quanter.encoding(), conv.weight.numpy()
    codes, levels = affine.quantize(value, encoding), affine.fake_quantize(value, encoding)
    expected = sum(np.square((value - levels)[codes == code], dtype=float).mean()
                   for code in np.unique(codes))
    loss = bin_reg_loss(conv.weight, quanter)
    loss.backward()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert quanter.step_parameters()[0].grad is not None


@pytest.mark.parametrize("plain", [False, True])
def test_steps_of_eight_bits_stay_put_thanks_to_the_factor_of_lsq(plain):
    """Bin regularization alone, at the paper's weight and learning rate: they grow until they
    cover the clipped weights.
    """
    paddle.seed(0)
    conv = paddle.nn.Conv2D(64, 128, 3)
    covering = conv.weight.abs().max().item() / 127
    quanter, ratios = LSQQuanter(conv, role="weight", bits=8), []
    quanter(conv.weight)
    if plain:
        quanter.gradient_scale = lambda x: 1.0
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, [conv.weight, *quanter.parameters()])
    for _ in range(30):
        (0.5 * bin_reg_loss(conv.weight, quanter)).backward()
        optimizer.step()
        optimizer.clear_grad()
        ratios.append(quanter.step().item() / covering)
    assert max(ratios) > 10 if plain else 0.8 < min(ratios) and max(ratios) < 1.2


def test_the_step_gets_the_factor_of_lsq_and_may_be_left_alone(make_quanter):
    plain, scaled = (both(3, gradient_scale=g, make_quanter=make_quanter)[0] for g in (1.0, 0.25))
    np.testing.assert_allclose(scaled[2], 0.25 * plain[2], rtol=1e-6)
    np.testing.assert_array_equal(scaled[1], plain[1])
    quanter, weight = make_quanter(0.1, 3), paddle.to_tensor(weights(3)[0], stop_gradient=False)
    bin_reg_loss(weight, quanter, grad_to_scale=False).backward()
    assert quanter.parameter.grad is None


def test_worked_example(make_quanter):
    """Step 1, levels -2 .. 1: bins {-3}, {}, {0.2, -0.2}, {0.9}: 1 + 0 + 0.04 + 0.01;
    clipped -3 is pulled inwards.
    """
    weight = paddle.to_tensor([-3.0, 0.2, -0.2, 0.9], stop_gradient=False)
    loss = bin_reg_loss(weight, make_quanter(1.0, 2))
    loss.backward()
    assert float(loss) == pytest.approx(1.05)
    np.testing.assert_allclose(weight.grad.numpy(), [-2.0, 0.2, -0.2, -0.2], rtol=1e-6)
    unbiased = bin_reg_loss(weight, make_quanter(1.0, 2), unbiased=True)
    assert float(unbiased) == pytest.approx(1.09)  # variance 0.08 of the pair


def test_weights_on_their_levels_cost_nothing(make_quanter):
    weight = paddle.to_tensor(np.arange(-8, 8, dtype=np.float32) * 0.25, stop_gradient=False)
    loss = bin_reg_loss(weight, make_quanter(0.25, 4))
    loss.backward()
    assert float(loss) == 0 and not weight.grad.numpy().any()


def test_bins_count_alike_however_full_they_are(make_quanter):
    """A thousand weights half a step off in one bin weigh as much as a single one in another."""
    weight = paddle.to_tensor([0.3] * 1000 + [1.3], stop_gradient=False)
    bin_reg_loss(weight, make_quanter(1.0, 3)).backward()
    assert weight.grad.numpy()[:1000].sum() == pytest.approx(weight.grad.numpy()[1000], rel=1e-5)


def test_descent_collapses_the_weights(make_quanter):
    value, step = weights(3)
    quanter, weight = (make_quanter(step, 3),
                       paddle.to_tensor(value.reshape(-1)[:64], stop_gradient=False))
    codes = quanter.codes(weight).numpy()
    for _ in range(300):
        bin_reg_loss(weight, quanter, grad_to_scale=False).backward()
        weight = (weight - 0.3 * weight.grad).detach()
        weight.stop_gradient = False
    np.testing.assert_allclose(weight.numpy(), codes * np.float32(step), atol=1e-4)


def test_half_precision_weights_are_regularized_in_float32(make_quanter):
    """A bin of 40000 weights: their shares of the gradient, 2 e / V < 1e-6,
    would mostly be 0 in float16.
    """
    value = np.full([40000], 0.01, np.float16)
    weight = paddle.to_tensor(value, stop_gradient=False)
    loss = bin_reg_loss(weight, make_quanter(0.1, 2))
    assert loss.dtype == paddle.float32 and float(loss) == pytest.approx(1e-4, rel=1e-3)
    (loss * 65536).backward()
    assert weight.grad.dtype == paddle.float16
    np.testing.assert_allclose(weight.grad.numpy(), 65536 * 0.02 / 40000, rtol=2e-3)


def test_schedules():
    def active(epochs, **settings):
        return [phase_of(BinRegularization(**settings), epoch, epochs) for epoch in range(epochs)]
    assert [p.regularize for p in active(3, schedule="S1")] == [True] * 3
    assert [p.regularize for p in active(90)].index(True) == 30  # S2 by default, a third
    assert [p.regularize for p in active(6, schedule="S2", start=4)] == [False] * 4 + [True] * 2
    assert [p.regularize for p in active(4, schedule="S2", start=0)] == [True] * 4
    assert active(4, schedule="S3") == [(False, False, True), (True, True, False)] * 2
    assert all(p.train_weights and p.train_scales for s in ("S1", "S2")
               for p in active(4, schedule=s))


@pytest.mark.parametrize("schedule", ["S2", "S3"])
def test_a_schedule_that_never_hears_of_epochs_says_so(schedule, make_layer, make_quanter):
    layer = make_layer(weights(3, (4, 4))[0], make_quanter(0.1, 3))
    regularizer = BinRegularizer([("layer", layer)], BinRegularization(schedule=schedule))
    for use in (regularizer.loss, lambda: regularizer.inject(layer.weight, layer.weight_quanter)):
        with pytest.raises(ConfigError, match="on_epoch"):
            use()
    with paddle.no_grad():  # evaluation before training is fine
        assert regularizer.inject(layer.weight, layer.weight_quanter) is layer.weight


def test_alternation_trains_one_kind_at_a_time(make_layer, make_quanter):
    value = weights(3, (8, 6))[0]
    layer, fixed = (make_layer(value, make_quanter(0.1, 3, gradient_scale=0.1)) for _ in range(2))
    fixed.weight.stop_gradient = True  # the user's own choice, to be left alone
    regularizer = BinRegularizer([("a", layer), ("b", fixed)], BinRegularization(schedule="S3"))
    optimizer = paddle.optimizer.Momentum(0.1, 0.9, layer.parameters())
    x = paddle.to_tensor(np.random.default_rng(3).normal(size=(4, 8)).astype(np.float32))
    moved = []
    for epoch in range(4):
        regularizer.on_epoch(epoch, 4)
        before = [layer.weight.numpy(), layer.weight_quanter.parameter.numpy()]
        (layer(x).square().mean() + regularizer.loss()).backward()
        optimizer.step()
        optimizer.clear_grad()
        moved.append([bool((p.numpy() != b).any())
                      for p, b in zip((layer.weight, layer.weight_quanter.parameter), before)])
        assert fixed.weight.stop_gradient
    assert moved == [[False, True], [True, False]] * 2


def test_off_is_zero(make_layer, make_quanter):
    layer = make_layer(weights(3, (4, 4))[0], make_quanter(0.1, 3))
    regularizer = BinRegularizer([("layer", layer)], BinRegularization())
    regularizer.on_epoch(0, 3)
    assert float(regularizer.loss()) == 0.0
    assert regularizer.inject(layer.weight, layer.weight_quanter) is layer.weight
    regularizer.on_epoch(1, 3)
    assert (float(regularizer.loss())
            == pytest.approx(0.5 * float(bin_reg_loss(layer.weight, layer.weight_quanter))))


def test_statistics_of_a_known_tensor(make_quanter):
    """Step 2: errors 0 and 0.4 around level 0, -0.2 at level 1, and -3 clipped
    to -2 (a whole step off).
    """
    weight = paddle.to_tensor([0.0, 0.8, 1.6, -6.0])
    found = bin_statistics(weight, make_quanter(2.0, 2))
    assert (found["bits"], found["weights"], found["occupied"]) == (2, 4, 3)
    assert found["mean_error"] == pytest.approx((0.2 + 0.2 + 1.0) / 3, rel=1e-5)
    assert found["variance"] == pytest.approx(0.04 / 3, rel=1e-5)
    assert found["near"] == 0.25
    assert found["mse"] == pytest.approx((0.64 + 0.16 + 4.0) / 4, rel=1e-5)
    assert found["loss"] == pytest.approx(0.32 + 0.16 + 4.0, rel=1e-5)


def test_statistics_in_steps_do_not_depend_on_the_channels_steps(make_quanter):
    value = weights(4)[0]
    scales = np.random.default_rng(5).uniform(0.1, 10, (16, 1, 1, 1)).astype(np.float32)
    one = bin_statistics(paddle.to_tensor(value), make_quanter(0.05, 4))
    many = bin_statistics(paddle.to_tensor(value * scales),
                          make_quanter(0.05 * scales.reshape(-1), 4, axis=0))
    for key in ("occupied", "near", "mean_error", "variance"):
        assert many[key] == pytest.approx(one[key], rel=1e-4), key


def test_the_regularizer_names_the_rows(make_layer, make_quanter):
    layers = [(name, make_layer(weights(b, (8, 6))[0], make_quanter(0.1, b)))
              for name, b in (("conv", 2), ("fc", 4))]
    rows = BinRegularizer(layers, BinRegularization()).statistics()
    assert [(row["layer"], row["bits"]) for row in rows] == [("conv", 2), ("fc", 4)]
