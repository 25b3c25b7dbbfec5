# SPDX-License-Identifier: Apache-2.0
"""The sweep: every entry in a process of its own pool, the results as JSON and as a table.

Run as ``python -m tests.graph.sweep.run --format json --out sweep.json``.
"""
import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = 120  # seconds per entry before its process is ended
STEP = 20  # entries between two saves of the results, so that a run that is ended can go on


def run(names, file_format, depth="graph", python=sys.executable, processes=2):
    """Results by name: ``status`` is accepted, refused, different, failed or "not exported".

    Args:
        names(list[str]): entries of FUNCTIONS and NETWORKS.
        file_format(str): ``json`` (Paddle 3) or ``pdmodel``.
        depth(str, optional): ``graph``, or ``job`` to quantize as well. Default: graph.
        python(str, optional): the interpreter with the Paddle to use. Default: this one.
        processes(int, optional): processes at once. Default: 2.
    """
    shares = [names[k::processes] for k in range(processes) if names[k::processes]]
    with ThreadPoolExecutor(len(shares)) as pool:
        parts = pool.map(lambda share: _share(share, file_format, depth, python), shares)
    results = {name: result for part in parts for name, result in part.items()}
    return {name: results[name] for name in names}


def run_on(names, path, again=False, **how):
    """``run`` with the results kept in ``path``, one line each.

    Args:
        names(list[str]): entries.
        path(Path): the JSON file to continue or to create.
        again(bool, optional): run entries that are there already as well. Default: False.
        **how: arguments of ``run``.
    """
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    todo = [name for name in names if again or name not in results]
    for start in range(0, len(todo), STEP):
        results.update(run(todo[start:start + STEP], **how))
        part = path.with_name(path.name + ".part")
        lines = [f"{json.dumps(name)}: {json.dumps(result)}" for name, result in results.items()]
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        os.replace(part, path)
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


def table(runs):
    """Markdown of several runs: counts, then every entry that is not accepted, with its reason.

    Args:
        runs(dict[str, dict]): what was run -> results by name, as of ``run``.
    """
    states = ("accepted", "refused", "different", "failed", "not exported")
    lines = ["| format | " + " | ".join(states) + " |", "|---" * (len(states) + 1) + "|"]
    for title, results in runs.items():
        count = Counter(r["status"] for r in results.values())
        lines.append(f"| {title} | " + " | ".join(str(count[s]) for s in states) + " |")
    lines += ["", "| entry | format | result | reason |", "|---|---|---|---|"]
    for title, results in runs.items():
        for name, result in results.items():
            if result["status"] not in ("accepted", "not exported"):
                reason = result.get("reason") or f"difference {result['difference']:.1e}, " \
                    f"simulation {result['simulation']:.1e}"
                lines.append(f"| {name} | {title} | {result['status']} | "
                             + reason.replace("|", "/") + " |")
    return "\n".join(lines + _not_exported(runs)) + "\n"


def _not_exported(runs):
    """What Paddle itself cannot export or run, by its own words, whichever function they name."""
    lines = ["", "| not exported | format | Paddle's words |", "|---|---|---|"]
    for title, results in runs.items():
        if title.endswith("-job") and title[:-len("-job")] in runs:
            continue  # the same entries once more
        found = {}
        for name, result in results.items():
            if result["status"] == "not exported":
                words = re.sub(r"\w+\(\)", "f()", result["reason"].replace("|", "/"))
                words = re.sub(r"got \w+ \(at .*", "got ...", words)
                found.setdefault(words, []).append(name)
        for words, names in sorted(found.items(), key=lambda item: -len(item[1])):
            lines.append(f"| {len(names)}: {', '.join(names)} | {title} | {words} |")
    return lines


def write_table(paths, target):
    """Write the table of result files, each under its name, into a Markdown file."""
    runs = {Path(p).stem: json.loads(Path(p).read_text(encoding="utf-8")) for p in paths}
    head = ("# Sweep over exported programs\n\nGenerated by `python -m tests.graph.sweep.run "
            "--table FILE.md RESULT.json ...`; do not edit. \"Accepted\" means: read, written, and "
            "run by Paddle's predictor and by our simulation, equal to Paddle's own run of the "
            "exported file to 1e-4 of the output's largest value. Runs named \"job\" also quantize "
            "the network to W8A8 (solved roundings, nothing trained), and the exported program "
            "computes what was simulated. \"Not exported\" means that "
            "Paddle's own exporter or predictor fails, before we are asked.\n\n")
    Path(target).write_text(head + table(runs), encoding="utf-8")


def main(argv=None):
    from .entry import FUNCTIONS, NETWORKS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=("json", "pdmodel"), default="json")
    parser.add_argument("--depth", choices=("graph", "job"), default="graph")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", help="the JSON to write; entries that it holds are not run again")
    parser.add_argument("--again", action="store_true", help="run entries of --out again as well")
    parser.add_argument("--table", help="write this Markdown file of the results named behind it")
    parser.add_argument("names", nargs="*", help="entries, or result files for --table")
    args = parser.parse_args(argv)
    if args.table:
        write_table(args.names, args.table)
        return
    names = args.names or [*FUNCTIONS, *NETWORKS]
    results = run_on(names, Path(args.out or "sweep.json"), args.again, file_format=args.format,
                     depth=args.depth, python=args.python, processes=args.processes)
    print(args.format, args.depth, dict(Counter(r["status"] for r in results.values())))


if __name__ == "__main__":
    main()
