# SPDX-License-Identifier: Apache-2.0
"""Architectures of PaddleClas, PaddleDetection, PaddleOCR, PaddleSeg and PaddleYOLO: are their
exported programs read?

    python demo/hosts/zoo.py --host PaddleClas      # of the installed package, or of a --checkout
    python demo/hosts/zoo.py --host PaddleDetection --checkout ../PaddleDetection
    python demo/hosts/zoo.py --host PaddleSeg --checkout ../PaddleSeg --models lraspp pidnet
    python demo/hosts/zoo.py --table

Each is built with drawn weights and exported by the Paddle at hand, read, folded and written again;
both programs run without Paddle's rewrites. Their outputs are the same where they differ by at most
``TOLERANCE`` of the largest value, or by no more than ten times what those of the exported program
change by with the last digits of its input, as in the first run of every job (they decide which of
drawn boxes are the best, and which word comes next). Nothing is quantized here. One process for
every model; those that are in the results already are not run again.
"""
import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demo import results, sources  # noqa: E402

RESULTS = ROOT / "demo" / "hosts" / "results" / "zoo"
TOLERANCE = 1e-3
CHANGES = 1e-6, -1e-6, 3e-6  # of the input, relative: a few last digits
TIMEOUT = 600  # seconds for a model
EXPORTED = "exported: from here on it is ours"
READ, DIFFERENT, REFUSED, FAILED, NO = "read", "different", "refused", "failed", "not exported"


def tried(host: str, model: str, checkout: Path) -> Dict:
    """What becomes of one model: ``status``, and ``reason`` or what was measured."""
    from demo.hosts.zoo_export import export
    from paddle_mrecg.deploy.predictor import last_line
    from paddle_mrecg.errors import MrecgError
    with tempfile.TemporaryDirectory() as folder:
        try:
            prefix, feed, want = export(host, model, checkout, Path(folder))
        except Exception as error:  # of the host, of Paddle's exporter, or of what it wrote
            said = re.sub(r"(?<![\w.])/[\w./+-]+/", "", last_line(error))  # without folders
            return dict(status=NO, reason=f"{type(error).__name__}: {said}")
        print(EXPORTED, flush=True)
        try:
            return compared(prefix, feed, want)
        except MrecgError as error:
            return dict(status=REFUSED, reason=str(error).replace(folder + "/", ""))
        except Exception as error:
            return dict(status=FAILED, reason=f"{type(error).__name__}: {last_line(error)}")


def compared(prefix: str, feed, want) -> Dict:
    """What we make of the exported program; its outputs are ``want``."""
    from demo.hosts.zoo_export import as_exported
    from paddle_mrecg.deploy.first_run import NUDGES, nudged
    from paddle_mrecg.deploy.predictor import Predictor
    from paddle_mrecg.graph.fold import fold
    from paddle_mrecg.graph.graph import weight_name
    from paddle_mrecg.graph.load import load_graph
    from paddle_mrecg.graph.probe import probe
    from paddle_mrecg.graph.writer import save_program
    graph = fold(load_graph(prefix))
    unreached = probe(graph, feed).unreached
    written = prefix + "_written"
    save_program(graph, written)
    got = difference(Predictor(written, optimize=False)(feed), want)
    noise = 0.0 if got <= TOLERANCE else max(
        difference(as_exported(prefix)(nudged(feed, change)), want) for change in CHANGES)
    layers = [op for op in graph.ops if weight_name(op, graph) is not None]
    same = got <= max(TOLERANCE, NUDGES * noise)
    return dict(status=READ if same else DIFFERENT, difference=got, noise=noise,
                layers=len(layers), outputs=sum(v.size for v in want),
                beyond=sum(op in unreached for op in layers))


def difference(got, want) -> float:
    """The largest difference over all outputs, relative to the output's largest value."""
    from paddle_mrecg.deploy.compare import largest
    if len(got) != len(want):
        return float("inf")
    return max((largest(b, a) for a, b in zip(got, want)), default=0.0)


