# SPDX-License-Identifier: Apache-2.0
"""Peak memory of post-training without reconstruction, next to PaddleSlim's own.

Run on Paddle 2.6.2, where PaddleSlim's ``quant_post_static`` works::

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_memory_slim.py [--model PP-LCNetV2]

Every job is a process of its own; both get the same images, 8 a batch, and write a program. *Peak*
is the largest resident size of the process, *before* what Python, Paddle and the images take before
the job begins. Nothing is scored. On Paddle 3 leave out PaddleSlim: ``--ways ours``.

MobileNetV1, 32 images of 224 x 224, Paddle 2.6.2, one thread: hist 1059 MB, ours 895 MB
(solved roundings), both with 339 MB before the job.
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

WAYS = ("hist", "KL", "mse", "ours", "ours, 4-bit weights")
BATCH = 8


def peak_mb() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(model: str, way: str, samples: int):
    """Run one job in this process and print what it took, as JSON."""
    from demo.mobile.workloads import WORKLOADS
    from demo.slim.compare_post import quantize
    import paddle
    work = WORKLOADS[model]
    feed = work.calibration(samples)
    before = peak_mb()
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        quantize(way, work.model_dir(), feed, BATCH, place)
        seconds = time.perf_counter() - start
    print(json.dumps(dict(model=model, way=way, samples=samples, peak_mb=round(peak_mb()),
                          before_mb=round(before), seconds=round(seconds),
                          paddle=paddle.__version__)))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="MobileNetV1")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for way in args.ways:
        if args.one:
            one(args.model, way, args.samples)
            continue
        done = subprocess.run([sys.executable, __file__, "--one", "--model", args.model, "--ways",
                               way, "--samples", str(args.samples)], capture_output=True, text=True,
                              check=False)
        print((done.stdout or done.stderr).strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
