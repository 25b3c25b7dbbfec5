# SPDX-License-Identifier: Apache-2.0
"""The table of ``compare_analysis.py``, in English and Chinese."""
from pathlib import Path
from typing import Optional

from demo import results

ROOT = Path(__file__).resolve().parents[1]
CELLS = ROOT / "demo" / "results" / "analysis_cells"
SAMPLES = {  # model -> (calibration samples, evaluation samples)
    "MobileNetV1": (48, 325), "PP-LCNetV2": (48, 325), "PP-OCRv4 rec": (48, 200),
    "PP-OCRv4 det": (16, 44), "PP-OCRv4 det, full size": (16, 24),
    "PP-OCRv4 det, full size, own words": (16, 24), "PicoDet-416": (24, 32),
    "Yolo-Fastest-xl": (48, 128),
}
BITS = ("W8A8", "W4A8", "W3A8", "W2A8")


def correlation(errors, drops):
    """Spearman's, of equally many errors and drops; None where all drops are equal."""
    from scipy import stats
    return float(stats.spearmanr(errors, drops)[0]) if len(set(drops)) > 1 else None


def ceiling(reliability: Optional[float]) -> Optional[float]:
    """What a ranking by the true losses would reach: the root of the reliability of all samples,
    which follows from that of their halves (Spearman and Brown); None where it is not positive.
    """
    return (2 * reliability / (1 + reliability)) ** 0.5 if (reliability or 0) > 0 else None


RANKING = {  # measure -> its column, in English and Chinese
    "analyze": ("`analyze`, seconds", "`analyze`，秒"), "Spearman": ("Spearman", "Spearman"),
    "reliability": ("reliability", "信度"), "ceiling": ("ceiling", "上限"),
    "sizes": ("of sizes", "按变化大小"), "float": ("float", "浮点"),
}
SEARCH = {
    "auto drop": ("`auto`: drop", "`auto`：损失"),
    "auto layers": ("layers with more bits", "提高比特的层"),
    "auto float layers": ("layers float", "浮点层"),
    "auto evaluations": ("evaluations", "评测次数"), "auto minutes": ("minutes", "分钟"),
    "slim drop": ("PaddleSlim's way: drop", "PaddleSlim 的做法：损失"),
    "slim layers": ("layers float", "浮点层"),
    "slim evaluations": ("evaluations", "评测次数"),
    "hand layers": ("by hand: layers float", "手工：浮点层"),
    "ranked layers": ("along `analyze`: layers float", "按 `analyze`：浮点层"),
}
WORDS = {
    "first": (("model", "calibrated on, ranked on, scored", "bits", "layers"),
              ("模型", "校准、排序、评测的样本数", "比特", "层数")),
    "not reached": ("{}, not reached", "{}，未达到"),
    "gains": ("{model} at {bits}: {count} of {all} layers alone raise the metric when they are "
              "quantized, by up to {most:.2f} points.",
              "{model}，{bits}：{all} 层中有 {count} 层单独量化时指标反而上升，"
              "最多 {most:.2f} 个点。"),
    "noise": ("{model}: with what layers lose at {fewer} correlate their losses at {more} by "
              "{own:.2f}, the errors of `analyze` at {more} by {errors:.2f}.",
              "{model}：与各层在 {fewer} 时的损失相比，"
              "其 {more} 时损失的相关系数为 {own:.2f}，"
              "`analyze` 在 {more} 时误差的相关系数为 {errors:.2f}。"),
    "place": ("`python demo/compare_analysis.py`; seconds and minutes of one core; seed 0; ",
              "`python demo/compare_analysis.py`；秒和分钟为单核时间；种子 0；"),
}


def table(folder: Path = CELLS, language: str = "en") -> str:
    """Two tables, of rankings and of searches, one row per model and bits.

    Args:
        folder(Path, optional): of the cells. Default: where the script writes them.
        language(str, optional): ``en`` or ``cn``. Default: ``en``.
    """
    cells, rows, chosen = results.load_cells(folder), {}, ("en", "cn").index(language)
    if not cells:
        return results.NOT_YET
    for run in (run for cell in cells for run in cell["runs"]):
        key = run["setting"]["model"], run["setting"]["bits"]
        row = rows.setdefault(key, dict(run, measured={}))
        row["measured"].update(run["measured"])
        row.update({name: run[name] for name in ("layers", "ranked", "tries") if name in run})
    for row in rows.values():
        if "layers" in row:
            row["measured"]["sizes"] = correlation(
                *([abs(e[key]) for e in row["layers"]] for key in ("error", "drop")))
        row["measured"]["ceiling"] = ceiling(row["measured"].get("reliability"))
    order = list(SAMPLES)
    rows = {key: rows[key] for key in sorted(rows, key=lambda key: (order.index(key[0]), key[1]))}
    place = results.describe_place(results.common_place(cells))
    return "\n".join([*_lines(rows, RANKING, chosen), *_gains(rows, chosen), *_noise(rows, chosen),
                      *_lines(rows, SEARCH, chosen), WORDS["place"][chosen] + place])


def _lines(rows, columns, chosen: int):
    """A table of the rows that have one of these measures."""
    names = [*WORDS["first"][chosen], *(titles[chosen] for titles in columns.values())]
    lines = ["| " + " | ".join(names) + " |", "|---|---|---|" + "---:|" * (1 + len(columns))]
    for (model, bits), row in rows.items():
        if any(row["measured"].get(name) is not None for name in columns):
            shown = [_shown(row["measured"], name, chosen) for name in columns]
            lines.append(f"| {model}, {row['setting']['metric']} | {row['calibration']}, "
                         f"{row.get('ranked', '–')}, {row['samples']} | {bits} | "
                         f"{len(row.get('layers', ())) or '–'} | " + " | ".join(shown) + " |")
    return [*lines, ""] if len(lines) > 2 else []


def _gains(rows, chosen: int):
    """Where a metric gains from errors, a correlation with its losses says little."""
    found = []
    for (model, bits), row in rows.items():
        drops = [e["drop"] for e in row.get("layers", ())]
        gains = [-drop for drop in drops if drop < 0]
        if len(gains) > len(drops) / 3:
            found += [WORDS["gains"][chosen].format(
                model=model, bits=bits, count=len(gains), all=len(drops), most=max(gains)), ""]
    return found


def _noise(rows, chosen: int):
    """How well the metric agrees with itself: what layers lose at few bits, where it shows, against
    what they lose and what ``analyze`` says at more.
    """
    found = []
    for model in SAMPLES:
        ranked = [(bits, {e["weight"]: e for e in rows[model, bits]["layers"]})
                  for bits in BITS if "layers" in rows.get((model, bits), {})]
        for (more, theirs), (fewer, ours) in zip(ranked, ranked[1:]):
            drops = [ours[name]["drop"] for name in theirs]
            own, errors = (correlation([e[key] for e in theirs.values()], drops)
                           for key in ("drop", "error"))
            found += [WORDS["noise"][chosen].format(model=model, fewer=fewer, more=more, own=own,
                                                    errors=errors), ""]
    return found


def _shown(measured, name: str, chosen: int) -> str:
    unit = "seconds" if name == "analyze" else name.split()[-1]
    value = measured.get(name)
    text = results.cell(None if value is None else (value, None), unit)
    missed = name == "auto drop" and measured.get("reached") == 0
    return WORDS["not reached"][chosen].format(text) if missed else text
