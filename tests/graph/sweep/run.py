# SPDX-License-Identifier: Apache-2.0
"""The sweep: every entry in a process of its own pool, the results as JSON and as a table.

Run as ``python -m tests.graph.sweep.run --format json --out sweep.json``.
"""
import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = 120  # seconds per entry before its process is ended


def run(names, file_format, depth="graph", python=sys.executable, processes=2):
    """Results by name: ``status`` is accepted, refused, different, failed or "not exported".

    Args:
        names(list[str]): entries of FUNCTIONS and NETWORKS.
        file_format(str): ``json`` (Paddle 3) or ``pdmodel``.
        depth(str, optional): ``graph``, or ``job`` to quantize as well. Default: graph.
        python(str, optional): the interpreter with the Paddle to use. Default: this one.
        processes(int, optional): processes at once. Default: 2.
    """
    shares = [names[k::processes] for k in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        parts = pool.map(lambda share: _share(share, file_format, depth, python), shares)
    results = {name: result for part in parts for name, result in part.items()}
    return {name: results[name] for name in names}


def _share(names, file_format, depth, python):
    results, todo = {}, list(names)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", GLOG_minloglevel="4")
    while todo:
        command = [python, "-m", "tests.graph.sweep.entry", file_format, depth, *todo]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment,
                                  cwd=ROOT, timeout=TIMEOUT * len(todo))
            output, code, problem = done.stdout, done.returncode, done.stderr.strip()[-300:]
        except subprocess.TimeoutExpired as error:
            output, code, problem = (error.stdout or b"").decode(), "timeout", ""
        at, exported = None, False
        for line in output.splitlines():
            if line.startswith("START "):
                at, exported = line[len("START "):], False
            elif line.startswith("EXPORTED "):
                exported = True
            elif line.startswith("DONE "):
                result = json.loads(line[len("DONE "):])
                results[result.pop("name")] = result
                at = None
        if at is None and len(results) < len(names) and not output:
            raise RuntimeError(f"the sweep cannot start: {problem}")
        if at is not None:
            results[at] = {"status": "failed", "reason": f"the process ended ({code})"}
            if not exported:
                results[at] = {"status": "not exported", "reason": "Paddle's own predictor crashes"}
        todo = [name for name in names if name not in results]
    return results


def main(argv=None):
    from .entry import FUNCTIONS, NETWORKS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=("json", "pdmodel"), default="json")
    parser.add_argument("--depth", choices=("graph", "job"), default="graph")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--out", required=True)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args(argv)
    names = args.names or [*FUNCTIONS, *NETWORKS]
    results = run(names, args.format, args.depth, args.python)
    Path(args.out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(args.format, args.depth, dict(Counter(r["status"] for r in results.values())))


if __name__ == "__main__":
    main()
