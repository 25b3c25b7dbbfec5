# SPDX-License-Identifier: Apache-2.0
"""Where the grids of quanters start."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.aware.quanters.abs_max import AbsMaxQuanter
from paddle_mrecg.aware.quanters.lsq import LSQQuanter
from paddle_mrecg.strategies.symmetric_pact import SymmetricPACTQuanter


def normal(*shape):
    return paddle.to_tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def test_starts():
    x = normal(16, 4)
    lsq = LSQQuanter(bits=4, init="lsq")
    lsq(x)
    assert lsq.step().item() == pytest.approx(2 * np.abs(x.numpy()).mean() / np.sqrt(7), rel=1e-6)
    error = {}
    for init in ("mse", "lsq", "abs_max"):
        quanter = LSQQuanter(bits=2, init=init)
        error[init] = float(((quanter(x) - x)**2).sum().item())
    assert error["mse"] == min(error.values())


@pytest.mark.parametrize("where", [0, 17])  # the first is among the values that the search looks at
def test_one_far_value_does_not_silence_a_two_bit_grid(where):
    """Searched as for eight bits, from the whole range down to its fifth, the step would round
    all other values to zero.
    """
    x = np.random.default_rng(0).normal(size=1 << 18).astype(np.float32)
    x[where] = -100.0
    quanter = LSQQuanter(bits=2)
    silent = (quanter(paddle.to_tensor(x)).numpy() == 0).mean()
    assert quanter.step().item() < 2.5 and silent < 0.9


def test_calibration_sees_all_batches():
    quanter = AbsMaxQuanter(bits=8, momentum=0.5)
    with quanter.observing():
        for reach in (1.0, 3.0, -5.0):
            x = paddle.to_tensor([reach])
            assert quanter(x) is x
    assert (quanter.scales().item() == pytest.approx(0.5 * (0.5 * 1.0 + 0.5 * 3.0) + 0.5 * 5.0)
            and quanter.signed)


def test_alpha_starts_from_calibration():
    x = normal(1000).abs()
    by_percentile = SymmetricPACTQuanter(init="percentile", percentile=0.9)
    by_percentile(x)
    assert by_percentile.alpha().item() == pytest.approx(np.quantile(x.numpy(), 0.9), rel=0.02)
    by_range = SymmetricPACTQuanter()
    by_range(x)
    assert by_range.alpha().item() == pytest.approx(x.max().item())
