# SPDX-License-Identifier: Apache-2.0
"""Measured numbers of the demos: one JSON per experiment, and the table that is made of it.

A results file holds the command, the environment and a list of runs; a run is one
``setting`` (what was varied), one ``seed`` and what was ``measured``. Tables show mean ±
sample standard deviation over seeds.
"""
import datetime
import json
import os
import re
import resource
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional, Tuple

FORMAT_VERSION = 1
# costs: shown without decimals
COUNTS = ("units", "layers", "iterations", "evaluations", "seconds", "minutes")


NOT_YET = "not measured yet"
STAGES = {"float": "float", "nearest": "nearest", "nearest_bias": "nearest + bias",
          "solved": "solved", "quantized": "MRECG"}  # program in a report -> name in tables


def run_record(setting: Dict[str, str], seed: int, measured: Dict[str, float], **extra) -> Dict:
    """One run; ``extra`` (samples, seconds, ...) is kept but not tabulated."""
    return dict(setting=setting, seed=seed,
                measured={k: round(v, 4) + 0.0 for k, v in measured.items() if v is not None},
                **extra)


def recovery(report, metric: str) -> Dict[str, Optional[float]]:
    """One metric of all programs of a job in percent, whatever the evaluator counts in, by the
    names in ``STAGES``, and ``recovered %``: percent of the loss of nearest rounding with corrected
    biases that was won back, where there was a loss. A job that trains nothing ends with the solved
    roundings and scores them once.
    """
    scale = 1.0 if report.metrics["float"][metric] > 1.0 else 100.0
    found = {name: scale * report.metrics[stage][metric] for stage, name in STAGES.items()
             if stage in report.metrics}
    found.setdefault("solved", found["MRECG"])
    lost = found["float"] - found.get(STAGES["nearest_bias"], found[STAGES["nearest"]])
    share = report.recovered(metric) if lost > 0 else None
    return {**{name: found[name] for name in STAGES.values() if name in found},
            "recovered %": None if share is None else 100.0 * share}


def cell_path(folder: Path, setting: Dict[str, str], seed: int) -> Path:
    """File of one cell of a grid, named after its setting."""
    words = "_".join([*setting.values(), f"seed{seed}"])
    return Path(folder) / (re.sub(r"[^A-Za-z0-9_.-]+", "-", words) + ".json")


def on_one_core(words: List[str], **options) -> Tuple[subprocess.CompletedProcess, float]:
    """Run ``python WORDS...`` with one thread; what came of it, and the processor seconds that it
    and its processes took: other work on the machine does not count.

    Args:
        words(list[str]): behind the interpreter.
        options: further arguments of ``subprocess.run``.
    """
    def spent():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    before = spent()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False,
                          env=dict(os.environ, OMP_NUM_THREADS="1"), **options)
    return done, spent() - before


NOTHING_NEW = "nothing was measured now: the table is of results that were stored before"


def complete_cell(path: Path, script: str, options: List[str], timeout: int = 3600) -> bool:
    """Have ``python SCRIPT --one OPTION...`` write the cell ``path``, unless it is there: a process
    of its own with one thread, whose end without a result is told in a line.

    Args:
        path(Path): of the cell.
        script(str): to run.
        options(list[str]): of this cell.
        timeout(int, optional): seconds. Default: 3600.

    Returns:
        bool: whether it was measured now.
    """
    if path.exists():
        return False
    done, _ = on_one_core([script, "--one", *options], timeout=timeout)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        print(f"{path.stem}: failed: {' '.join(last)}", flush=True)
    else:
        print(f"{path.stem}: {load_results(path)['runs'][0]['measured']}", flush=True)
    return not done.returncode


def measure_cells(cells: Iterable[Tuple[Path, List[str], tuple]], script: str, args,
                  measure: Callable, table: Callable[[], str], timeout: int = 3600) -> int:
    """The end of a script whose table is made of cells: measure those that are absent, then print
    the table.

    Args:
        cells(iterable): path, options and arguments of ``measure``, of each cell.
        script(str): the script itself, see ``complete_cell``.
        args: its command line: with ``one`` it is the process that measures; with ``table``, where
            the script has that, nothing is measured.
        measure(callable): writes a cell.
        table(callable): the table as text.
        timeout(int, optional): seconds of a cell. Default: 3600.

    Returns:
        int: 0, the exit code.
    """
    if args.one:
        for _, _, what in cells:
            measure(*what)
        return 0
    shown = getattr(args, "table", False)
    new = [complete_cell(path, script, options, timeout)
           for path, options, _ in ([] if shown else cells)]
    if not any(new) and not shown:
        print(NOTHING_NEW)
    print(table())
    return 0


