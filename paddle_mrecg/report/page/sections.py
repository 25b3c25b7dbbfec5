# SPDX-License-Identifier: Apache-2.0
"""What the page shows, section by section, from the fields of a report."""
import re
import shlex
from typing import Any, Dict, List

import yaml

from ...config import Config, MRECG
from ...config.io import config_to_dict
from ..layers import ranked
from ..loss_curve import LossCurve
from ..progress import duration
from ..report import STAGES, Report, size_text
from ..summary import (MOST_METRICS, RUNTIME_TITLES, milliseconds, model_name, number,
                       setting, short_bits, strategy, summary, speed_verdict)
from ..words import phrase, phrase_numbered
from . import charts

FIRST_LAYERS, FIRST_CURVES = 20, 4  # shown without unfolding
WEIGHTS_SHARE = re.compile(r"(.*); ([\d.]+ ?%) of all weights.*", re.DOTALL)


def sections(report: Report) -> Dict[str, Any]:
    """Everything that the template reads."""
    return dict(name=model_name(report), title=phrase("title"), summary=summary(report),
                tiles=_tiles(report), notes=list(report.notes), done=_done(report),
                scores=_score_rows(report), sizes=_size_rows(report), speed=_speed_rows(report),
                layers=_layer_rows(report), losses=_losses(report), histograms=_histograms(report),
                float_tensors=_float_tensors(report), verification=_verification(report),
                cost=_cost(report), reproduce=_reproduce(report))


def _tiles(report: Report) -> List[Dict]:
    """The few numbers in large type."""
    tiles = [dict(value=short_bits(report), label=phrase("tile_bits"), bad=False)]
    full, ours = (report.metrics.get(s, {}) for s in ("float", "quantized"))
    for name in list(ours)[:MOST_METRICS - 1]:
        tiles.append(dict(value=number(ours[name]), bad=False, label=phrase(
            "tile_score", metric=name, value=number(full.get(name)))))
    if not ours and report.output_error is not None:
        tiles.append(dict(value=f"{100 * report.output_error:.3g} %", bad=False,
                          label=phrase("tile_output")))
    if {"float_file", "quantized_file"} <= set(report.sizes):
        small, large = (report.sizes[k]["bytes"] for k in ("quantized_file", "float_file"))
        tiles.append(dict(value=size_text(small), bad=False, label=phrase(
            "tile_size", share=f"{100 * small / max(1, large):.0f} %")))
    timed = {n: t for n, t in report.speed.items() if "ratio" in t}
    if timed:
        best = max(timed, key=lambda n: timed[n]["ratio"])
        tiles.append(dict(value=f"{timed[best]['ratio']:.2f} ×",
                          bad=speed_verdict(timed[best]) == "slower",
                          label=phrase("tile_speed", runtime=RUNTIME_TITLES.get(best, best))))
    return tiles


def _done(report: Report) -> List[tuple]:
    """(word, text or phrase) of every line."""
    scales = sorted({w.get("scale", "") for w in report.weights.values()} - {""})
    rows = [("model", setting(report, "Global", "model_dir") or model_name(report)),
            ("strategy", strategy(report)),
            ("weight_bits", _counted_bits(report.weights)),
            ("activation_bits", _counted_bits(report.activations)),
            ("target", setting(report, "Global", "target", "?"))]
    rows += [("scales", phrase(scale)) for scale in scales
             if scale in ("per_channel", "per_tensor")]
    rows += [("samples", str(report.samples.get("calibration", "?")))]
    if report.units:
        rows.append(("units", phrase(
            "units_joined", units=len(report.units),
            modules=phrase_numbered(sum(len(u.modules) for u in report.units), "one_module",
                                    "many_modules"),
            granularity=setting(report, "MRECG", "granularity", "?"))))
    return rows + [("seed", str(report.seed)), ("device", report.device),
                   ("versions", ", ".join(f"{k} {v}" for k, v in report.versions.items())),
                   ("status", phrase("complete" if report.status == "complete"
                                     else "interrupted"))]


