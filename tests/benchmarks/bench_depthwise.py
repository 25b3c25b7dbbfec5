# SPDX-License-Identifier: Apache-2.0
"""What ``fast_depthwise`` saves in a training step of the text direction classifier.

Run: ``python tests/benchmarks/bench_depthwise.py [--batch 8]``, with OMP_NUM_THREADS=1. Printed are
milliseconds of processor time, forward and backward, of every depthwise convolution with Paddle's
kernel and as matrix products, and of a whole quantized step (W4A4, LSQ) with each; the two take
turns, the median counts. Input and labels are random.
"""
import argparse
import statistics
import sys
import time
from pathlib import Path

from paddle_mrecg.compat import import_paddle

import_paddle()  # before Paddle: tuned as in our command line

import numpy as np  # noqa: E402
import paddle  # noqa: E402
import paddle.nn.functional as F  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.classification import text_direction  # noqa: E402
from demo.classification.training.depthwise import fast_depthwise  # noqa: E402
from paddle_mrecg.aware.job import quant_aware_prepare  # noqa: E402


def compared(call, rounds):
    """Milliseconds of ``call`` with Paddle's kernel and with matrices."""
    spent = {False: [], True: []}
    for _ in range(rounds + 1):
        for fast, times in spent.items():
            with fast_depthwise(fast):
                start = time.process_time()
                call()
                times.append(1000.0 * (time.process_time() - start))
    return [statistics.median(times[1:]) for times in spent.values()]  # the first pays for memory


def convolutions(network, images):
    """Every depthwise convolution with the shape of its input."""
    found, hooks = [], []
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.Conv2D) and layer._groups > 1:
            hooks.append(layer.register_forward_pre_hook(
                lambda layer, inputs: found.append((layer, inputs[0].shape))))
    network(images)
    for hook in hooks:
        hook.remove()
    return found


def one(layer, shape, rounds):
    x = paddle.randn(shape)
    x.stop_gradient = False
    return compared(lambda: layer(x).sum().backward(), rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images per step; default 8")
    parser.add_argument("--rounds", type=int, default=7, help="of each kind; default 7")
    arguments = parser.parse_args()
    paddle.seed(0)
    images = paddle.randn([arguments.batch, *text_direction.SHAPE])
    labels = paddle.to_tensor(np.arange(arguments.batch) % text_direction.CLASSES)
    print(f"paddle {paddle.__version__}, batch {arguments.batch}: Paddle's kernel, matrices, ratio")
    for layer, shape in convolutions(text_direction.TextDirection(), images):
        slow, fast = one(layer, shape, arguments.rounds)
        print(f"{list(shape)} kernel {layer._kernel_size} stride {layer._stride}: "
              f"{slow:.1f} ms, {fast:.1f} ms, {slow / fast:.1f}", flush=True)
    network, penalty = quant_aware_prepare(
        text_direction.TextDirection(),
        {"QuantAware": dict(target="simulation", weight_bits=4, activation_bits=4)},
        calibration=[images])
    network.train()
    penalty.on_epoch(0, 1)
    optimizer = paddle.optimizer.Momentum(1e-5, 0.9, penalty.parameter_groups())

    def step():
        (F.cross_entropy(network(images), labels) + penalty()).backward()
        optimizer.step()
        optimizer.clear_grad()
    slow, fast = compared(step, arguments.rounds)
    print(f"a whole step: {slow:.0f} ms, {fast:.0f} ms, {slow / fast:.2f}")


if __name__ == "__main__":
    main()
