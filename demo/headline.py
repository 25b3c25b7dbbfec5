# SPDX-License-Identifier: Apache-2.0
"""The README's first table: one row per strategy, taken from the results files of the demos."""

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
    "MRECG": (Entry(POST, LINES, "nearest"), Entry(POST, LINES, "MRECG")),
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
            "nearest: {}",
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
        "MRECG": ("离线量化，4 比特权重、8 比特激活", "就近取整：{}", "MRECG：**{}**"),
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


def _figure(demo_dir: Path, entry: Entry) -> str:
    (row,) = summarise(_load(demo_dir, entry.file)["runs"], entry.where)
    return cell(row["measured"][entry.measure], entry.measure)


def _load(demo_dir: Path, name: str) -> Dict:
    area, _, file = name.rpartition("/")
    return load_results(demo_dir / area / "results" / f"{file}.json")


def _short(command: str) -> str:
    """The script alone; its arguments stand below the whole table of the demo."""
    return " ".join(command.split()[:2])
