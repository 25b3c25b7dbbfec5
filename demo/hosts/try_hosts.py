# SPDX-License-Identifier: Apache-2.0
"""Scripts of PaddleOCR, PaddleDetection and PaddleClas, unchanged, with our strategies: do they
train, evaluate and export, and is the program what was trained?

Needs a checkout of the host and its requirements. Per model: the host trains a float network on a
few synthetic images, then its own slim scripts run below `paddle-mrecg run` with 4-bit weights and
bin regularization. Of the program it is checked that all codes lie within their bits, that it
computes what the model does, and that Paddle Lite takes it. Numbers of such a training mean nothing
and are not kept. Run it once per environment; every run adds its rows to the table.

    python demo/hosts/try_hosts.py --host ../PaddleDetection
    python demo/hosts/try_hosts.py --host ../PaddleOCR --models "DB MobileNetV3" --solve
    python demo/hosts/try_hosts.py --table
"""
import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demo import results, sources  # noqa: E402

CELLS = ROOT / "demo" / "hosts" / "results" / "hosts"
SETTING = "host", "version", "model", "Paddle"
CHECKS = "train", "eval", "export", "codes within bits", "program = model", "Paddle Lite"
OK = "yes"
# A script of the host by itself, PIL in front: Paddle 2.6 brings its own zlib.
ALONE = ["-c", "import PIL.Image, runpy, sys; del sys.argv[0]; "
         "runpy.run_path(sys.argv[0], run_name='__main__')"]


def tried(checkout: Path, host: str, model: str, folder: Path, solve: bool) -> Dict[str, str]:
    """What came of every check: ``OK``, or the reason; checks behind one that failed are absent."""
    from demo.hosts.tiny import FLOAT, OURS, SOLVED, TRAINED, checkpoint, prepare
    trial = prepare(host, model, checkout, folder, SOLVED if solve else OURS)

    def run(name: str, words: List[str], ours: bool = True) -> str:
        places = {"FLOAT": checkpoint(folder / FLOAT), "TRAINED": checkpoint(folder / TRAINED)}
        words = [re.sub("FLOAT|TRAINED", lambda m: places[m[0]], word) for word in words]
        return logged([*(["-m", "paddle_mrecg", "run"] if ours else ALONE), *words],
                      folder / f"{name}.log", checkout)

    found: Dict[str, str] = {}
    for name, check in (
            ("train", lambda: and_then(run("float", trial.pretrain, ours=False),
                                       lambda: run("train", trial.train))),
            ("eval", lambda: run("eval", trial.evaluate) if trial.evaluate
             else evaluated(folder / "train.log")),
            ("export", lambda: run("export", trial.export)),
            ("codes within bits", lambda: all_of(codes, folder)),
            ("program = model", lambda: all_of(agreement, folder)),
            ("Paddle Lite", lambda: all_of(taken_by_lite, folder))):
        found[name] = check()
        print(f"{model}: {name}: {found[name]}", flush=True)
        if not found[name].startswith(OK):
            break
    return found


def logged(words: List[str], log: Path, cwd: Path) -> str:
    """Run ``python WORDS...``, its output in ``log``: ``OK`` or its last line."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # unbuffered, or what was printed first comes behind the error
    environment = dict(os.environ, PYTHONPATH=paths, PYTHONUNBUFFERED="1")
    with open(log, "w", encoding="utf-8") as file:
        code = subprocess.run([sys.executable, *words], stdout=file, stderr=subprocess.STDOUT,
                              cwd=cwd, check=False, env=environment).returncode
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return OK if code == 0 else f"exit code {code}: {(lines or [''])[-1].strip()[:200]}"


def and_then(said: str, check) -> str:
    """What ``check`` says, where ``said`` is ``OK``."""
    return check() if said == OK else said


def evaluated(log: Path) -> str:
    """Of PaddleOCR, whose ``quant.py`` evaluates while it trains."""
    return OK if "cur metric" in log.read_text(encoding="utf-8") else "train.log has no metric"


def all_of(check, folder: Path) -> str:
    """``check`` of every result below ``folder``; a distillation exports several networks."""
    said = [check(path) for path in sorted((folder / "program").rglob("*.mrecg"))]
    return next((text for text in said if not text.startswith(OK)),
                said[-1] if said else "nothing was quantized")


def codes(result: Path) -> str:
    """Weights of a result are integers that their bits can hold."""
    from paddle_mrecg import load_graph
    from paddle_mrecg.grids.affine import Encoding
    params = load_graph(str(result / "model"), allow_quantized=True).params
    encodings = {name: Encoding.from_dict(entry) for name, entry in json.loads(
        (result / "encodings.json").read_text(encoding="utf-8")).items() if name in params}
    for name, encoding in encodings.items():
        values, spec = params[name], encoding.spec
        if (values != values.round()).any() or values.min() < spec.qmin or values.max() > spec.qmax:
            return f"{name} has codes {values.min()} to {values.max()} with {spec.bits} bits"
    low = sum(encoding.spec.bits == 4 for encoding in encodings.values())
    return f"{OK}: {low} of {len(encodings)} tensors at 4 bits"


def agreement(result: Path) -> str:
    """The export's own comparison, on random inputs. Layer by layer counts where a network that
    is hardly trained makes much of a value that is rounded the other way.
    """
    from paddle_mrecg.deploy.check.doctor import AGREES, EDGE
    report = json.loads((result / "report.json").read_text(encoding="utf-8"))["verification"]
    if report["verdict"] == EDGE:
        return f"{OK}: layer by layer"
    near = f"within {report['relative']:.0e}" if report["relative"] else "exactly"
    return f"{OK}: {near}" if report["verdict"] == AGREES else report["verdict"]


def taken_by_lite(result: Path) -> str:
    """Paddle Lite's converter writes files for ARM and x86."""
    return logged(["-m", "paddle_mrecg", "export", "--target", "lite", str(result), "--output",
                   str(result.parent / "lite")], result.parent / "lite.log", ROOT)


