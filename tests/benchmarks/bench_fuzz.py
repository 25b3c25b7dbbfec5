# SPDX-License-Identifier: Apache-2.0
"""The long run of the fuzzers: hostile configs, damaged models and images by the thousand::

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_fuzz.py

Each is read or refused in one sentence; anything else, or a hang, fails a test of those files.
Writes ``demo/results/fuzz.json`` and exits with 1 when there was a failure.
"""
import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demo.results import run_record, save_results  # noqa: E402

# what -> file of tests, those that fuzz, examples for each of them
FUZZERS = {"configs": ("tests/config/test_hostile.py", "test_any", 2500),
           "models": ("tests/graph/test_damaged.py", "test_wrong", 1000),
           "images": ("tests/data/test_damaged_images.py", "test_wrong", 300)}
COUNTS = re.compile(r"(\d+) passing\D*(\d+) failing\D*(\d+) invalid")  # as Hypothesis reports
SECONDS = 3600  # until a fuzzer counts as hanging


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "demo/results/fuzz.json")
    args = parser.parse_args(argv)
    runs, failed = [], False
    for what, (file, names, examples) in FUZZERS.items():
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", names,
             "--hypothesis-show-statistics", "--hypothesis-seed=0"], cwd=ROOT, capture_output=True,
            text=True, timeout=SECONDS, check=False,
            env=dict(os.environ, MRECG_FUZZ=str(examples)))
        passing, failing, _ = (sum(map(int, column)) for column in zip(
            (0, 0, 0), *COUNTS.findall(done.stdout)))
        failed |= bool(done.returncode) or not passing
        if done.returncode:
            print(done.stdout[-4000:], flush=True)
        measured = dict(number=passing + failing, failures=max(failing, int(done.returncode != 0)),
                        seconds=time.perf_counter() - start)
        print(f"{what}: {measured}", flush=True)
        runs.append(run_record(dict(what=what), 0, measured))
    save_results(args.output, "python tests/benchmarks/bench_fuzz.py", runs)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
