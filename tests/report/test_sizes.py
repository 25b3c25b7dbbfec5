# SPDX-License-Identifier: Apache-2.0
"""Sizes against hand-computed ones."""
import zlib

import numpy as np
import pytest

from paddle_mrecg.report.sizes import code_sizes, entropy_bits, file_sizes


@pytest.mark.parametrize("codes, bits", [([0, 0, 0, 0], 0.0),
                                         ([0, 1, 2, 3], 2.0), ([0, 0, 0, 1], 0.8112781), ([], 0.0)])
def test_entropy(codes, bits):
    assert entropy_bits(np.array(codes)) == pytest.approx(bits)


def test_code_sizes():
    rng = np.random.default_rng(0)
    codes = dict(a=rng.integers(-8, 8, (16, 8, 3, 3)), b=np.zeros((5,), np.float32))
    sizes = code_sizes(codes, dict(a=4, b=8))
    assert (sizes["float32"], sizes["int8"], sizes["packed"]) == (4 * 1157, 1157, 576 + 5)
    assert sizes["entropy_bits"]["b"] == 0 and 3.9 < sizes["entropy_bits"]["a"] < 4
    assert sizes["entropy_coded"] == round(sizes["entropy_bits"]["a"] * 1152 / 8)
    assert sizes["entropy_coded"] < sizes["zipped"] < sizes["int8"]


def test_unsigned_8_bit_codes_fit():
    codes = np.arange(256, dtype=np.float32)
    assert code_sizes(dict(a=codes), dict(a=8))["entropy_bits"]["a"] == 8.0


def test_file_sizes(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"y")
    sizes = file_sizes([str(tmp_path / "a"), str(tmp_path / "b")])
    assert (sizes
            == dict(bytes=1001, zipped=len(zlib.compress(b"x" * 1000)) + len(zlib.compress(b"y"))))
