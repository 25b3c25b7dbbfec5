# SPDX-License-Identifier: Apache-2.0
"""Kill jobs hundreds of times, in every phase, and see what is lost (see ``tests/kills.py``)::

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_kills.py [--kills 500]

Writes ``demo/results/kills.json`` and exits with 1 when anything was lost. 500 kills take about an
hour on one core.
"""
import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demo.results import command_line, run_record, save_results  # noqa: E402
from tests.kills import Bench  # noqa: E402


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh_every", type=int, default=25,
                        help="each n-th job runs in Python processes started anew (default 25)")
    parser.add_argument("--output", type=Path, default=ROOT / "demo/results/kills.json")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        bench = Bench(folder, args.seed, args.fresh_every, again=0.8, warm=True)

        def report(text):
            print(text, *bench.messages[-1:], flush=True)
            save_results(args.output, command_line("tests/benchmarks/bench_kills.py", argv),
                         _records(bench, args.seed))
        bench.until(args.kills, report)
    print("\n".join(bench.messages))
    return int(any(bench.faults.values()))


def _records(bench: Bench, seed: int):
    """One for each phase, in order, and one for all together."""
    names = [*bench.phases, *sorted(set(bench.kills) - set(bench.phases))]
    runs = [run_record(dict(phase=name), seed, dict(kills=bench.kills[name])) for name in names
            if bench.kills[name]]
    return runs + [run_record(dict(phase="all"), seed, dict(
        kills=sum(bench.kills.values()), jobs=bench.jobs, **bench.faults),
        restored=bench.restored, ways=dict(bench.ways), fresh_jobs=bench.fresh)]


if __name__ == "__main__":
    sys.exit(main())
