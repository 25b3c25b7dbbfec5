# SPDX-License-Identifier: Apache-2.0
"""What bin regularization adds to a training step of MobileNetV2 with
quantized weights and activations.

Run: ``python tests/benchmarks/bench_training.py [--size 128 --batch 16]``, with
OMP_NUM_THREADS=1. Printed are

* ``alone``: processor time of the loss and its backward pass, as a share of that of a step without;
  the least of all rounds, which other processes disturb least;
* ``loop``: the same for a loop over bins, as the paper writes it (with ``--loop``);
* ``with loss``, ``with injection``: how much longer whole steps take, median over rounds in
  which the kinds take turns.

The cost depends on the number of weights and not on that of images, so it shows most in
small batches of small images.
"""
import argparse
import sys
import time
from pathlib import Path

from paddle_mrecg.compat import import_paddle

import_paddle()  # before Paddle: tuned as in our command line

import numpy as np  # noqa: E402
import paddle  # noqa: E402

from paddle_mrecg.aware.job import quant_aware_prepare, quantized_layers  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo import results  # noqa: E402

BITS = (2, 3, 4, 8)


def loop_over_bins(layers):
    """The paper's loss as it is written, with as many passes over a weight as it has levels."""
    total = paddle.zeros([])
    for _, layer in layers:
        weight, quanter = layer.weight, layer.weight_quanter
        step, codes = quanter.step(), quanter.codes(weight)
        for code in range(quanter.qmin, quanter.qmax + 1):
            inside = paddle.masked_select(weight, codes == code)
            if inside.size:
                total = total + (inside.mean() - code * step).square().sum()
            if inside.size > 1:
                total = total + inside.var(unbiased=False)
    return total


class Training:
    """One network with its optimizer."""

    def __init__(self, arguments, bits, bin_regularization=None, mode="loss"):
        paddle.seed(0)
        rng = np.random.default_rng(0)
        self.images = paddle.to_tensor(rng.normal(size=(arguments.batch, 3, arguments.size,
                                                        arguments.size)).astype("float32"))
        self.labels = paddle.to_tensor(rng.integers(0, 10, arguments.batch))
        self.model = paddle.vision.models.mobilenet_v2(scale=arguments.width, num_classes=10)
        for layer in self.model.sublayers():
            if isinstance(layer, paddle.nn.BatchNorm2D):
                # untrained statistics let activations vanish, and calibration finds steps of 1e-8
                layer._momentum = 0.0
        self.model(self.images)
        config = {"QuantAware": dict(target="simulation", weight_bits=bits, activation_bits=bits,
                                     penalty_mode=mode,
                                     weight_per_channel=arguments.per_channel)}
        if bin_regularization is not None:
            config["BinRegularization"] = bin_regularization
        _, self.penalty = quant_aware_prepare(self.model, config, calibration=[self.images])
        self.penalty.on_epoch(0, 1)
        self.optimizer = paddle.optimizer.Momentum(1e-4, 0.9, self.penalty.parameter_groups())

    def step(self):
        loss = (paddle.nn.functional.cross_entropy(self.model(self.images), self.labels)
                + self.penalty())
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()


def processor_time(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(trainings, rounds):
    """Seconds of every training's step in every round, ``[rounds, trainings]``;
    the trainings take turns.
    """
    return np.array([[processor_time(training.step) for training in trainings]
                     for _ in range(rounds + 1)])[1:]  # the first round pays for memory


def alone(loss, rounds):
    return min(processor_time(lambda: loss().backward()) for _ in range(rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the images; default 128")
    parser.add_argument("--batch", type=int, default=16, help="images per step; default 16")
    parser.add_argument("--width", type=float, default=1.0,
                        help="multiplier of the channels; default 1.0")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each kind; default 7")
    parser.add_argument("--per_channel", action="store_true",
                        help="one step per output channel; the paper has one per layer")
    parser.add_argument("--loop", action="store_true",
                        help="also the loop over bins, which is slow")
    parser.add_argument("--results", metavar="FILE",
                        help="write a results file, e.g. demo/classification/results/bin_cost.json")
    arguments = parser.parse_args()
    runs, setting = ([], dict(batch=arguments.batch, size=arguments.size,
                              width=f"{arguments.width:g}"))
    print(f"paddle {paddle.__version__}, MobileNetV2 x{arguments.width:g}, {arguments.batch} "
          f"images of {arguments.size}x{arguments.size}, one step per "
          f"{'channel' if arguments.per_channel else 'layer'}")
    names = ["alone %", "with loss %", "with injection %", *["loop %"] * arguments.loop]
    print(f"{'bits':>4}{'step':>10}" + "".join(f"{name:>18}" for name in names))
    for bits in BITS:
        on = dict(schedule="S1")
        trainings = [Training(arguments, bits), Training(arguments, bits, on),
                     Training(arguments, bits, on, "injection")]
        seconds = compare(trainings, arguments.rounds)
        step, longer = seconds[:, 0].min(), np.median(seconds / seconds[:, :1], axis=0)[1:] - 1
        shares = [alone(trainings[1].penalty, 4 * arguments.rounds) / step, *longer]
        if arguments.loop:
            layers = list(quantized_layers(trainings[0].model))
            shares.append(alone(lambda layers=layers: loop_over_bins(layers), 2) / step)
        print(f"{bits:>4}{1e3 * step:>7.0f} ms" + "".join(f"{100 * v:>18.1f}" for v in shares),
              flush=True)
        measured = {"step ms": 1e3 * step,
                    **{name: 100 * float(v) for name, v in zip(names, shares)}}
        runs.append(results.run_record(dict(setting, bits=f"W{bits}A{bits}"), 0, measured))
    if arguments.results:
        results.save_results(Path(arguments.results),
                             results.command_line("tests/benchmarks/bench_training.py", None), runs)


if __name__ == "__main__":
    main()
