# SPDX-License-Identifier: Apache-2.0
"""The solve of one layer: what it must reproduce, what it must gain, what it must survive."""
import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_mrecg.errors import DataError
from paddle_mrecg.post import solve as module
from paddle_mrecg.post.solve import Gram, ColumnGrid, solve
from paddle_mrecg.grids.affine import Encoding, QuantSpec, quantize


def correlated(rng, groups, count, rows):
    """Inputs [G, R, d] with a mean and, as activations have, a few strong factors in common."""
    factors = rng.standard_normal((groups, count, max(1, rows // 8)))
    mixing = rng.standard_normal((groups, max(1, rows // 8), rows))
    own = 0.3 * rng.standard_normal((groups, count, rows))
    return (1 + factors @ mixing + own).astype(np.float32)


def weights(rng, groups, rows, columns):
    return (rng.standard_normal((groups, rows, columns)) / np.sqrt(rows)).astype(np.float32)


def symmetric_grid(weight, bits):
    """One grid per column, covering its largest weight."""
    top = 2**(bits - 1) - 1
    scale = (np.abs(weight).max(1) / top).astype(np.float32)
    return ColumnGrid(scale, np.zeros_like(scale), -top - 1, top)


def problem(seed=0, groups=1, count=2048, rows=96, columns=32, bits=4, noise=0.0):
    """Gram, grid and rows (x, t); ``noise``: how far the quantized input is off."""
    rng = np.random.default_rng(seed)
    x, weight = correlated(rng, groups, count, rows), weights(rng, groups, rows, columns)
    t = x @ weight
    x = x + np.float32(noise) * rng.standard_normal(x.shape).astype(np.float32)
    gram = Gram(weight)
    gram.add(x, t)
    return gram, symmetric_grid(weight, bits), x, t


def held_out_error(codes, bias, grid, x, t):
    difference = x @ grid.all_rows().values(codes) + bias[:, None] - t
    return float(np.square(difference, dtype=np.float64).sum())


def test_examples_in_docstrings():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("groups,rows,columns", [(1, 96, 32), (6, 24, 5)])
def test_held_out_error_falls_by_several_times(groups, rows, columns):
    gram, grid, x, t = problem(groups=groups, rows=rows, columns=columns, count=4096)
    train = Gram(gram.weight)
    train.add(x[:, :2048], t[:, :2048])
    solution = solve(train, grid)
    errors = [held_out_error(s.codes, s.bias, grid, x[:, 2048:], t[:, 2048:])
              for s in (solution, solution.nearest)]
    assert errors[0] < errors[1] / 4


def test_the_target_is_the_float_output_not_the_float_weight():
    """An input that quantization made smaller wants larger weights; plain GPTQ is blind to it."""
    rng = np.random.default_rng(1)
    x, weight = correlated(rng, 1, 2048, 48), weights(rng, 1, 48, 8)
    gram = Gram(weight)
    gram.add(np.float32(0.7) * x, x @ weight)
    grid = symmetric_grid(1.5 * weight, 8)
    found = grid.all_rows().values(solve(gram, grid, damping=1e-4).codes)
    assert np.linalg.norm(found - weight / 0.7) < 0.05 * np.linalg.norm(weight)


def test_a_diagonal_system_is_nearest_rounding_of_the_continuous_solution():
    rng = np.random.default_rng(2)
    gram, grid, _, _ = problem(seed=2, rows=20, columns=7)
    power = rng.uniform(0.5, 2.0, 20)
    gram.xx[0] = np.diag(power)
    gram.xe[0] = 0.02 * rng.standard_normal((20, 7))
    gram.ee[:] = 1e3  # only has to be large enough for an error that is no less than zero
    gram.count = 1
    solution = solve(gram, grid, damping=0.01)
    damped = power + 0.01 * power.mean()
    target = gram.weight + (gram.xe[0] / damped[:, None]).astype(np.float32)
    assert np.array_equal(solution.codes, grid.all_rows().codes(target))
    assert not np.array_equal(solution.codes, solution.nearest.codes), "V differs from W"


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_eight_bits_reproduce_the_output_of_as_many_rows(noise):
    """Also for another input than the float network's: as many unknowns as equations."""
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((1, 41, 40)).astype(np.float32), weights(rng, 1, 40, 12)
    t = x @ weight
    gram, grid = Gram(weight), symmetric_grid(2 * weight, 8)
    gram.add(x + np.float32(noise) * rng.standard_normal(x.shape).astype(np.float32), t)
    solution = solve(gram, grid, damping=0.0)
    relative, nearest = (s.error.sum() / t.var(1).sum() for s in (solution, solution.nearest))
    assert relative < 1e-4
    assert noise == 0 or relative < nearest / 20


@pytest.mark.parametrize("groups,rows,columns", [(1, 100, 17), (3, 50, 4), (40, 9, 1)])
@pytest.mark.parametrize("block", [1, 7, 32])
def test_blocks_do_not_change_the_result(groups, rows, columns, block):
    gram, grid, _, _ = problem(seed=4, groups=groups, rows=rows, columns=columns, noise=0.1)
    whole, blocked = (solve(gram, grid, block=b) for b in (rows, block))
    assert np.mean(whole.codes != blocked.codes) < 0.01, "rounding may tip a code on an edge"
    assert np.allclose(whole.error.sum(), blocked.error.sum(), rtol=1e-3)


def test_groups_are_independent_problems():
    gram, grid, x, t = problem(seed=5, groups=12, rows=9, columns=1, bits=4)
    together = solve(gram, grid)
    for g in range(12):
        alone = Gram(gram.weight[g:g + 1])
        alone.add(x[g:g + 1], t[g:g + 1])
        own = ColumnGrid(grid.scale[g:g + 1], grid.zero_point[g:g + 1], grid.qmin, grid.qmax)
        one = solve(alone, own)
        assert np.array_equal(one.codes[0], together.codes[g])
        assert np.allclose(one.bias[0], together.bias[g], atol=1e-6)


def test_every_sweep_lowers_the_error_until_no_single_change_does():
    gram, grid, _, _ = problem(seed=6, bits=3, noise=0.2)
    errors = [solve(gram, grid, damping=1e-6, sweeps=k).error.sum() for k in (0, 1, 2, 60)]
    assert errors[0] > errors[1] >= errors[2] >= errors[3]
    best = solve(gram, grid, damping=1e-6, sweeps=60)
    whole = grid.all_rows()
    for row, move in ((0, 1), (17, -1), (95, 1)):
        codes = best.codes.copy()
        codes[:, row] = np.clip(codes[:, row] + move, grid.qmin, grid.qmax)
        assert (gram.error(whole.values(codes) - gram.weight) >= best.error * (1 - 1e-4)).all()


@settings(max_examples=40, deadline=None)
@given(bits=st.integers(2, 8), symmetric=st.booleans(), per_channel=st.booleans(),
       seed=st.integers(0, 99))
def test_any_grid_keeps_its_codes_and_beats_nearest(bits, symmetric, per_channel, seed):
    rng = np.random.default_rng(seed)
    gram, _, x, t = problem(seed=seed, count=200, rows=12, columns=5, noise=0.1)
    spec = QuantSpec(bits, symmetric, symmetric, axis=1 if per_channel else None)
    span = np.abs(gram.weight[0]).max(0) if per_channel else np.abs(gram.weight).max()
    scale = (2 * span / 2**bits).astype(np.float32)
    zero = np.zeros_like(scale) if symmetric else np.full_like(scale, rng.integers(0, 2**bits))
    encoding = Encoding(spec, scale, zero)
    scale, zero = (np.broadcast_to(v, (1, 5)) for v in (encoding.scale, encoding.zero_point))
    grid = ColumnGrid(scale, zero, spec.qmin, spec.qmax)
    solution = solve(gram, grid)
    assert np.array_equal(solution.nearest.codes[0], quantize(gram.weight[0], encoding))
    assert np.array_equal(solution.codes, np.rint(solution.codes))
    assert solution.codes.min() >= spec.qmin and solution.codes.max() <= spec.qmax
    assert (solution.error <= solution.nearest.error).all()
    real = held_out_error(solution.codes, solution.bias, grid, x, t) / 200
    assert np.isclose(solution.error.sum(), real, rtol=1e-2, atol=1e-6 * np.square(t).sum() / 200)


@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1.0, 1e9])
def test_size_of_the_input_does_not_matter(scale):
    gram, grid, x, t = problem(seed=7, rows=24, columns=6, noise=0.1)
    scaled = Gram(gram.weight)
    scaled.add(np.float32(scale) * x, np.float32(scale) * t)
    expected = solve(gram, grid)
    found = solve(scaled, grid)
    assert np.isfinite(found.bias).all() and np.isfinite(found.error).all()
    if scale < 1e-20:  # squares below float32: no data
        expected = expected.nearest
    expected = expected.codes
    assert np.mean(found.codes != expected) < 0.01


@pytest.mark.parametrize("damping", [0.0, 1e-2])
@pytest.mark.parametrize("rows", [30, 1100])
def test_singular_systems(rows, damping):
    """Few samples, a dead input and two equal ones; 1100 rows are factored in float32."""
    rng = np.random.default_rng(8)
    x = correlated(rng, 1, 20, rows)
    x[:, :, 3], x[:, :, 5] = 0, x[:, :, 4]
    weight = weights(rng, 1, rows, 4)
    gram, grid = Gram(weight), symmetric_grid(weight, 4)
    gram.add(x, x @ weight)
    solution = solve(gram, grid, damping=damping)
    assert np.isfinite(solution.codes).all() and np.isfinite(solution.bias).all()
    assert (solution.error <= solution.nearest.error).all()
    if damping:
        nearest = solution.nearest.codes[0, 3]
        assert np.array_equal(solution.codes[0, 3], nearest), "no data, no change"


def test_a_constant_input_is_left_at_nearest_rounding_and_its_bias_is_right():
    weight = weights(np.random.default_rng(9), 2, 5, 3)
    x = np.full((2, 50, 5), 2.0, np.float32)
    x[1] = 0
    gram, grid = Gram(weight), symmetric_grid(weight, 3)
    gram.add(x, x @ weight)
    solution = solve(gram, grid)
    assert np.array_equal(solution.codes, solution.nearest.codes)
    assert solution.gain == 1 or solution.error.sum() < 1e-9
    exact = x @ grid.all_rows().values(solution.codes) + solution.bias[:, None]
    assert np.allclose(exact, x @ weight, atol=1e-5)


def test_chunks_add_up():
    rng = np.random.default_rng(10)
    drift = np.linspace(0, 30, 500, dtype=np.float32)[:, None]
    x = correlated(rng, 2, 500, 8) + drift
    weight = weights(rng, 2, 8, 3)
    t = x @ weight + rng.standard_normal((2, 500, 3)).astype(np.float32)
    whole, chunked = Gram(weight), Gram(weight)
    whole.add(x, t)
    for start in (0, 1, 200, 499):
        stop = {0: 1, 1: 200, 200: 499, 499: 500}[start]
        chunked.add(x[:, start:stop], t[:, start:stop])
    chunked.add(x[:, :0], t[:, :0])
    for name in ("count", "xx", "xe", "ee", "x_mean", "e_mean"):
        assert np.allclose(getattr(whole, name), getattr(chunked, name), rtol=1e-4, atol=1e-2), name
    centred = x.astype(np.float64) - x.mean(1, dtype=np.float64, keepdims=True)
    assert np.allclose(chunked.xx, centred.swapaxes(1, 2) @ centred, rtol=1e-4)


def test_few_samples_are_believed_less():
    """Noise that a handful of samples explains by accident must not move the weights."""
    rng = np.random.default_rng(12)
    x, weight = correlated(rng, 1, 4096, 64), weights(rng, 1, 64, 8)
    noisy = x + 0.3 * rng.standard_normal(x.shape).astype(np.float32)
    errors = {}
    for damping in (0.01, None):
        gram = Gram(weight)
        gram.add(noisy[:, :48], (x @ weight)[:, :48])
        grid = symmetric_grid(weight, 8)
        solution = solve(gram, grid, damping=damping)
        errors[damping] = held_out_error(solution.codes, solution.bias, grid, noisy[:, 48:],
                                         (x @ weight)[:, 48:])
    assert errors[None] < errors[0.01]


def test_no_rows_are_nearest_rounding():
    weight = weights(np.random.default_rng(11), 1, 6, 2)
    solution = solve(Gram(weight), symmetric_grid(weight, 4))
    assert np.array_equal(solution.codes, solution.nearest.codes) and not solution.bias.any()


def test_nan_is_refused():
    gram, grid, x, t = problem(rows=8, columns=2)
    x[0, 0, 0] = np.nan
    gram.add(x, t)
    with pytest.raises(DataError, match="NaN or Inf"):
        solve(gram, grid)
