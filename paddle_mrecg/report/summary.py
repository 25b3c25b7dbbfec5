# SPDX-License-Identifier: Apache-2.0
"""The result in a few sentences: printed at the end of a job, and the page's first paragraph."""
from collections import Counter
from typing import Dict, List

from ..config.first_use import telling_name
from .progress import duration
from .report import STAGES, Report, size_text
from .words import Phrase, phrase, phrase_numbered

CLEAR = 0.05  # relative difference of two times below which nothing is claimed
MOST_METRICS = 3
RUNTIME_TITLES = {"inference": "Paddle Inference", "onnxruntime": "onnxruntime",
                  "lite": "Paddle Lite (x86)"}


def summary(report: Report) -> List[Phrase]:
    """Sentences on what was done, what it brought and what it cost.

    Args:
        report(Report): of a finished job.

    Returns:
        list[Phrase]: each a sentence; ``Phrase.text`` gives it in English or Chinese.
    """
    sentences = ([what_was_done(report)] + _score_phrases(report) + _size_phrases(report)
                 + _speed_phrases(report) + _agreement(report))
    if report.seconds:
        time = duration(sum(report.seconds.values()))
        sentences.append(phrase("sum_time", time=time, memory=size_text(report.peak_memory))
                         if report.peak_memory else phrase("sum_time_only", time=time))
    if report.status != "complete":
        sentences.append(phrase("sum_interrupted"))
    return sentences


def summary_text(report: Report, language: str = "en") -> str:
    """The sentences as one paragraph."""
    return ("" if language == "zh" else " ").join(s.text(language) for s in summary(report))


def what_was_done(report: Report) -> Phrase:
    """Model, bits, strategy and target in one sentence."""
    return phrase("sum_what", model=model_name(report),
                  layers=phrase_numbered(len(report.weights), "one_layer", "many_layers"),
                  bits=_bits_phrase(report), strategy=strategy(report),
                  target=setting(report, "Global", "target", "?"))


def short_bits(report: Report) -> str:
    """Of most layers: ``W4A8``; float activations count as 32 bits."""
    weights, inputs = bits_of(report.weights) or ["?"], bits_of(report.activations) or [32]
    return f"W{weights[0]}A{inputs[0]}"


def _bits_phrase(report: Report):
    most, *others = bits_of(report.weights) or ["?"]
    if not others:
        return short_bits(report)
    count = sum(w["bits"] != most for w in report.weights.values())
    return phrase("bits_others", bits=short_bits(report), others="/".join(map(str, others)),
                  layers=phrase_numbered(count, "one_layer", "many_layers"))


def model_name(report: Report) -> str:
    """By the model's path; never empty."""
    path = setting(report, "Global", "model_dir")
    return telling_name(path) if path else "model"


def strategy(report: Report) -> Phrase:
    """How the weights were rounded."""
    solved = setting(report, "QuantPost", "rounding") == "solve"
    start = phrase("strategy_solve" if solved else "strategy_nearest")
    if setting(report, "QuantPost", "bias_correction"):
        start = phrase("strategy_corrected", start=start)
    steps = sum(u.iterations for u in report.units)
    if not steps:
        return start
    return phrase("strategy_trained", start=start, steps=steps,
                  preset=setting(report, "MRECG", "preset", "?"))


def bits_of(tensors: Dict[str, Dict]) -> List[int]:
    """The bits of tensors, the most frequent first."""
    return [bits for bits, _ in Counter(t["bits"] for t in tensors.values()).most_common()]


def setting(report: Report, section: str, key: str, default=None):
    """A setting of the job; reports of other versions may lack it."""
    return report.config.get(section, {}).get(key, default)


def speed_verdict(times: Dict) -> str:
    """``faster``, ``slower`` or ``level``: int8 against float on one runtime."""
    if times["ratio"] > 1 + CLEAR and times["ratio_low"] > 1:
        return "faster"
    return "slower" if times["ratio"] < 1 - CLEAR and times["ratio_high"] < 1 else "level"


def number(value: float, sign: str = "", like: float = None) -> str:
    """About four digits: two decimals from 10 on, else four.

    Args:
        value(float): what to show.
        sign(str, optional): as in format(). Default: none for positive numbers.
        like(float, optional): take the decimals that suit this number. Default: ``value``.
    """
    if value is None:
        return "-"
    decimals = 2 if abs(value if like is None else like) >= 10 else 4
    return f"{value:{sign}.{decimals}f}"


def milliseconds(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def _score_phrases(report: Report) -> List[Phrase]:
    names = list(dict.fromkeys(m for s in STAGES for m in report.metrics.get(s, {})))
    sentences = []
    for name in names[:MOST_METRICS]:
        values = [(s, report.metrics[s][name]) for s in STAGES if name in report.metrics.get(s, {})]
        listed = None
        largest = max(abs(value) for _, value in values)
        for stage, value in values:
            entry = phrase("sum_score", stage=phrase(stage), value=number(value, like=largest))
            listed = entry if listed is None else phrase("sum_scores", first=listed, rest=entry)
        change = dict(values).get("quantized", float("nan")) - dict(values).get("float", 0.0)
        sentences.append(phrase("sum_metric", metric=name, scores=listed,
                                change=number(change, "+", largest)))
    if not names:
        sentences.append(phrase("sum_no_metric"))
        if report.output_error is not None:
            sentences.append(phrase("sum_output", error=f"{100 * report.output_error:.3g}"))
    return sentences


def _size_phrases(report: Report) -> List[Phrase]:
    if not {"float_file", "quantized_file"} <= set(report.sizes):
        return []
    before, after = (report.sizes[kind]["bytes"] for kind in ("float_file", "quantized_file"))
    return [phrase("sum_size" if after <= before else "sum_size_grows", float=size_text(before),
                   quantized=size_text(after))]


def _speed_phrases(report: Report) -> List[Phrase]:
    return [phrase("sum_" + speed_verdict(times),
                   runtime=RUNTIME_TITLES.get(name, name), ratio=f"{times['ratio']:.2f}",
                   int8=milliseconds(times["int8"]["median"]),
                   float=milliseconds(times["float"]["median"]))
            for name, times in report.speed.items() if "ratio" in times]


def _agreement(report: Report) -> List[Phrase]:
    if not report.verification:
        return []
    found = report.verification
    if report.agrees:
        edge = found.get("verdict", "agrees") != "agrees"
        return [phrase("sum_edge" if edge else "sum_agrees")]
    if "max_abs_diff" not in found:
        return [phrase("sum_broken", why=found.get("why", ""))]
    return [phrase("sum_differs", difference=f"{found['max_abs_diff']:.3g}",
                   largest=f"{found['max_abs_output']:.3g}")]
