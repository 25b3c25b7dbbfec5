# SPDX-License-Identifier: Apache-2.0
"""Observers find good grids, survive degenerate tensors and need bounded memory."""
import numpy as np
import pytest

from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.grids.affine import Encoding, QuantSpec, fake_quantize, quantize
from paddle_mrecg.grids.observers import METHODS, ActivationObserver, weight_encoding
from paddle_mrecg.grids.ranges import MSE_SHRINK, encode

WEIGHT = np.random.default_rng(0).standard_t(4, size=(6, 5, 3, 3)).astype(np.float32)


def error(x, encoding):
    return float((np.abs(fake_quantize(x, encoding) - x).astype(np.float64)**2.4).sum())


def observe(batches, *args, **kwargs):
    observer = ActivationObserver(*args, **kwargs)
    for batch in batches:
        observer.update(batch)
    return observer.encoding()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_every_method_gives_a_usable_grid(method, symmetric, axis):
    for bits in range(2, 9):
        encoding = weight_encoding(WEIGHT, QuantSpec(bits, symmetric, symmetric, axis), method,
                                   0.99)
        assert encoding.scale.shape == (() if axis is None else (WEIGHT.shape[axis],))
        codes = quantize(WEIGHT, encoding)
        # the grid is neither far too wide nor too narrow
        assert len(np.unique(codes)) > 2**(bits - 1) * 0.5