def load_cells(folder: Path) -> List[Dict]:
    """The results files of all cells in a folder."""
    return [load_results(path) for path in sorted(Path(folder).glob("*.json"))]


def save_results(path: Path, command: str, runs: List[Dict],
                 cells: Optional[List[Dict]] = None) -> Path:
    """Write a results file.

    Args:
        path(Path): where.
        command(str): what makes it again.
        runs(list): of ``run_record``.
        cells(list, optional): the results files that the runs come from, whose dates, versions and
            devices count. Default: None, measured now and here.
    """
    place = common_place(cells) if cells else _here()
    content = dict(format_version=FORMAT_VERSION, command=command, **place, runs=runs)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def common_place(files: List[Dict]) -> Dict:
    """``date``, ``device`` and ``versions`` of several results files as of one:
    the last date, every device.
    """
    return dict(date=max(f["date"] for f in files),
                device=" and ".join(sorted({f["device"] for f in files})),
                versions=files[-1]["versions"])


def _here() -> Dict:
    from paddle_mrecg.report.report import device_name, installed_versions
    return dict(date=datetime.date.today().isoformat(), device=device_name(),
                versions=installed_versions())


def command_line(script: str, argv: Optional[List[str]]) -> str:
    """The command as another machine can type it: absolute paths lose their folders,
    words with blanks get quotes.
    """
    words = [f"<{Path(word).name}>" if Path(word).is_absolute() else shlex.quote(word)
             for word in argv or sys.argv[1:]]
    return " ".join(["python", script, *words])


def load_results(path: Path) -> Dict:
    """A results file as a dict."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def summarise(runs: List[Dict], where: Optional[Dict[str, str]] = None) -> List[Dict]:
    """Runs of equal setting, taken together.

    Args:
        runs(list): of ``run_record``.
        where(dict, optional): keep only runs whose setting has these values. Default: None.

    Returns:
        list: ``setting``, ``seeds`` (how many) and ``measured`` (name -> (mean, standard
            deviation or None)) in order
        of first appearance.
    """
    groups: Dict[tuple, List[Dict]] = {}
    for run in runs:
        if all(run["setting"].get(k) == v for k, v in (where or {}).items()):
            groups.setdefault(tuple(run["setting"].items()), []).append(run)
    summary = []
    for setting, members in groups.items():
        names = dict.fromkeys(n for m in members for n in m["measured"])
        values = {n: [m["measured"][n] for m in members if n in m["measured"]] for n in names}
        measured = {n: mean_and_deviation(v) for n, v in values.items()}
        summary.append(dict(setting=dict(setting), seeds=len({m["seed"] for m in members}),
                            measured=measured))
    return summary


def mean_and_deviation(values: List[float]) -> Tuple[float, Optional[float]]:
    """Of one value and more; a single one has no deviation."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def cell(value, name: str = "") -> str:
    """``mean ± deviation`` of the measure ``name``; the deviation is left out for one
    seed or when it is nought.
    """
    if value is None:
        return "–"
    mean, deviation = value
    digits = 0 if name in COUNTS else 2
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation else "")


def markdown_table(results: Dict, where: Optional[Dict[str, str]] = None) -> str:
    """A table of all settings with a line below that says how it was measured."""
    summary = summarise(results["runs"], where)
    settings = list(dict.fromkeys(k for row in summary for k in row["setting"]))
    measures = list(dict.fromkeys(k for row in summary for k in row["measured"]))
    lines = ["| " + " | ".join([*settings, *measures, "seeds"]) + " |",
             "|" + "---|" * len(settings) + "---:|" * (len(measures) + 1)]
    for row in summary:
        cells = [str(row["setting"].get(k, "–")) for k in settings]
        cells += [cell(row["measured"].get(k), k) for k in measures]
        lines.append("| " + " | ".join([*cells, str(row["seeds"])]) + " |")
    return "\n".join([*lines, "", provenance(results)])


def provenance(results: Dict) -> str:
    """Command, versions, device and date in one line."""
    return (f"`{results['command']}`: mean ± standard deviation over seeds; "
            f"{describe_place(results)}")


def describe_place(place: Dict) -> str:
    """Device, versions and date of a results file."""
    versions = ", ".join(f"{k} {v}" for k, v in place["versions"].items() if k.startswith("paddle"))
    return f"{place['device']}, {versions}, {place['date']}"
