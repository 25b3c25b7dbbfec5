# SPDX-License-Identifier: Apache-2.0
"""The first table of the README, a row per strategy, and its picture, from the results files."""

import json
from pathlib import Path
from typing import Dict, NamedTuple

from demo.results import cell, describe_place, load_results, summarise

POST, TRAINING = "quickstart/direction", "hosts/paddleocr_cls"


class Entry(NamedTuple):
    """One figure: the measure of the only summary row of a results file with these settings."""

    file: str
    where: Dict[str, str]
    measure: str


LINES = {"data": "rendered lines", "bits": "W4A8"}
# strategy -> (without it, with it); what both are is said in WORDS.
ROWS = {
    "MRECG": (Entry(POST, LINES, "nearest + bias"), Entry(POST, LINES, "MRECG")),
    "PACT": (
        Entry(TRAINING, {"method": "PaddleOCR"}, "accuracy"),
        Entry(TRAINING, {"method": "symmetric PACT"}, "accuracy"),
    ),
    "BR": (
        Entry(TRAINING, {"method": "PaddleOCR"}, "accuracy"),
        Entry(TRAINING, {"method": "symmetric PACT + BR"}, "accuracy"),
    ),
}
FLOAT = Entry(POST, LINES, "float")
WORDS = {
    "en": {
        "header": ("job", "float", "PaddleSlim or nearest", "with our strategy"),
        "MRECG": (
            "post-training, 4-bit weights, 8-bit activations",
            "nearest, biases corrected: {}",
            "MRECG: **{}**",
        ),
        "PACT": (
            "training by PaddleOCR's script, 256 steps, 8 bits",
            "PaddleSlim's PACT: {}",
            "symmetric PACT: **{}**",
        ),
        "BR": (
            "the same with 4-bit weights",
            "PaddleSlim's PACT at 8 bits: {}",
            "bin regularization and symmetric PACT at 4: **{}**",
        ),
        "provenance": "Mean ± standard deviation of three runs. "
        "First row: `{}`, {}. Others: `{}`, {}.",
    },
    "zh": {
        "header": ("任务", "浮点", "PaddleSlim 或就近取整", "采用我们的策略"),
        "MRECG": (
            "离线量化，4 比特权重、8 比特激活",
            "就近取整并校正偏置：{}",
            "MRECG：**{}**",
        ),
        "PACT": (
            "用 PaddleOCR 的脚本训练 256 步，8 比特",
            "PaddleSlim 的 PACT：{}",
            "symmetric PACT：**{}**",
        ),
        "BR": (
            "同上，4 比特权重",
            "PaddleSlim 的 PACT，8 比特：{}",
            "bin 正则化与 symmetric PACT，4 比特：**{}**",
        ),
        "provenance": "三次运行的均值 ± 标准差。第一行：`{}`，{}。其余：`{}`，{}。",
    },
}


def headline_table(demo_dir: Path, language: str = "en") -> str:
    """The table as Markdown, with a line below that says how it was measured.

    Args:
        demo_dir(Path): folder of the demos, with ``<area>/results/<file>.json``.
        language(str, optional): ``en`` or ``zh``. Default: en.
    """
    words = WORDS[language]
    lines = ["| " + " | ".join(words["header"]) + " |", "|---|---:|---:|---:|"]
    for name, (without, with_it) in ROWS.items():
        job, before, after = words[name]
        figures = [
            _figure(demo_dir, FLOAT),
            before.format(_figure(demo_dir, without)),
            after.format(_figure(demo_dir, with_it)),
        ]
        lines.append("| " + " | ".join([job, *figures]) + " |")
    sources = []
    for file in (_load(demo_dir, name) for name in (POST, TRAINING)):
        sources += [_short(file["command"]), describe_place(file)]
    return "\n".join([*lines, "", words["provenance"].format(*sources)])


PICTURE = Path("results", "headline.png")  # below the folder of the demos
BITS, SETS = ("W4A8", "W3A8"), ("rendered lines", "IIIT5K", "IC15")
MARKS = {"nearest": ("rounded to nearest", "#E0B48A", "o"),
         "nearest + bias": ("the same, biases corrected", "#D55E00", "D"),
         "MRECG": ("MRECG", "#0072B2", "s")}


def _drawn(demo_dir: Path) -> Dict[str, Dict]:
    """``W4A8, IIIT5K`` -> name -> (mean, standard deviation)."""
    runs, rows = _load(demo_dir, POST)["runs"], {}
    for bits in BITS:
        for data in SETS:
            (row,) = summarise(runs, {"bits": bits, "data": data})
            rows[f"{bits}, {data}"] = {name: [round(v or 0.0, 3) for v in row["measured"][name]]
                                       for name in ("float", *MARKS)}
    return rows


def picture_is_current(demo_dir: Path) -> bool:
    """The picture says, in its own text, which figures it shows."""
    from PIL import Image
    path = demo_dir / PICTURE
    return path.exists() and Image.open(path).text.get("Figures") == json.dumps(_drawn(demo_dir))


def draw_picture(demo_dir: Path) -> Path:
    """Accuracy of the direction classifier: per bits and test set the float network, weights
    rounded to nearest without and with corrected biases, and MRECG.
    """
    from matplotlib.figure import Figure
    rows, path = _drawn(demo_dir), demo_dir / PICTURE
    figure = Figure(figsize=(9, 3.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for y, values in enumerate(reversed(rows.values())):
        axes.plot([values[name][0] for name in MARKS], [y] * len(MARKS), color="#c8cbcf", zorder=1)
        axes.plot([values["float"][0]] * 2, [y - 0.35, y + 0.35], color="#5f6368", zorder=2,
                  label="float" if not y else None)
        for name, (label, colour, marker) in MARKS.items():
            axes.errorbar(*values[name][:1], y, xerr=values[name][1], color=colour, marker=marker,
                          markersize=7, capsize=3, zorder=3, label=None if y else label)
    axes.axhline(len(SETS) - 0.5, color="#c8cbcf", linewidth=0.8)
    words = [f"{data.replace('IC15', 'ICDAR 2015')}, {bits[1]}-bit weights"
             for bits, data in (key.split(", ") for key in rows)]
    axes.set_yticks(range(len(rows)), words[::-1])
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="x", color="#eceeef")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Figures": json.dumps(rows)})
    return path


def _figure(demo_dir: Path, entry: Entry) -> str:
    (row,) = summarise(_load(demo_dir, entry.file)["runs"], entry.where)
    return cell(row["measured"][entry.measure], entry.measure)


def _load(demo_dir: Path, name: str) -> Dict:
    area, _, file = name.rpartition("/")
    return load_results(demo_dir / area / "results" / f"{file}.json")


def _short(command: str) -> str:
    """The script alone; its arguments stand below the whole table of the demo."""
    return " ".join(command.split()[:2])
