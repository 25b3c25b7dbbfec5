# SPDX-License-Identifier: Apache-2.0
"""Tables of what was done to break jobs, and of the memory that they take: from the results of
``tests/benchmarks/bench_kills.py``, ``bench_fuzz.py``, ``bench_memory.py`` and
``bench_memory_slim.py``.
"""
from pathlib import Path

from demo.results import NOT_YET, describe_place, load_results

FAULTS = "units lost", "results lost", "other bytes", "files left behind"


def kills(path: Path) -> str:
    """Kills by phase, and what they cost."""
    if not path.exists():
        return NOT_YET
    results = load_results(path)
    *phases, last = results["runs"]
    measured = {k: int(v) for k, v in last["measured"].items()}
    lines = ["| killed in | " + " | ".join(r["setting"]["phase"] for r in phases) + " | all |",
             "|---|" + "---:|" * (len(phases) + 1),
             "| kills | " + " | ".join(f"{r['measured']['kills']:.0f}" for r in phases)
             + f" | {measured['kills']} |", ""]
    others = sum(v for k, v in measured.items() if k not in ("kills", "jobs", *FAULTS))
    lines += [f"{measured['kills']} kills of {measured['jobs']} jobs, {last['fresh_jobs']} of them "
              f"in processes started anew; {last['restored']} units came back in the runs that "
              "ended. " + ", ".join(f"{name}: {measured[name]}" for name in FAULTS)
              + f", other faults: {others}."]
    return "\n".join([*lines, "", _source(results)])


def fuzz(path: Path) -> str:
    """What was read or refused in a sentence."""
    if not path.exists():
        return NOT_YET
    results = load_results(path)
    lines = ["| damaged | number | tracebacks, hangs | seconds |", "|---|---:|---:|---:|"]
    lines += [f"| {r['setting']['what']} | {r['measured']['number']:,.0f} | "
              f"{r['measured']['failures']:.0f} | {r['measured']['seconds']:.0f} |"
              for r in results["runs"]]
    return "\n".join([*lines, "", _source(results)])


def memory(path: Path) -> str:
    """Predicted and measured peaks."""
    if not path.exists():
        return NOT_YET
    results = load_results(path)
    lines = ["| model | samples | limit | activations | predicted | measured | error | in files | "
             "output error |", "|---|---:|---:|---|---:|---:|---:|---:|---:|"]
    for run in results["runs"]:
        setting, found = run["setting"], run["measured"]
        lines.append(f"| {setting['model']} | {setting['samples']} | {setting['memory_limit_mb']} "
                     f"| {setting['cache_dtype']} | {found['predicted']:.0f} "
                     f"| {found['measured']:.0f} | {found['error']:+.1f} % | {found['files']:.0f} "
                     f"| {found['output_error']:.3g} % |")
    return "\n".join([*lines, "", _source(results)])


def memory_slim(path: Path) -> str:
    """Peaks of whole jobs next to PaddleSlim's."""
    if not path.exists():
        return NOT_YET
    results = load_results(path)
    lines = ["| model | images | job | peak | before the job |", "|---|---:|---|---:|---:|"]
    for run in results["runs"]:
        setting, found = run["setting"], run["measured"]
        lines.append(f"| {setting['model']} | {setting['samples']} | {setting['way']} "
                     f"| {found['peak']:.0f} | {found['before']:.0f} |")
    return "\n".join([*lines, "", _source(results)])


def _source(results) -> str:
    return f"`{results['command']}`; {describe_place(results)}"
