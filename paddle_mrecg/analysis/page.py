# SPDX-License-Identifier: Apache-2.0
"""The pages of ``analyze`` and ``auto``: layers ranked, what each try bought, lines to paste."""
from collections import Counter
from typing import Any, Dict, List, Mapping, Sequence

from ..config import Config
from ..config.io import config_to_dict
from ..errors import listed
from ..report.page import charts
from ..report.page.html import render
from ..report.page.sections import FIRST_LAYERS, percent, yaml_text
from ..report.progress import duration
from ..report.report import Report
from ..report.summary import model_name, number
from ..report.words import Phrase, phrase, phrase_numbered
from .findings import NOTHING, Findings
from .goal import AutoResult, Goal
from .refine import given_to
from .sensitivity import LayerEffect

MOST_NAMES = 4  # layers of a sentence


def findings_page(findings: Findings, config: Config, recipe: str) -> str:
    """What ``analyze`` found.

    Args:
        findings(Findings): measured.
        config(Config): of the job that was analyzed.
        recipe(str): the same as a file.
    """
    report, metrics = _report_of(config), list(findings.float_metric)
    effects, whole = findings.ranked(), f"{100 * findings.whole:.3g}"
    summary = [phrase("an_what", model=model_name(report), layers=phrase_numbered(
                          len(effects), "one_layer", "many_layers"),
                      bits=_bits(effects), samples=findings.samples,
                      time=duration(findings.seconds)),
               phrase("an_whole", error=whole)]
    suggested = [e.weight for e in findings.suggested()]
    if suggested:
        summary.append(phrase("an_worst", names=listed(suggested, MOST_NAMES)))
    elif findings.negligible:
        summary.append(phrase("an_nothing", most=f"{100 * NOTHING:g}"))
    summary += [phrase("an_metric", metric=name, value=number(findings.float_metric[name]),
                       change=number(min(e.metric[name] for e in effects)
                                     - findings.float_metric[name], "+"))
                for name in metrics]
    tiles = [_tile(_bits(effects), "tile_bits"), _tile(f"{whole} %", "tile_whole"),
             _counted_tile(effects, "tile_layer", "tile_layers"),
             _tile(duration(findings.seconds), "tile_time")]
    return _render(report, phrase("an_title"), summary, tiles,
                   effects=dict(_effects(effects, findings.float_metric),
                                along=_along_network(findings.layers, findings.whole)),
                   lines=findings.yaml_lines(), lines_text="an_lines",
                   done=_facts(report, ("measured_on", str(findings.samples)),
                               ("outputs", listed(findings.outputs, MOST_NAMES))),
                   command=f"paddle-mrecg analyze --config {recipe} --samples {findings.samples}"
                           + (" --metric" if metrics else ""))


def auto_page(result: AutoResult, goal: Goal, effects: Sequence[LayerEffect],
              config: Config) -> str:
    """What ``auto`` tried and took.

    Args:
        result(AutoResult): the end of the search.
        goal(Goal): what was looked for.
        effects(list[LayerEffect]): the ranking that it went along, worst first; empty where it
            needed none.
        config(Config): where the search began.
    """
    report, best = _report_of(config), result.best
    summary = [phrase("au_reached" if result.reached else "au_missed", model=model_name(report),
                      goal=_goal(goal, result.metric), tries=len(result.tries)),
               phrase("au_best", loss=_loss(best.loss, result.metric), bits=f"{best.bits:.2f}")]
    tiles = [dict(value=f"{best.loss:.3g}", bad=not result.reached, label=_unit(result.metric)),
             _tile(f"{best.bits:.2f}", "mean_bits"),
             _counted_tile(result.tries, "tile_try", "tile_tries"),
             _tile(duration(sum(t.seconds for t in result.tries)), "tile_time")]
    return _render(report, phrase("au_title"), summary, tiles, tries=_tries(result, goal),
                   effects=_effects(effects, settings=best.settings) if effects else None,
                   lines=yaml_text(best.settings), lines_text="au_lines", done=_facts(report),
                   command=f"paddle-mrecg quant --config {result.recipe}")


