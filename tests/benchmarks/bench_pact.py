# SPDX-License-Identifier: Apache-2.0
"""Memory that symmetric PACT keeps for the backward pass, next to
PaddleSlim's PACT and no clip at all.

Run: ``python tests/benchmarks/bench_pact.py [--batch 8 --size 64 --width 0.5]``. MobileNetV3-small
at W8A8 is run forward once in training mode; printed is what is still allocated when the loss is
known, less the weights, and the time of forward and backward.
"""
import argparse
import gc
import sys
import time
from pathlib import Path

from paddle_mrecg.compat import import_paddle

import_paddle()  # before Paddle: tuned as in our command line

import numpy as np  # noqa: E402
import paddle  # noqa: E402

from paddle_mrecg.aware.job import quant_aware_prepare  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo import results  # noqa: E402

SLIM = dict(weight_quantize_type="channel_wise_abs_max",
            activation_quantize_type="moving_average_abs_max", weight_bits=8,
            activation_bits=8, quantizable_layer_type=["Conv2D", "Linear"])


def allocated() -> int:
    """Bytes that Paddle's CPU tensors hold now."""
    gc.collect()
    return paddle.base.core.host_memory_stat_current_value("Allocated", 0)


def slim(net, images, preprocess):
    from paddleslim.dygraph.quant import QAT
    QAT(dict(SLIM, activation_preprocess_type=preprocess)).quantize(net)
    return net


def ours(net, images, quanter):
    settings = dict(weight_bits=8, weight_quanter="abs_max", activation_quanter=quanter)
    return quant_aware_prepare(net, {"QuantAware": settings}, [images])[0]


CASES = {"float": lambda net, images: net,
         "PaddleSlim, no clip": lambda net, images: slim(net, images, None),
         "PaddleSlim, PACT": lambda net, images: slim(net, images, "PACT"),
         "ours, no clip": lambda net, images: ours(net, images, "abs_max"),
         "ours, symmetric PACT": lambda net, images: ours(net, images, "symmetric_pact")}


def measure(prepare, arguments):
    """MiB kept after the forward pass, and seconds of the fastest of a few steps."""
    paddle.seed(0)
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal(shape).astype("float32"))
    net = prepare(paddle.vision.models.mobilenet_v3_small(scale=arguments.width, num_classes=10),
                  images)
    net.train()
    kept, seconds = [], []
    for _ in range(arguments.steps):
        before, start = allocated(), time.process_time()
        loss = net(images).square().mean()
        kept.append(allocated() - before)
        loss.backward()
        seconds.append(time.process_time() - start)
        net.clear_gradients()
        del loss
    return min(kept) / 2**20, min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 8), ("size", 64), ("steps", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--results", metavar="FILE",
                        help="write a results file, e.g. "
                             "demo/classification/results/pact_cost.json")
    arguments = parser.parse_args()
    found = {name: measure(prepare, arguments) for name, prepare in CASES.items()}
    for name, (kept, seconds) in found.items():
        print(f"{name:22s} {kept:8.1f} MiB {1000 * seconds:8.0f} ms")
    plain = found["PaddleSlim, no clip"][0]
    slims, own = found["PaddleSlim, PACT"][0] - plain, found["ours, symmetric PACT"][0] - plain
    print(f"over PaddleSlim without a clip, its PACT keeps {slims:.1f} MiB more, ours {own:.1f}: "
          f"{own / slims:.2f} of that")
    if arguments.results:
        setting = dict(batch=arguments.batch, size=arguments.size, width=f"{arguments.width:g}")
        runs = [results.run_record(dict(setting, case=name), 0,
                                   {"MiB kept": kept, "step ms": 1e3 * seconds})
                for name, (kept, seconds) in found.items()]
        results.save_results(Path(arguments.results),
                             results.command_line("tests/benchmarks/bench_pact.py", None), runs)


if __name__ == "__main__":
    main()
