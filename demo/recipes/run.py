# SPDX-License-Identifier: Apache-2.0
"""Run the recipes of post-training in ``configs`` as they stand, and keep what they reach.

    python demo/recipes/run.py                            # all of them: hours of one core
    python demo/recipes/run.py picodet_w8a8 ppocrv4_rec_mrecg_w4a8 --seeds 0 1 2
    python demo/recipes/run.py --table                    # of the results that exist

Every recipe says in its header by which command it is run; that command runs here, in a process of
its own with one thread and per seed, and leaves ``results/RECIPE.json``, from which
``demo/update_results.py`` fills in the header and the table. Seeds that stand there already are not
run again. Seconds are those of the processor without the scoring, so that
other work on the machine does not count.
"""
import argparse
import itertools
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demo import results, sources  # noqa: E402

RESULTS = ROOT / "demo" / "recipes" / "results"
UNCOUNTED = ("evaluate", "measure speed")  # stages that a user's job need not have


def recipes() -> Dict[str, Path]:
    """Name -> file of the recipes whose header asks for results of this script."""
    found = {path.stem: path for path in sorted((ROOT / "configs").rglob("*.yaml"))}
    return {name: path for name, path in found.items()
            if f"# result: recipes/{name}\n" in path.read_text(encoding="utf-8")}


def command(path: Path) -> List[str]:
    """The words of the first command in a recipe's header.

    Raises:
        ValueError: there is none.
    """
    text = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if text or line.startswith("#   python "):
            text += line.lstrip("# ").rstrip("\\") if line.startswith("#") else ""
            if not line.endswith("\\"):
                return shlex.split(text)
    raise ValueError(f"{path.name}: the header has no line that begins with `#   python `")


def measure(name: str, path: Path, seed: int):
    """Run one recipe with one seed, and put that into its results file."""
    words = command(path)
    with tempfile.TemporaryDirectory() as place:
        words[words.index("--save_dir") + 1] = place + "/result"
        words += ["--seed", str(seed)]
        done, spent = results.on_one_core(words[1:], cwd=ROOT)
        if done.returncode == 1 and "skipped:" in done.stdout:
            raise sources.Absent(done.stdout.strip().partition("skipped: ")[2])
        if done.returncode:
            raise RuntimeError(f"{name}: " + "\n".join(done.stderr.strip().splitlines()[-3:]))
        report = json.loads(Path(place, "result", "report.json").read_text(encoding="utf-8"))
    file = RESULTS / f"{name}.json"
    others = [run for run in _runs(file) if run["seed"] != seed]
    runs = sorted(others + records(report, spent), key=lambda run: run["seed"])
    seeds = " ".join(map(str, dict.fromkeys(run["seed"] for run in runs)))
    results.save_results(file, f"python demo/recipes/run.py {name} --seeds {seeds}", runs)


def _runs(file: Path) -> List[Dict]:
    return results.load_results(file)["runs"] if file.exists() else []


def records(report: Dict, spent: float) -> List[Dict]:
    """A run per metric of a ``report.json`` whose job took ``spent`` processor seconds."""
    from paddle_mrecg.report.report import Report
    scores, laps = Report(metrics=report["metrics"]), report["seconds"]
    seconds = spent * (1.0 - sum(laps.get(k, 0.0) for k in UNCOUNTED) / sum(laps.values()))
    trained = sum(u["iterations"] > 0 for u in report["units"])
    settings = report["config"]["QuantPost"]
    return [results.run_record({"metric": metric}, report["seed"],
                               {**results.recovery(scores, metric), "seconds": seconds},
                               bits=f"W{settings['weight_bits']}A{settings['activation_bits']}",
                               calibration=report["samples"].get("calibration"),
                               float_layers=len(report["float_tensors"]),
                               trained=f"{trained} of {len(report['units'])}",
                               verdict=report["verification"].get("verdict"))
            for metric in report["metrics"]["float"]]


def table(folder: Path = None) -> str:
    """One row per recipe and metric."""
    folder = folder or RESULTS
    cells = {path.stem: results.load_results(path) for path in sorted(Path(folder).glob("*.json"))}
    if not cells:
        raise sources.Absent(f"no results in {folder}: run without --table")
    names = list(results.STAGES.values())
    lines = ["| recipe | bits | images | metric | " + " | ".join(names)
             + " | seconds (one core) | units trained |",
             "|---|---|---:|---|" + "---:|" * (len(names) + 1) + "---|"]
    for name, file in cells.items():
        bits = [", ".join(dict.fromkeys(str(r[key]) for r in file["runs"]))
                for key in ("bits", "calibration", "trained")]
        for row in results.summarise(file["runs"]):
            measured = row["measured"]
            lines.append(f"| `{name}` | {bits[0]} | {bits[1]} | {row['setting']['metric']} | "
                         + " | ".join(results.cell(measured.get(n)) for n in names)
                         + f" | {results.cell(measured['seconds'], 'seconds')} | {bits[2]} |")
    return "\n".join([*lines, "", "`python demo/recipes/run.py`: "
                      + results.describe_place(results.common_place(list(cells.values())))])


@sources.explained
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    known = recipes()
    parser.add_argument("recipes", nargs="*", metavar="RECIPE",
                        help="names without folder and .yaml (default: all): " + ", ".join(known))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--again", action="store_true",
                        help="measure seeds again whose results exist")
    parser.add_argument("--table", action="store_true",
                        help="print the table and measure nothing")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.recipes) - set(known))
    if unknown:
        parser.error(f"not a recipe of post-training: {', '.join(unknown)}")
    for name, seed in [] if args.table else itertools.product(args.recipes or known, args.seeds):
        if args.again or seed not in {run["seed"] for run in _runs(RESULTS / f"{name}.json")}:
            try:
                measure(name, known[name], seed)
            except (sources.Absent, RuntimeError) as error:
                print(f"{name}: {error}", flush=True)
    print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