def in_process(host: str, model: str, checkout) -> Dict:
    """``tried`` in a process of its own."""
    words = [sys.executable, __file__, "--host", host, "--one", model,
             *(["--checkout", str(checkout)] if checkout else [])]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace",
                              timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        ours = EXPORTED.encode() in (error.stdout or b"")
        return dict(status=FAILED if ours else NO, reason=f"more than {TIMEOUT} s")
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"status"')]
    if lines:
        return json.loads(lines[-1])
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return dict(status=FAILED, reason=f"exit code {done.returncode}: {(said or [''])[-1][:200]}")


def table(folder: Path = RESULTS) -> str:
    """A row for each host and Paddle, and what was not read below."""
    files = results.load_cells(folder)
    if not files:
        return results.NOT_YET
    lines = ["| host | Paddle | exported | read, same outputs | refused | different or failed |",
             "|---|---|---:|---:|---:|---:|"]
    notes: List[str] = []
    for file in files:
        first = file["runs"][0]["setting"]
        by = {status: [r for r in file["runs"] if r["found"]["status"] == status]
              for status in (READ, DIFFERENT, REFUSED, FAILED, NO)}
        ours = [len(by[READ]), len(by[REFUSED]), len(by[DIFFERENT]) + len(by[FAILED])]
        lines.append(f"| {first['host']} {first['version']} | {first['Paddle']} | {sum(ours)} of "
                     f"{len(file['runs'])} | {ours[0]} | {ours[1]} | {ours[2]} |")
        notes += [f"- **{first['host']} on {first['Paddle']}** {text}" for text in _notes(by)]
    place = results.common_place(files)
    return "\n".join([*lines, "", *notes, "", "`python demo/hosts/zoo.py`; "
                      + results.describe_place(place)])


def _notes(by) -> List[str]:
    """What a host's models came to, one line for each status."""
    def short(run):
        return run["setting"]["model"].split("/")[-1]
    found = []
    if by[READ]:
        found.append("read: " + ", ".join(short(r) for r in by[READ]) + ".")
    for status in (REFUSED, DIFFERENT, FAILED):
        found += [f"{status}: {short(r)}" + (f" ({r['found']['reason']})" if "reason" in r["found"]
                                             else "") + "." for r in by[status]]
    if by[NO]:
        found.append("not exported by the host or Paddle: " + ", ".join(short(r) for r in by[NO])
                     + ".")
    return found


def parse_args(argv=None):
    from demo.hosts.zoo_models import MODELS
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", choices=sorted(MODELS))
    parser.add_argument("--checkout", type=Path, metavar="DIR", help="of the host")
    parser.add_argument("--version", metavar="NAME", help="of the host, for the table; default: "
                                                          "what git or the package says")
    parser.add_argument("--models", nargs="+", metavar="PART", help="names that hold one of these "
                                                                    "parts; default: all")
    parser.add_argument("--again", action="store_true", help="run those in the results again")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.host is None and not args.table:
        parser.error(f"give --host one of {', '.join(sorted(MODELS))}")
    if args.checkout is None and args.host not in (None, "PaddleClas"):
        parser.error(f"give --checkout a checkout of {args.host}")
    return args


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    if args.one:
        found = tried(args.host, args.one, args.checkout and args.checkout.resolve())
        print(json.dumps(found), flush=True)
        return 0
    if not args.table:
        measure(args, argv)
    print(table())
    return 0


def measure(args, argv):
    """All wanted models that are not in the results yet."""
    import paddle
    from demo.hosts.try_hosts import version_of
    from demo.hosts.zoo_models import names_of
    path = RESULTS / f"{args.host}_{paddle.__version__}.json"
    host_version = args.version or (version_of(args.checkout) if args.checkout
                                    else version("paddleclas"))
    runs = {run["setting"]["model"]: run
            for run in (results.load_results(path)["runs"] if path.exists() else ())}
    for model in names_of(args.host):
        if model in runs and not args.again:
            continue
        if args.models and not any(part in model for part in args.models):
            continue
        found = in_process(args.host, model, args.checkout)
        setting = dict(host=args.host, version=host_version, Paddle=paddle.__version__, model=model)
        runs[model] = results.run_record(setting, 3, {}, found=found)
        results.save_results(path, results.command_line("demo/hosts/zoo.py", argv),
                             list(runs.values()))
        print(f"{model}: {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