def table(folder: Path = CELLS) -> str:
    """All rows that were measured."""
    cells = results.load_cells(folder)
    if not cells:
        return results.NOT_YET
    lines = ["| " + " | ".join([*SETTING, *CHECKS]) + " |",
             "|" + "---|" * (len(SETTING) + len(CHECKS))]
    for run in sorted((run for file in cells for run in file["runs"]),
                      key=lambda run: [run["setting"][name] for name in SETTING]):
        row = [*(run["setting"][name] for name in SETTING),
               *(run["checks"].get(name, "–") for name in CHECKS)]
        lines.append("| " + " | ".join(row) + " |")
    place = results.common_place(cells)
    versions = ", ".join(f"{name} {place['versions'][name]}" for name in ("paddleslim",
                                                                          "paddle-mrecg"))
    return "\n".join([*lines, "", "`python demo/hosts/try_hosts.py --host <checkout>` in an "
                      f"environment of each Paddle; {place['device']}, {versions}, "
                      f"{place['date']}"])


def version_of(checkout: Path) -> str:
    """As git describes it; 'unknown' outside a clone."""
    done = subprocess.run(["git", "-C", str(checkout), "describe", "--tags", "--always"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, metavar="DIR", help="a checkout of the host")
    parser.add_argument("--version", metavar="NAME", help="of the host, for the table; default: "
                                                          "what git says")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="default: all of the host")
    parser.add_argument("--save_dir", type=Path, default=Path("output/hosts"),
                        help="data, configs, logs, programs; default output/hosts")
    parser.add_argument("--solve", action="store_true",
                        help="from solved roundings (QuantAware.rounding: solve), a row of its own")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table")
    args = parser.parse_args(argv)
    if args.host is None and not args.table:
        parser.error("give --host the checkout of PaddleOCR, PaddleDetection or PaddleClas")
    return args


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    if args.table:
        print(table())
        return 0
    import cv2  # noqa: F401  (before paddle: Paddle 2.6 brings its own zlib)
    import paddle
    from demo.hosts.tiny import IMAGES, MODELS
    from paddle_mrecg.errors import ConfigError
    from paddle_mrecg.hosts.host import call_of
    checkout = args.host.resolve()
    host = call_of(str(checkout / "tools" / "train.py"), []).name
    known = [model for model, config in MODELS.get(host, {}).items()
             if (checkout / config).is_file()]
    unknown = [name for name in args.models or [] if name not in known]
    if not known or unknown:
        raise ConfigError(f"{', '.join(unknown) or checkout} is not known here: give --host a "
                          f"checkout of {', '.join(MODELS)}, and --models of "
                          f"{', '.join(known) or 'its models'}")
    version = args.version or version_of(checkout)
    for model in args.models or known:
        shown = model + ", solved start" * args.solve
        setting = dict(zip(SETTING, (host, version, shown, paddle.__version__)))
        cell = results.cell_path(CELLS, setting, 0)
        folder = args.save_dir.resolve() / cell.stem
        folder.mkdir(parents=True, exist_ok=True)
        found = tried(checkout, host, model, folder, args.solve)
        results.save_results(cell, results.command_line("demo/hosts/try_hosts.py", argv),
                             [results.run_record(setting, 0, {}, samples=IMAGES, checks=found)])
    print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