def _render(report: Report, title: Phrase, summary: List[Phrase], tiles: List[Dict],
            **values) -> str:
    values = dict(dict(tries=None, effects=None, lines=""), **values)
    contents = [name for name, shown in (("tries", values["tries"]), ("layers", values["effects"]),
                                         ("lines", values["lines"])) if shown]
    return render("analysis.html", dict(
        values, name=model_name(report), title=title, summary=summary, tiles=tiles,
        contents=[*contents, "done", "reproduce"], settings=yaml_text(report.config)))


def _report_of(config: Config) -> Report:
    """What pages say of the machine and the settings."""
    return Report(seed=config.global_.seed, config=config_to_dict(config))


def _tile(value: str, key: str) -> Dict[str, Any]:
    return dict(value=value, label=phrase(key), bad=False)


def _counted_tile(things: Sequence, one: str, many: str) -> Dict[str, Any]:
    return _tile(str(len(things)), one if len(things) == 1 else many)


def _facts(report: Report, *more) -> List[tuple]:
    return [("model", report.config["Global"]["model_dir"] or model_name(report)),
            ("target", report.config["Global"]["target"]), *more, ("seed", str(report.seed)),
            ("device", report.device),
            ("versions", ", ".join(f"{k} {v}" for k, v in report.versions.items()))]


def _bits(effects: Sequence[LayerEffect]) -> str:
    """Of most layers: ``W4A8``."""
    weight, activation = Counter((e.weight_bits, e.activation_bits)
                                 for e in effects).most_common(1)[0][0]
    return f"W{weight}A{activation}"


def _effects(ranked: Sequence[LayerEffect], metric: Mapping[str, float] = None,
             settings: Mapping[str, Dict] = None) -> Dict[str, Any]:
    """Rows, worst first; ``metric`` holds the scores of the float network, ``settings`` what was
    taken.
    """
    metric, post = metric or {}, (settings or {}).get("QuantPost", {})
    largest = max(e.on["both"] for e in ranked) or 1.0
    rows = [dict(rank=k, effect=e, both=percent(e.on["both"]), weights=percent(e.on["weights"]),
                 activations=percent(e.on["activations"]), off=percent(e.off["both"]),
                 width=100 * e.on["both"] / largest, given=given_to(e, post),
                 changes=[number(e.metric[m] - value, "+") for m, value in metric.items()])
            for k, e in enumerate(ranked, 1)]
    return dict(first=rows[:FIRST_LAYERS], more=rows[FIRST_LAYERS:], metrics=list(metric),
                along=None)


def _along_network(layers: Sequence[LayerEffect], whole: float) -> charts.Chart:
    """The picture along the network."""
    places = range(len(layers))
    return charts.curves([("after", places, [100 * e.on["both"] for e in layers]),
                          ("before", places, [100 * (whole - e.off["both"]) for e in layers])],
                         markers=len(layers) < 60)


def _tries(result: AutoResult, goal: Goal) -> Dict[str, Any]:
    largest, before, rows = max(abs(t.loss) for t in result.tries) or 1.0, None, []
    for found in result.tries:
        rows.append(dict(name=found.name, loss=f"{found.loss:.3f}",
                         change="" if before is None else f"{found.loss - before:+.3f}",
                         bits=f"{found.bits:.2f}", time=duration(found.seconds),
                         width=100 * max(0.0, found.loss) / largest, enough=goal.reached(found),
                         taken=found is result.best))
        before = found.loss
    return dict(rows=rows, unit=_unit(result.metric), reached=result.reached)


def _unit(metric: str) -> Phrase:
    return phrase("unit_points", metric=metric) if metric else phrase("unit_variance")


def _loss(value: float, metric: str) -> Phrase:
    return phrase("of_unit", value=f"{value:.3g}", unit=_unit(metric))


def _goal(goal: Goal, metric: str) -> Phrase:
    drop = (None if goal.max_drop is None else
            phrase("goal_drop", loss=_loss(goal.max_drop, metric)))
    bits = None if goal.bits is None else phrase("goal_bits", bits=f"{goal.bits:.3g}")
    return phrase("sum_scores", first=drop, rest=bits) if drop and bits else drop or bits