def _counted_bits(tensors: Dict[str, Dict]):
    """Bits and how many tensors have them, as one phrase."""
    counts: Dict[int, int] = {}
    for tensor in tensors.values():
        counts[tensor["bits"]] = counts.get(tensor["bits"], 0) + 1
    listed = "-"
    for bits, count in sorted(counts.items(), key=lambda item: -item[1]):
        entry = phrase("bits_layers", bits=bits, tensors=phrase_numbered(count, "one_tensor",
                                                                          "many_tensors"))
        listed = entry if listed == "-" else phrase("sum_scores", first=listed, rest=entry)
    return listed


def _score_rows(report: Report) -> List[Dict]:
    """Per metric, the networks from the float one to the written one."""
    result = []
    for name in dict.fromkeys(m for s in STAGES for m in report.metrics.get(s, {})):
        values = {s: report.metrics[s][name] for s in STAGES if name in report.metrics.get(s, {})}
        full, recovered = values.get("float"), report.recovered(name)
        largest = max(abs(value) for value in values.values())
        result.append(dict(
            metric=name, recovered="-" if recovered is None else f"{100 * recovered:.0f} %",
            rows=[dict(stage=stage, value=number(value, like=largest),
                       place=charts.lane(value, list(values.values())),
                       change="" if stage == "float" or full is None
                       else number(value - full, "+", largest))
                  for stage, value in values.items()]))
    return result


def _size_rows(report: Report) -> List[Dict]:
    largest = max([s.get("bytes", s.get("float32", 0)) for s in report.sizes.values()] or [0])
    rows = []
    for key in ("float_file", "quantized_file", "codes"):
        found = report.sizes.get(key)
        if found:
            stored = found["int8"] if key == "codes" else found["bytes"]
            rows.append(dict(key=key, stored=size_text(stored), zipped=size_text(found["zipped"]),
                             coded=size_text(found["entropy_coded"]) if key == "codes" else "",
                             share=100 * stored / max(1, largest)))
    return rows


def _speed_rows(report: Report) -> Dict:
    rows, slower = [], []
    timed = [t for t in report.speed.values() if "ratio" in t]
    longest = max([t[k]["high"] for t in timed for k in ("float", "int8")] or [1.0])
    for name, times in report.speed.items():
        runtime = RUNTIME_TITLES.get(name, name)
        if "ratio" not in times:
            rows.append(dict(runtime=runtime, failure=times.get("failure", "")))
            continue
        if speed_verdict(times) == "slower":
            slower.append(runtime)
        rows.append(dict(runtime=runtime, verdict=speed_verdict(times),
                         ratio=f"{times['ratio']:.2f}",
                         spread=_spread(times["ratio_low"], times["ratio_high"], ".2f"),
                         bars=[dict(kind=kind, median=milliseconds(times[kind]["median"]),
                                    spread=_spread(times[kind]["low"], times[kind]["high"], ".3g"),
                                    width=100 * times[kind]["median"] / longest)
                               for kind in ("float", "int8")]))
    first = timed[0] if timed else {}
    return dict(rows=rows, slower=slower, threads=first.get("threads"),
                repeats=first.get("repeats"))


def _spread(low: float, high: float, form: str) -> str:
    return f"[{low:{form}}–{high:{form}}]"


def _layer_rows(report: Report) -> Dict:
    rows = [dict(rank=k + 1, layer=layer, share=percent(layer.error),
                 parts=[percent(v) for v in (layer.weight_error, layer.activation_error,
                                              layer.arriving_error)])
            for k, layer in enumerate(ranked(report.layers))]
    largest = max([r["layer"].error for r in rows if r["layer"].error == r["layer"].error] or [1.0])
    for row in rows:
        error = row["layer"].error
        row["width"] = 100 * error / largest if error == error and largest else 0.0
    return dict(first=rows[:FIRST_LAYERS], more=rows[FIRST_LAYERS:])


