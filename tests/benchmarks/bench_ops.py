# SPDX-License-Identifier: Apache-2.0
"""The rewritten CPU operations against Paddle's own, in one process.

Run: ``python tests/benchmarks/bench_ops.py [name ...]``. Prints, for forward
alone and for forward and backward together, the least milliseconds of both in
alternating rounds, and the ratio.
"""
import sys
import time

from paddle_mrecg.compat import tune_cpu

print(tune_cpu())

import paddle  # noqa: E402
import paddle.nn.functional as F  # noqa: E402

from paddle_mrecg.graph.ops import cpu  # noqa: E402

ROUNDS = 7


def tensor(*shape, trained=True):
    result = paddle.randn(shape)
    result.stop_gradient = not trained
    return result


def convolution(channels, side, out, kernel, groups=1, batch=32):
    x, w, pad = (tensor(batch, channels, side, side),
                 tensor(out, channels // groups, kernel, kernel), kernel // 2)
    return (x, w), lambda: F.conv2d(x, w, None, 1, pad, 1,
                                    groups), lambda: cpu.convolve(x, w, [pad, pad], groups)


def channel_add():
    x, b = tensor(32, 144, 28, 28), tensor(144, trained=False)
    return (x,), lambda: x + b.reshape([1, -1, 1, 1]), lambda: cpu.channel_add(x, b)


def channel_multiply():
    x, b = tensor(32, 144, 28, 28), tensor(144, trained=False)
    return (x,), lambda: x * b.reshape([1, -1, 1, 1]), lambda: cpu.channel_multiply(x, b)


def batch_norm():
    x, (a, b) = tensor(32, 144, 28, 28), (tensor(144, trained=False) for _ in range(2))
    zero, one = paddle.zeros([144]), paddle.ones([144])
    return (x,), lambda: F.batch_norm(x, zero, one, a,
                                      b), lambda: cpu.channel_affine(x, zero, one, a, b, 1e-5)


def pad():
    x = tensor(32, 144, 28, 28)
    return (x,), lambda: F.pad(x, [2, 2, 2, 2]), lambda: cpu.pad(x, [0, 0, 0, 0, 2, 2, 2, 2])


def nearest():
    x = tensor(32, 144, 14, 14)
    return (x,), lambda: F.interpolate(x, scale_factor=[2, 2]), lambda: cpu.repeat_pixels(x, 2, 2)


def slice_():
    x = tensor(32, 144, 28, 28)
    return (x,), lambda: paddle.slice(x, [1], [36], [72]), lambda: cpu.slice_axis(x, 1, 36, 72)


def mean():
    x = tensor(32, 144, 28, 28)
    return (x,), lambda: x.mean([2, 3], keepdim=True), lambda: F.adaptive_avg_pool2d(x, 1)


CASES = {
    "depthwise 3x3, 144 x 28 x 28": lambda: convolution(144, 28, 144, 3, 144),
    "depthwise 5x5, 144 x 28 x 28": lambda: convolution(144, 28, 144, 5, 144),
    "depthwise 3x3, 288 x 14 x 14": lambda: convolution(288, 14, 288, 3, 288),
    "depthwise 3x3, 576 x 7 x 7": lambda: convolution(576, 7, 576, 3, 576),
    "dense 3x3, 16 x 32 x 32": lambda: convolution(16, 32, 16, 3),
    "dense 3x3, 64 x 28 x 28": lambda: convolution(64, 28, 64, 3),
    "dense 3x3, 96 -> 24 x 40 x 40": lambda: convolution(96, 40, 24, 3, batch=8),
    "grouped 3x3, 64 x 28 x 28, 4 groups": lambda: convolution(64, 28, 64, 3, 4),
    "add per channel": channel_add, "multiply per channel": channel_multiply,
    "batch norm": batch_norm,
    "pad by 2": pad, "nearest upsampling by 2": nearest, "slice of channels": slice_,
    "mean over space": mean,
}


def milliseconds(function, trained, grad):
    start = time.perf_counter()
    with paddle.no_grad():
        function()
    middle = time.perf_counter()
    paddle.grad(function(), trained, grad)
    return 1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)


def main(wanted):
    print(f"Paddle {paddle.__version__}, float32, batch 32; forward | forward and backward: "
          "Paddle's ms, ours, ratio")
    for name, case in CASES.items():
        if wanted and not any(word in name for word in wanted):
            continue
        trained, plain, ours = case()
        grad = paddle.randn(plain().shape)
        rounds = [milliseconds(f, trained, grad) for _ in range(ROUNDS + 1)
                  for f in (plain, ours)][2:]
        slow, fast = ([min(times) for times in zip(*rounds[k::2])] for k in (0, 1))
        print(f"{name:36s}",
              " | ".join(f"{a:6.1f} {b:6.1f} {a / b:5.1f}x" for a, b in zip(slow, fast)),
              flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
