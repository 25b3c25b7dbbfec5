# SPDX-License-Identifier: Apache-2.0
"""What first use takes and gives: ``paddle-mrecg quant MODEL IMAGES`` on models of installed
packages, with nothing but a folder of images.

    python demo/first_use.py                      # all that is not there yet, and the table
    python demo/first_use.py --models picodet
    python demo/first_use.py --name mine --paths inference_model images   # a model of your own

Every job runs as a user would run it, in a process of its own, conversion for Paddle Lite, timing
and comparison of the runtimes included, but with one thread. Seconds are those of the processor,
over all processes, so that other work on the machine does not count.
"""
import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from demo import results, sources  # noqa: E402

CELLS = ROOT / "demo" / "results" / "first_use_cells"
IMAGES = {  # model -> folder of its images in the measuring data
    "pplcnetv2": "imagenet/calib", "picodet": "coco128/images/train2017",
    "ppocr_det": "ocr/ic15_det_test", "ppocr_rec": "ocr/iiit5k_train",
    "ppocrv5_rec": "ocr/iiit5k_train"}
SETTING = "model", "input", "images"
COLUMNS = {  # of a table -> what was measured
    "layers": "layers", "seconds (one core)": "seconds", "output error %": "output error %",
    "float MB": "float MB", "int8 MB": "int8 MB"}


def measure(name: str, model: str, images: str, folder: Path) -> Path:
    """Run one job and store what it took; returns the file.

    Raises:
        RuntimeError: the job failed; says how.
    """
    with tempfile.TemporaryDirectory() as place:
        result = Path(place, "result")
        done, spent = results.on_one_core(
            ["-m", "paddle_mrecg", "quant", os.path.abspath(model), os.path.abspath(images),
             f"Global.save_dir={result}"], cwd=ROOT)
        if done.returncode:
            raise RuntimeError(f"{name}: " + " ".join(done.stderr.strip().splitlines()[-2:]))
        report = json.loads((result / "report.json").read_text(encoding="utf-8"))
        lite = (result / "lite" / "model.arm.nb").exists()
    path = Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = f"python demo/first_use.py --models {name}" if name in IMAGES else (
        f"python demo/first_use.py --name {name} --paths MODEL IMAGES")
    results.save_results(path, command, [record(name, report, spent, lite)])
    return path


def record(name: str, report: Dict, seconds: float, lite: bool) -> Dict:
    """A run from a ``report.json`` whose job took ``seconds`` of the processor."""
    sizes, shape = report["sizes"], report["config"]["Data"]["input_shape"]
    setting = {"model": name, "images": str(report["samples"]["calibration"]),
               "input": " x ".join(map(str, shape)) if shape else "as exported"}
    measured = {"layers": len(report["weights"]), "seconds": seconds,
                "output error %": 100.0 * report["output_error"],
                "float MB": sizes["float_file"]["bytes"] / 1e6,
                "int8 MB": sizes["quantized_file"]["bytes"] / 1e6}
    return results.run_record(setting, report["seed"], measured, lite=lite,
                              verdict=report["verification"]["verdict"], stages=report["seconds"])


def table(folder: Path = None) -> str:
    """One row per model."""
    cells = results.load_cells(folder or CELLS)
    if not cells:
        return results.NOT_YET
    lines = ["| " + " | ".join([*SETTING, *COLUMNS, "written program", "`.nb`"]) + " |",
             "|---|---|" + "---:|" * (len(COLUMNS) + 1) + "---|---|"]
    for file in cells:
        run, = file["runs"]
        lines.append("| " + " | ".join(
            [run["setting"][k] for k in SETTING]
            + [results.cell((run["measured"][v], None), v) for v in COLUMNS.values()]
            + [run["verdict"], "yes" if run["lite"] else "no converter"]) + " |")
    return "\n".join([*lines, "", "`python demo/first_use.py`: "
                      + results.describe_place(results.common_place(cells))])


def jobs(args) -> List[tuple]:
    """Name, model and images of what is to be measured; what is absent is told in a line."""
    if args.paths:
        return [(args.name, *args.paths)]
    found = []
    for name in args.models:
        try:
            found.append((name, sources.model_dir(name),
                          str(sources.shared_data(IMAGES[name]))))
        except sources.Absent as error:
            print(f"skipped: {name}: {error}")
    return found


@sources.explained
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(IMAGES), default=sorted(IMAGES),
                        help="default: all")
    parser.add_argument("--paths", nargs=2, metavar=("MODEL", "IMAGES"),
                        help="a model of your own and a folder of images")
    parser.add_argument("--name", default="yours", help="of that model in the table")
    parser.add_argument("--again", action="store_true", help="measure those too that are there")
    parser.add_argument("--cells_dir", default=str(CELLS), help="where results go")
    args = parser.parse_args(argv)
    for name, model, images in jobs(args):
        if args.again or not (Path(args.cells_dir) / f"{name}.json").exists():
            try:
                path = measure(name, model, images, Path(args.cells_dir))
                print(f"{name}: {results.load_results(path)['runs'][0]['measured']}", flush=True)
            except RuntimeError as error:
                print(error, flush=True)
    print(table(Path(args.cells_dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