def test_mse_is_the_best_shrink_found_by_a_plain_loop():
    spec, expected = QuantSpec(3, True, True, 0), []
    for row in WEIGHT.reshape(6, -1):
        scales = [np.float32(np.abs(row).max() * np.float32(s)) / 3 for s in MSE_SHRINK]
        scalar = QuantSpec(3, True, True)
        expected.append(min(scales, key=lambda s: error(row, Encoding(scalar, s, 0))))
    np.testing.assert_allclose(weight_encoding(WEIGHT, spec).scale, expected, rtol=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_beats_min_max_on_long_tails(symmetric):
    x = np.random.default_rng(1).standard_t(4, size=(6, 2000)).astype(np.float32)
    for bits, share in ((2, 0.5), (3, 0.5), (4, 0.7), (8, 1.0)):
        spec = QuantSpec(bits, symmetric, symmetric, 0)
        assert (error(x, weight_encoding(x, spec))
                <= share * error(x, weight_encoding(x, spec, "min_max")))


@pytest.mark.parametrize("bits", [2, 4])
def test_asymmetric_mse_search_is_near_the_best_of_all_pairs_of_ends(bits):
    x = np.random.default_rng(1).uniform(-1, 1, size=3000).astype(np.float32)
    x[0] = 4.0  # one outlier: only one end should move
    spec, shrink = QuantSpec(bits, False, False), MSE_SHRINK[::3]
    best = min(error(x, encode(np.array([x.min() * a]), np.array([4.0 * b]), spec)) for a in shrink
               for b in shrink)
    encoding = weight_encoding(x, spec)
    assert error(x, encoding) < 1.02 * best
    assert error(x, encoding) < 0.8 * error(x, weight_encoding(x, spec, "min_max"))


def test_channels_do_not_influence_one_another():
    spec = QuantSpec(4, True, True, 0)
    whole = weight_encoding(WEIGHT, spec).scale
    for k in range(6):
        assert weight_encoding(WEIGHT[k:k + 1], spec).scale[0] == whole[k]


def test_long_rows_are_scored_in_blocks_with_the_same_result(monkeypatch):
    spec = QuantSpec(4, False, False)
    whole = weight_encoding(WEIGHT, spec)
    monkeypatch.setattr("paddle_mrecg.grids.ranges._BLOCK", 50)
    np.testing.assert_allclose(weight_encoding(WEIGHT, spec).scale, whole.scale, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_and_constant_channels(method, symmetric):
    w = np.zeros((4, 9), np.float32)
    w[1], w[2] = 0.5, -0.5
    w[3] = 1e-12
    encoding = weight_encoding(w, QuantSpec(8, symmetric, symmetric, 0), method)
    np.testing.assert_allclose(fake_quantize(w, encoding), w, atol=4e-3)
    assert encoding.scale[0] < 1e-8  # a dead channel stays dead, whatever its codes become


def test_narrow_grid_never_uses_the_lowest_code():
    w = np.linspace(-1, 0.5, 1000, dtype=np.float32)
    for method in METHODS:
        encoding = weight_encoding(w, QuantSpec(8, True, True, narrow=True), method)
        assert quantize(w, encoding).min() >= -127


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_values_are_counted_and_refused(method, bad):
    w = WEIGHT.copy()
    w[1, 2, 0, 0] = w[2, 0, 0, 0] = bad
    with pytest.raises(DataError, match="2 of 270 values are NaN or Inf"):
        weight_encoding(w, QuantSpec(4, True, True, 0), method)
    with pytest.raises(DataError, match="NaN or Inf"):
        ActivationObserver(8, True, method).update(w)


def test_nothing_to_observe():
    for empty in (np.zeros((0, 3)), []):
        with pytest.raises(DataError, match="no values"):
            ActivationObserver(8, True).update(empty)
    with pytest.raises(DataError, match="no batch"):
        ActivationObserver(8, True).encoding()
    with pytest.raises(ConfigError, match="'msee'"):
        ActivationObserver(8, True, "msee")


@pytest.mark.parametrize("method", METHODS)
def test_sign_is_chosen_from_all_batches(method):
    positive, negative = np.array([0.0, 3.0], np.float32), np.array([-0.5, 1.0], np.float32)
    assert not observe([positive], 4, True, method).spec.signed
    assert observe([positive, negative], 4, True, method).spec.signed
    stored = observe([positive], 8, True, method, allow_unsigned=False)
    assert (stored.spec.signed
            and 0.99 < stored.range[1] / (observe([positive], 8, True, method).range[1]) < 1.01)
    asymmetric = observe([positive, negative], 4, False, method)
    assert not asymmetric.spec.signed and asymmetric.zero_point > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_streaming_equals_one_batch(method, symmetric):
    rng = np.random.default_rng(2)
    batches = [(rng.normal(size=500) * size).astype(np.float32) for size in (1.0, 5.0, 0.1, 3.0)]
    streamed = observe(batches, 8, symmetric, method, 0.999)
    whole = observe([np.concatenate(batches)], 8, symmetric, method, 0.999)
    assert float(streamed.scale) == pytest.approx(float(whole.scale), rel=0.02)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_histogram_search_is_as_good_as_a_search_on_the_values(symmetric, bits):
    rng = np.random.default_rng(3)
    x = np.maximum(rng.normal(size=20000) - 0.5, -0.2 * (not symmetric)).astype(np.float32)
    encoding = observe(np.split(x, 4), bits, symmetric, "mse")
    exact = weight_encoding(x, encoding.spec, "mse")
    assert error(x, encoding) < 1.01 * error(x, exact)


def test_percentile_keeps_its_share():
    x = np.arange(1, 10001, dtype=np.float32)
    assert (float(observe([x], 8, True, "percentile", 0.99).range[1])
            == pytest.approx(9900, rel=1e-3))
    low, high = observe([x - 5000], 8, False, "percentile", 0.99).range
    assert (low, high) == (pytest.approx(-4900, rel=0.01), pytest.approx(4900, rel=0.01))


def test_kl_clips_an_outlier_that_min_max_keeps():
    x = np.append(np.random.default_rng(4).normal(size=50000), 60.0).astype(np.float32)
    assert float(observe([x], 8, True, "kl").range[1]) < 10
    assert float(observe([x], 8, True, "min_max").range[1]) == pytest.approx(60)


@pytest.mark.parametrize("bits, decibel", [(8, 30), (4, 14)])
@pytest.mark.parametrize("values", ["standard_normal", "laplace"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_kl_of_values_behind_a_relu_is_that_of_the_others(bits, decibel, values, share):
    """Zeros are free on every grid, so they must not decide where it ends."""
    rng = np.random.default_rng(3)
    x = np.abs(getattr(rng, values)(size=200000)).astype(np.float32)
    x[rng.random(x.shape) < share] = 0.0
    without = float(observe([x[x > 0]], bits, True, "kl", allow_unsigned=False).range[1])
    encoding = observe([x], bits, True, "kl", allow_unsigned=False)
    assert float(encoding.range[1]) == pytest.approx(without, rel=0.1)
    noise = np.square(fake_quantize(x, encoding) - x).sum() / np.square(x).sum()
    assert -10 * np.log10(noise) > decibel


@pytest.mark.parametrize("method", METHODS)
def test_an_activation_that_is_always_zero(method):
    encoding = observe([np.zeros((2, 3), np.float32)] * 2, 8, True, method)
    assert fake_quantize(np.zeros(1), encoding).tolist() == [0.0]
    late = observe([np.zeros(5, np.float32), np.array([1.0, 2.0], np.float32)], 8, True, method)
    assert 0.5 < float(late.range[1]) < 2.1


def test_memory_does_not_grow_with_range_or_batches():
    observer = ActivationObserver(8, True)
    sizes = set()
    for k in range(40):
        observer.update(np.array([2.0**k, -1.0], np.float32))
        sizes.add(observer._counts.nbytes)
    assert len(sizes) == 1 and observer._counts.sum() == 80
