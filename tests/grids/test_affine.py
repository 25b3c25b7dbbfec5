# SPDX-License-Identifier: Apache-2.0
"""Codes and grids: ranges, rounding, round trips and refused encodings."""
import doctest
import importlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.grids.affine import Encoding, QuantSpec, dequantize, fake_quantize, quantize


@pytest.mark.parametrize("name", ["grids.affine", "grids.ranges", "grids.observers",
                                  "post.soft_rounding", "post.activation_quantizer", "post.drop"])
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module("paddle_mrecg." + name)).failed == 0


@pytest.mark.parametrize("bits", range(2, 9))
def test_number_of_codes(bits):
    x = np.linspace(-300, 300, 20001)
    for spec, count in ((QuantSpec(bits, True, True), 2**bits),
                        (QuantSpec(bits, False, True), 2**bits),
                        (QuantSpec(bits, True, True, narrow=True), 2**bits - 1)):
        codes = quantize(x, Encoding(spec, 0.5, 0))
        assert len(np.unique(codes)) == count
        assert codes.min() == spec.qmin and codes.max() == spec.qmax


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(2, 8), scale=st.floats(2.0**-20, 2.0**13, width=32), data=st.data())
def test_grid_values_are_fixed_points(bits, scale, data):
    spec = QuantSpec(bits, signed=False, symmetric=False)
    zero = data.draw(st.integers(spec.qmin, spec.qmax))
    encoding = Encoding(spec, scale, zero)
    codes = np.arange(spec.qmin, spec.qmax + 1, dtype=np.float32)
    values = dequantize(codes, encoding)
    assert np.array_equal(quantize(values, encoding), codes)
    assert np.array_equal(fake_quantize(values, encoding), values)
    assert values[zero] == 0.0


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-1024, 1024, width=32), scale=st.floats(2.0**-6, 8, width=32),
       bits=st.integers(2, 8))
def test_error_within_the_grid_is_at_most_half_a_step(x, scale, bits):
    encoding = Encoding(QuantSpec(bits, True, True), scale, 0)
    low, high = encoding.range
    error = abs(float(fake_quantize(x, encoding)) - float(np.clip(np.float32(x), low, high)))
    assert error <= 0.5 * scale * (1 + 1e-4)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_channels_are_quantized_on_their_own_grid(axis):
    x = np.random.default_rng(0).normal(size=(3, 4, 2, 5)).astype(np.float32)
    count = x.shape[axis]
    scale = np.linspace(0.1, 0.5, count)
    together = quantize(x, Encoding(QuantSpec(4, True, True, axis), scale, np.zeros(count)))
    for k in range(count):
        alone = quantize(x.take(k, axis), Encoding(QuantSpec(4, True, True), scale[k], 0))
        assert np.array_equal(together.take(k, axis), alone)


def test_codes_have_no_negative_zero():
    assert not np.signbit(quantize(np.array([-0.1]), Encoding(QuantSpec(4, True, True), 1.0, 0)))[0]


def test_json_round_trip_is_exact():
    scale = np.random.default_rng(0).random(7).astype(np.float32)
    for encoding in (Encoding(QuantSpec(5, False, False, 1), scale, np.arange(7)),
                     Encoding(QuantSpec(8, True, True, narrow=True), scale[0], 0)):
        back = Encoding.from_dict(json.loads(json.dumps(encoding.to_dict())))
        assert back.spec == encoding.spec
        assert (np.array_equal(back.scale, encoding.scale)
                and np.array_equal(back.zero_point, encoding.zero_point))
        assert back.scale.dtype == np.float32


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e-42])
def test_unusable_scales_are_refused(scale):
    with pytest.raises(DataError, match="scale"):
        Encoding(QuantSpec(4, True, True), scale, 0)


def test_other_bad_encodings_are_refused():
    asymmetric = QuantSpec(4, False, False)
    for zero in (0.5, -1, 16, np.nan):
        with pytest.raises(DataError, match="zero point"):
            Encoding(asymmetric, 1.0, zero)
    with pytest.raises(DataError, match="symmetric"):
        Encoding(QuantSpec(4, True, True), 1.0, 1)
    with pytest.raises(DataError, match="shape"):
        Encoding(asymmetric, [1.0], [0])
    with pytest.raises(DataError, match="shape"):
        Encoding(QuantSpec(4, True, True, axis=0), 1.0, 0)
    with pytest.raises(DataError, match="'scale'"):
        Encoding.from_dict(dict(bits=4, signed=True, symmetric=True, axis=None, narrow=False,
                                zero_point=0))
    for bits in (1, 9, 32):
        with pytest.raises(ConfigError, match="bits"):
            QuantSpec(bits, True, True)
    with pytest.raises(ConfigError, match="narrow"):
        QuantSpec(4, False, True, narrow=True)