def percent(value: float) -> str:
    """A share with three digits; a dash for NaN."""
    if value != value:
        return "-"
    return f"{100 * value:.3g} %" if value >= 1e-4 or value == 0 else "<0.01 %"


def _losses(report: Report) -> Dict:
    """Error along the network before and after training, and curves of the worst units."""
    units, trained = report.units, any(u.iterations for u in report.units)
    result = dict(units=units, trained=trained, along=None, curves=[])
    if not units:
        return result
    stages = (("before", "loss_start"), ("after", "loss_hard"))[0 if trained else 1:]
    lines = [LossCurve.of_units(kind, units, field) for kind, field in stages]
    result["along"] = charts.curves(
        [(c.label, c.modules, [100 * v for v in c.relative_losses]) for c in lines],
        [span for span in lines[-1].spans if span[1] > span[0]], markers=len(lines[0].modules) < 60)
    with_curve = sorted((u for u in units if len(u.curve) > 1), key=lambda u: -u.relative_hard)
    result["curves"] = [(u, charts.curves([("after", *zip(*u.curve))], markers=False))
                        for u in with_curve[:FIRST_CURVES]]
    result["rows"] = [(u, percent(u.relative_start), percent(u.relative_hard),
                       duration(u.seconds)) for u in units]
    return result


def _histograms(report: Report) -> List[Dict]:
    result = []
    for layer in ranked([x for x in report.layers if x.weights or x.activations]):
        pictures = [dict(what=what, chart=charts.bars(found), used=found.used, levels=found.levels,
                         outside=percent(found.outside))
                    for what, found in (("weights", layer.weights), ("input", layer.activations))
                    if found]
        result.append(dict(layer=layer, error=percent(layer.error), pictures=pictures))
    return result


def _float_tensors(report: Report) -> List[tuple]:
    """(tensor, reason, share) of each."""
    found = ((name, WEIGHTS_SHARE.fullmatch(reason), reason) for name, reason
             in report.float_tensors.items())
    return [(name, *(match.groups() if match else (reason, ""))) for name, match, reason in found]


def _verification(report: Report) -> Dict:
    found = report.verification
    if not found:
        return {}
    return dict(agrees=report.agrees, samples=found.get("samples", "?"), rows=[
        (word, f"{found[key]:.3g}") for word, key in (
            ("max_difference", "max_abs_diff"), ("mean_difference", "mean_abs_diff"),
            ("largest_output", "max_abs_output")) if key in found])


def _cost(report: Report) -> Dict:
    together = sum(report.seconds.values())
    return dict(together=duration(together),
                memory=size_text(report.peak_memory) if report.peak_memory else "",
                rows=[(name, duration(s), 100 * s / (together or 1.0))
                      for name, s in report.seconds.items()])


def _reproduce(report: Report) -> Dict:
    """The command, the settings that differ from the defaults, and all of them."""
    preset = setting(report, "MRECG", "preset")
    plain = config_to_dict(Config())
    defaults = config_to_dict(Config(mrecg=MRECG(preset=preset))) if preset else plain
    defaults["MRECG"]["preset"] = plain["MRECG"]["preset"]
    changed = {section: {k: v for k, v in values.items()
                         if k not in defaults.get(section, {}) or v != defaults[section][k]}
               for section, values in report.config.items()}
    place = setting(report, "Global", "save_dir", "").rstrip("/") or "."
    words = [f"{place}/resolved_config.yaml", f"Global.save_dir={place}_again"]
    return dict(command=f"paddle-mrecg quant --config {' '.join(map(shlex.quote, words))}",
                from_python=not (setting(report, "Global", "model_dir")
                                 and (setting(report, "Data", "image_dir")
                                      or setting(report, "Data", "loader"))),
                changed=yaml_text({s: v for s, v in changed.items() if v}),
                settings=yaml_text(report.config))


def yaml_text(value: Dict) -> str:
    """Settings as lines of a config; empty for none."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True) if value else ""
