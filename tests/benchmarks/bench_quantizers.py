# SPDX-License-Identifier: Apache-2.0
"""Fused quantizers against the same formulas in plain autograd, in one process.

Run: ``python tests/benchmarks/bench_quantizers.py``. Prints milliseconds
(median) of forward and backward together, and the ratio.
"""
import time

import numpy as np
import paddle
import paddle.nn.functional as F

from paddle_mrecg.grids.affine import Encoding, QuantSpec
from paddle_mrecg.post.drop import DropMask
from paddle_mrecg.post.activation_quantizer import ActivationQuantizer
from paddle_mrecg.grids.observers import weight_encoding
from paddle_mrecg.post.soft_rounding import SoftRounding

ROUNDS = 9


def median_ms(step):
    for _ in range(2):
        step()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return 1e3 * sorted(seconds)[ROUNDS // 2]


def report(name, plain, fused):
    slow, fast = median_ms(plain), median_ms(fused)
    print(f"{name:44s} plain {slow:8.2f} ms   fused {fast:8.2f} ms   {slow / fast:5.2f}x")


def bench_rounding(shape):
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    encoding = weight_encoding(weight, QuantSpec(4, True, True, 0), "min_max")
    rounding = SoftRounding(weight, encoding)
    scale = paddle.to_tensor(encoding.along(encoding.scale, 4))
    floor = paddle.floor(paddle.to_tensor(weight) / scale)
    grad = paddle.to_tensor(np.random.default_rng(1).normal(size=shape).astype(np.float32))

    def plain(beta):
        h = paddle.clip(F.sigmoid(rounding.alpha) * 1.2 - 0.1, 0.0, 1.0)
        soft = paddle.clip(floor + h, -8, 7) * scale
        outputs, grads = [soft], [grad]
        if beta:
            outputs.append(0.01 * (1 - (2 * h - 1).abs().pow(beta)).sum())
            grads.append(None)
        paddle.autograd.backward(outputs, grads)
        rounding.alpha.clear_gradient()

    def fused(beta):
        rounding.soft(0.01, beta).backward(grad)
        rounding.alpha.clear_gradient()

    for beta in (None, 7.3):
        report(f"rounding {shape} beta {beta}", lambda: plain(beta), lambda: fused(beta))


def bench_activation(shape, bits, keep):
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32),
                         stop_gradient=False)
    grad = paddle.to_tensor(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    spec = QuantSpec(bits, True, True)
    quantizer = ActivationQuantizer(Encoding(spec, 3.0 / spec.qmax, 0), learn=True)
    drop = DropMask(keep) if keep < 1 else None
    scale = quantizer.parameter

    def plain():
        place = x / scale
        rounded = place + (paddle.round(place) - place).detach()
        y = paddle.clip(rounded, spec.qmin, spec.qmax) * scale
        if keep < 1:
            y = paddle.where(paddle.rand(x.shape) < keep, y, x)
        y.backward(grad)
        x.clear_gradient()
        scale.clear_gradient()

    def fused():
        quantizer(x, drop and drop.draw(x.shape)).backward(grad)
        x.clear_gradient()
        scale.clear_gradient()

    report(f"activation {shape} {bits} bit keep {keep}", plain, fused)


def bench_mask(shape):
    mask = DropMask(0.5)
    x = paddle.ones(shape)
    report(f"mask {shape}, times a tensor",
           lambda: (paddle.rand(shape) < 0.5).astype("float32") * x,
           lambda: mask.draw(shape) * x)


def main():
    print("paddle", paddle.__version__)
    for shape in ((64, 64, 3, 3), (512, 512, 3, 3)):
        bench_rounding(shape)
    for bits, keep in ((8, 1.0), (4, 1.0), (4, 0.5)):
        bench_activation((32, 144, 28, 28), bits, keep)
    for shape in ((32, 144, 28, 28), (32, 144, 56, 56)):
        bench_mask(shape)


if __name__ == "__main__":
    main()
