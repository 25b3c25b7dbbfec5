# SPDX-License-Identifier: Apache-2.0
"""How far a W8A8 program in Paddle Inference is from its simulation, layer by layer.

    python demo/mobile/agreement.py            # PP-LCNetV2; writes results/agreement.json

Three figures per layer, root mean square over that of the layer's output: ``alone`` on equal
inputs, ``together`` in whole runs, and ``1e-6`` for the simulation against itself when every
activation is changed by 1e-6 before it is rounded. Where ``together`` follows ``1e-6`` and not
``alone``, the network amplifies last bits and the runtime is right.
"""
import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demo import results  # noqa: E402
from demo.mobile.workloads import WORKLOADS, batches  # noqa: E402

TARGET = Path(__file__).resolve().parent / "results" / "agreement.json"
SHOWN = 12  # layers of the table: evenly spaced, and the last


def rows(prefix, feed):
    """(layer, alone, together, 1e-6) in percent, in order."""
    from paddle_mrecg.deploy.check.cut import cut, cut_feed, cut_points, layers
    from paddle_mrecg.deploy.check.doctor import JITTER
    from paddle_mrecg.deploy.check.runtimes import run_inference
    from paddle_mrecg.deploy.compare import relative
    from paddle_mrecg.deploy.simulate import simulate
    from paddle_mrecg.graph.load import load_graph
    graph = load_graph(prefix, allow_quantized=True)
    points = cut_points(graph)
    values, shaken = simulate(graph, feed, points), simulate(graph, feed, points, JITTER)
    parts = cut(graph, points)
    alone = run_inference(parts, cut_feed(parts, feed, values)).outputs
    whole = graph.copy()
    whole.outputs = points
    together = run_inference(whole, feed).outputs
    return [(layer.name, *(100 * relative(values[name], found[name])
                           for found in (alone, together, shaken)))
            for name, layer in zip(points, layers(parts))]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=WORKLOADS, default="PP-LCNetV2")
    parser.add_argument("--calibration", type=int, default=8)
    parser.add_argument("--samples", type=int, default=4)
    args = parser.parse_args(argv)
    from paddle_mrecg import quant_post_mrecg
    work = WORKLOADS[args.model]
    with tempfile.TemporaryDirectory() as place:
        # how weights are rounded does not matter here
        config = dict(Global=dict(visualdl=False, measure_speed=False),
                      MRECG=dict(preset="none"),
                      QuantPost=dict(rounding="nearest", bias_correction=False,
                                     activation_observer="min_max"),
                      Data=dict(num_samples=args.calibration, batch_size=work.batch_size))
        done = quant_post_mrecg(work.model_dir(),
                                batches(work.calibration(args.calibration), work.batch_size),
                                config, save_dir=place + "/out")
        inputs, _ = work.evaluation(args.samples)
        found = rows(done.prefix, inputs)
        verdict = done.report.verification
    step = max(1, len(found) // (SHOWN - 1))
    runs = [results.run_record(
        dict(model=args.model, layer=f"{k + 1}: {name}",
             shown="yes" if k % step == 0 or k == len(found) - 1 else "no"), 0,
        dict(alone=alone, together=together, **{"1e-6": shaken}))
        for k, (name, alone, together, shaken) in enumerate(found)]
    results.save_results(TARGET, f"python demo/mobile/agreement.py --model '{args.model}'", runs)
    print(verdict)


if __name__ == "__main__":
    main()
