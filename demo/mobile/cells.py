# SPDX-License-Identifier: Apache-2.0
"""The deployment table's result files and what is printed of them; needs
neither Paddle nor the models.
"""
import re
from pathlib import Path
from typing import Dict, List

from demo import results

MODELS = ("PP-OCRv2 cls", "PP-OCRv4 rec", "PP-OCRv4 det", "PP-LCNetV2", "PicoDet-416",
          "Yolo-Fastest-xl", "MobileNetV1",
          "ResNet-20")  # in the table's order
# -> runtime
TARGETS = {"Paddle Inference": "inference", "ONNX": "onnxruntime", "Lite x86": "lite",
           "Lite ARM": None}
HEAD = ["model", "bits", "rounding", "target", "accepted", "int8 ops", "max / mean difference",
        "worst layer", "metric / float",
        "MB", "float / int8 time"]


def slug(text: str) -> str:
    """``PP-OCRv2 cls`` -> ``pp_ocrv2_cls``."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def cell_path(folder: Path, name: str, bits: int, target: str) -> Path:
    """File of one cell."""
    return folder / f"{slug(name)}_w{bits}a8_{slug(target)}.json"


def rows(files: List[Dict]):
    """The table's rows from all result files, of ``results.load_cells``."""
    runs = [run for file in files for run in file["runs"]]
    runs.sort(key=lambda r: (MODELS.index(r["setting"]["model"]), r["setting"]["bits"],
                             list(TARGETS).index(r["setting"]["target"])))
    total = {_model(r): r.get("ops") for r in runs if r["setting"]["target"] == "Lite ARM"}
    plain = {_model(r): r.get("metric_float") for r in runs
             if r["setting"]["target"] == "Paddle Inference"}
    return [_row(run, total.get(_model(run)), plain.get(_model(run))) for run in runs]


def _model(run):
    return run["setting"]["model"], run["setting"]["bits"]


def _row(run, total, plain):
    setting, cell = run["setting"], run
    int8 = "–" if cell.get("int8_ops") is None else f"{cell['int8_ops']}/{total}"
    difference = ("–" if cell.get("max_abs_diff") is None
                  else f"{cell['max_abs_diff']:.2g} / {cell['mean_abs_diff']:.1g}")
    worst = "–" if cell.get("worst_layer") is None else f"{100 * cell['worst_layer']:.2g} %"
    metric = ("–" if cell.get("metric") is None
              else f"{cell['metric']:.1f}" + (f" / {plain:.1f}" if plain is not None else ""))
    latency = cell.get("latency")
    size = (f"{(cell.get('bytes') or cell['sizes']['quantized_file']['bytes']) / 1e6:.2f}"
            if cell["accepted"] else "–")
    status = cell["status"] if cell["accepted"] else "no"
    return [setting["model"], setting["bits"], cell.get("rounding", "nearest"), setting["target"],
            status, int8, difference,
            worst, metric, size, f"{latency['ratio']:.2f}" if latency else "–"]


def failures(files: List[Dict]):
    """A sentence for every cell that was refused and every figure that could not be had."""
    for run in (run for file in files for run in file["runs"]):
        setting = run["setting"]
        where = f"{setting['model']} {setting['bits']}, {setting['target']}"
        if not run["accepted"]:
            yield f"{where}: {run['reason']}"
        for name, what in (("metric_failure", "not scored"), ("latency_failure", "not timed")):
            if run.get(name):
                yield f"{where}: {what}: {run[name]}"


def markdown(folder: Path) -> str:
    """The table as Markdown, what failed below it, and a line that says how it was measured."""
    files = results.load_cells(folder)
    place = results.describe_place(results.common_place(files))
    lines = ["| " + " | ".join(row) + " |" for row in [HEAD, ["---"] * len(HEAD), *rows(files)]]
    failed = [f"- {sentence}" for sentence in failures(files)]
    return "\n".join([*lines, "", *failed, *[""] * bool(failed), "`python "
                      f"demo/mobile/table.py`: {place}"])
