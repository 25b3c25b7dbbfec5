# SPDX-License-Identifier: Apache-2.0
"""What fewer bits weigh: the program and Paddle Lite's file as stored and zipped, and the codes as
an ideal coder writes them.

    python demo/mobile/sizes.py
    python demo/mobile/sizes.py --models ResNet-20 --bits 8 4 3 2

Weights are rounded to nearest (the first and the last layer keep 8 bits) unless ``--cache`` holds
the model already, as for ``table.py``; reconstructed codes are spread over the levels in the same
way. Runs that are recorded are not repeated.
"""
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402
from demo.mobile.table import quantized  # noqa: E402
from demo.mobile.workloads import WORKLOADS  # noqa: E402

SCRIPT = "demo/mobile/sizes.py"
RESULTS = Path(__file__).resolve().parent / "results/sizes.json"


def measure(folder: Path):
    """Megabytes of one quantized model.

    Args:
        folder(Path): a result of ``quant_post_mrecg``.

    Returns:
        dict: name -> 10^6 bytes; without the ``.nb`` where Paddle Lite's
            converter is not installed.
    """
    sizes = json.loads((folder / "report.json").read_text(encoding="utf-8"))["sizes"]
    program, codes = sizes["quantized_file"], sizes["codes"]
    found = {"float": sizes["float_file"]["bytes"], "int8": program["bytes"],
             "int8 zipped": program["zipped"]}
    lite = _lite_file(folder)
    if lite is not None:
        from paddle_mrecg.files import deflate
        found.update({".nb": len(lite), ".nb zipped": len(deflate(lite))})
    found["codes, ideal"] = codes["entropy_coded"]
    return {name: size / 1e6 for name, size in found.items()}


def _lite_file(folder: Path):
    from paddle_mrecg.errors import MrecgError
    from paddle_mrecg.deploy.lite.convert import convert
    from paddle_mrecg.deploy.lite.env import find_lite
    from paddle_mrecg.graph.load import load_graph
    try:
        tools = find_lite()
    except MrecgError as error:
        print(f"no .nb: {error}")
        return None
    return convert(load_graph(str(folder), allow_quantized=True), tools, "arm").data


def measure_missing(args):
    """Add what the results file lacks, model by model; returns whether something was added."""
    known = results.load_results(args.results)["runs"] if args.results.exists() else []
    done = {(run["setting"]["model"], run["setting"]["weight bits"]) for run in known}
    new = False
    for name in args.models:
        for bits in args.bits:
            if (name, str(bits)) in done:
                continue
            try:
                found = measure(quantized(name, bits, args.cache))
            except sources.Absent as error:
                print(f"skipped {name}: {error}")
                break
            known.append(results.run_record({"model": name, "weight bits": str(bits)}, 0, found))
            known.sort(key=lambda run: (list(WORKLOADS).index(run["setting"]["model"]),
                                        -int(run["setting"]["weight bits"])))
            results.save_results(args.results, f"python {SCRIPT}", known)
            print(f"{name}, {bits} bits: {found}", flush=True)
            new = True
    return new


@sources.explained
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--bits", nargs="+", type=int, choices=range(2, 9), default=[8, 4, 3, 2])
    parser.add_argument("--cache", type=Path, default=Path("cache/mobile"), help="quantized models")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if not measure_missing(args):
        print(results.NOTHING_NEW)
    if args.results.exists():
        print(results.markdown_table(results.load_results(args.results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
