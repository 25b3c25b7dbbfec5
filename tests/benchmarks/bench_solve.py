# SPDX-License-Identifier: Apache-2.0
"""Seconds per layer of the solve: against plain numpy, and how much of it is matrix products.

Run: ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_solve.py [--rows 16384] [--no_plain]``.

Layers are the largest of common networks. *Plain* is GPTQ as it is written down: invert H, take the
Cholesky factor of the inverse, update all later rows after every row, then sweeps that update the
whole residual after every row. Both get the same statistics and must end at the same error. *BLAS*
is the share of the seconds that the same matrix products take alone. Times are the best of
``--repeat`` runs.
"""
import argparse
import json
import time

import numpy as np

from paddle_mrecg.post.solve import ROUNDED_ROWS, SWEEPS, Gram, ColumnGrid, default_damping, solve

LAYERS = {  # name -> problems, rows, columns
    "ResNet-50 3x3 512 -> 512": (1, 4608, 512),
    "ResNet-50 1x1 2048 -> 512": (1, 2048, 512),
    "ResNet-50 classifier": (1, 2048, 1000),
    "PP-OCRv4 rec classifier": (1, 120, 6625),
    "MobileNetV1 1x1 1024 -> 1024": (1, 1024, 1024),
    "MobileNetV1 depthwise 3x3 1024": (1024, 9, 1),
    "ResNet-20 3x3 64 -> 64": (1, 576, 64),
    "ResNeXt 3x3, 32 groups of 8": (32, 72, 8),
}
CHUNK = 1 << 22


def made_up(groups, rows, columns, count, seed=0):
    """Weights, a 4-bit grid and a function that yields ``count`` correlated rows in chunks."""
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((groups, rows, columns)) / np.sqrt(rows)).astype(np.float32)
    scale = (np.abs(weight).max(1) / 7).astype(np.float32)
    mixing = rng.standard_normal((groups, max(1, rows // 8), rows), np.float32)
    size = max(1, CHUNK // (groups * max(rows, columns)))

    def chunks():
        for start in range(0, count, size):
            rows_here = min(size, count - start)
            x = rng.standard_normal((groups, rows_here, mixing.shape[1]), np.float32) @ mixing
            x += rng.standard_normal(x.shape, np.float32)
            yield x, x @ weight
    return weight, ColumnGrid(scale, np.zeros_like(scale), -8, 7), chunks


def gathered(weight, chunks):
    """The statistics, and the seconds that gathering them takes (not those of making rows up)."""
    gram, seconds = Gram(weight), 0.0
    for x, t in chunks():
        start = time.perf_counter()
        gram.add(x, t)
        seconds += time.perf_counter() - start
    return gram, seconds


def plain(gram: Gram, grid: ColumnGrid):
    """The textbook, row by row, in float32."""
    codes = np.empty_like(gram.weight)
    for g in range(len(codes)):
        one = ColumnGrid(grid.scale[g], grid.zero_point[g], grid.qmin, grid.qmax)
        xx, xe = gram.xx[g].astype(np.float32), gram.xe[g].astype(np.float32)
        ridge = default_damping(gram) * np.trace(xx) / len(xx)
        hessian = xx + np.float32(ridge) * np.eye(len(xx), dtype=np.float32)
        inverse = np.linalg.inv(hessian)
        upper = np.linalg.cholesky(inverse).T
        target = gram.weight[g] + inverse @ xe
        left = target.copy()
        for i in range(len(left)):
            codes[g, i] = one.codes(left[i])
            error = (left[i] - one.values(codes[g, i])) / upper[i, i]
            left[i + 1:] -= upper[i, i + 1:, None] * error
        residual = hessian @ (target - one.values(codes[g]))
        for _ in range(SWEEPS):
            for i in range(len(left)):
                before = one.values(codes[g, i])
                codes[g, i] = one.codes(before + residual[i] / hessian[i, i])
                residual -= hessian[:, i, None] * (one.values(codes[g, i]) - before)
    change = grid.all_rows().values(codes) - gram.weight
    return float(gram.error(change).sum())


def products(groups, rows, columns):
    """Seconds of the solve's large matrix products and factorisations alone."""
    dtype = np.float64 if rows <= 1024 else np.float32
    square = np.eye(rows, dtype=dtype)[None].repeat(groups, 0)
    single, wide = square.astype(np.float32), np.ones((groups, rows, columns), np.float32)
    wide_double = wide.astype(dtype)
    start = time.perf_counter()
    np.linalg.cholesky(square)
    np.linalg.solve(square, wide_double)
    for _ in range(2):
        square @ wide_double  # the errors of both results
    single @ wide  # the residual
    for begin in range(0, rows, ROUNDED_ROWS):
        stop = min(rows, begin + ROUNDED_ROWS)
        single[:, :begin, begin:stop].swapaxes(1, 2) @ wide[:, :begin]
        for _ in range(SWEEPS):
            single[:, :, begin:stop] @ wide[:, begin:stop]
    return time.perf_counter() - start


def best(function, repeat):
    """Least seconds of ``repeat`` calls, and the last result."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def measure(name, args):
    """One row of the table."""
    groups, rows, columns = LAYERS[name]
    count = args.rows
    weight, grid, chunks = made_up(groups, rows, columns, count)
    gram, gathering = gathered(weight, chunks)
    seconds, solution = best(lambda: solve(gram, grid), args.repeat)
    blas = best(lambda: products(groups, rows, columns), args.repeat)[0]
    record = dict(layer=name, problems=groups, rows=rows, columns=columns, gram=gathering,
                  solve=seconds, blas=min(1.0, blas / seconds), gain=solution.gain)
    if not args.no_plain:
        record["plain"], error = best(lambda: plain(gram, grid), 1)
        record["error_over_plain"] = float(solution.error.sum()) / error
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16384, help="sampled positions")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--no_plain", action="store_true", help="leave plain numpy out")
    parser.add_argument("--json", help="write the numbers to this file")
    args = parser.parse_args()
    print(f"{'layer':32} {'G x d x n':>16} {'gram s':>7} {'solve s':>8} {'BLAS %':>7} "
          f"{'plain s':>8} {'error/plain':>11} {'gain':>6}")
    records = []
    for name in args.layers:
        r = measure(name, args)
        records.append(r)
        size = f"{r['problems']} x {r['rows']} x {r['columns']}"
        plain_seconds, ratio = (r.get(k, float("nan")) for k in ("plain", "error_over_plain"))
        print(f"{name:32} {size:>16} {r['gram']:7.2f} {r['solve']:8.2f} {100 * r['blas']:7.0f} "
              f"{plain_seconds:8.2f} {ratio:11.4f} {r['gain']:6.1f}", flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(records, file, indent=1)


if __name__ == "__main__":
    main()
