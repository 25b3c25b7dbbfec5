# SPDX-License-Identifier: Apache-2.0
"""Peak memory of post-training without reconstruction, next to PaddleSlim's own.

Run on Paddle 2.6.2, where PaddleSlim's ``quant_post_static`` works::

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_memory_slim.py [--model PP-LCNetV2]

Every job is a process of its own; both get the same images, 8 a batch, and write a program. *Peak*
is the largest resident size of the process, *before* what Python, Paddle and the images take before
the job begins. Nothing is scored. On Paddle 3 leave out PaddleSlim: ``--ways ours``. Writes
``demo/results/memory_slim.json``.
"""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo.results import command_line, run_record, save_results  # noqa: E402

WAYS = ("hist", "KL", "mse", "ours", "ours, 4-bit weights")
SCRIPT = "tests/benchmarks/bench_memory_slim.py"


def peak_mb() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(model: str, way: str, samples: int):
    """Run one job in this process and print what it took, as JSON."""
    from demo.mobile.workloads import WORKLOADS
    from demo.slim.compare_post import quantize
    work = WORKLOADS[model]
    feed = work.calibration(samples)
    before = peak_mb()
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        quantize(way, work.model_dir(), feed, work, place)
        seconds = time.perf_counter() - start
    print(json.dumps(dict(peak=peak_mb(), before=before, seconds=seconds)))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="MobileNetV1")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--output", type=Path, default=ROOT / "demo/results/memory_slim.json")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args, runs = parser.parse_args(), []
    for way in args.ways:
        if args.one:
            one(args.model, way, args.samples)
            continue
        done = subprocess.run([sys.executable, __file__, "--one", "--model", args.model, "--ways",
                               way, "--samples", str(args.samples)], capture_output=True, text=True,
                              check=False)
        last = (done.stdout + done.stderr).strip().splitlines()[-1]
        print(f"{way}: {last}", flush=True)
        if not done.returncode:
            setting = dict(model=args.model, way=way, samples=str(args.samples))
            runs.append(run_record(setting, 0, json.loads(done.stdout.splitlines()[-1])))
            save_results(args.output, command_line(SCRIPT, None), runs)


if __name__ == "__main__":
    main()
