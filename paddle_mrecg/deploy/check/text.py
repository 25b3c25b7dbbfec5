# SPDX-License-Identifier: Apache-2.0
"""A check report as text."""
from typing import Dict, List, Tuple

from ...errors import listed, numbered
from .doctor import CheckReport, LayerFinding, RuntimeFinding

LAYERS_OF_A_CAUSE = 3  # layers of a cause


def report_text(report: CheckReport) -> str:
    """A paragraph per runtime, then Paddle Lite's table of ops."""
    lines = [f"{numbered(report.samples, 'sample')}, {numbered(report.layers, 'layer')}, "
             f"outputs up to {report.max_abs_output:.4g}; a layer may differ by "
             f"{100 * report.tolerance:g} % (root mean square)"]
    if report.jitter:
        largest, mean = report.jitter["max_abs_diff"], report.jitter["mean_abs_diff"]
        lines.append(f"the simulation itself moves by {largest:.3g} (mean {mean:.3g}) when every "
                     "activation changes by 1e-6 before it is rounded")
    for finding in report.runtimes:
        lines += _runtime(finding)
    return "\n".join(lines + _lite_ops(report))


def _runtime(found: RuntimeFinding) -> List[str]:
    head = f"\n{found.runtime}: {found.status}"
    if found.max_abs_diff is not None:
        head += (f"; whole run max |difference| {found.max_abs_diff:.3g}, mean "
                 f"{found.mean_abs_diff:.3g}")
    if found.worst_layer is not None:
        head += f"; worst layer {100 * found.worst_layer:.2g} %"
    lines = ([head] + ([f"  {found.why}"] if found.why else [])
             + [f"  rewritten: {note}" for note in found.notes])
    return lines + [_cause(layers) for layers in _by_cause(found.findings)]


def _by_cause(findings: List[LayerFinding]) -> List[List[LayerFinding]]:
    """Layers with the same cause and cure together, worst first, as are the causes."""
    groups: Dict[Tuple, List[LayerFinding]] = {}
    for layer in sorted(findings, key=lambda f: f.relative, reverse=True):
        groups.setdefault((layer.cause, layer.cure, layer.x86_only), []).append(layer)
    return list(groups.values())


def _cause(layers: List[LayerFinding]) -> str:
    """One line: how many layers, which, why, and what to do."""
    named = listed([f"{layer.name} ({layer.op}, {layer.output}) {100 * layer.relative:.2g} %"
                    for layer in layers], LAYERS_OF_A_CAUSE)
    count = f"{len(layers)} layers: " if len(layers) > 1 else ""
    where = " [x86 only]" if layers[0].x86_only else ""
    return f"  {count}{named}; cause: {layers[0].cause}{where}; cure: {layers[0].cure}"


def _lite_ops(report: CheckReport) -> List[str]:
    if not report.lite_ops:
        return [f"\nPaddle Lite for ARM: no table ({report.lite_why})"] if report.lite_why else []
    int8 = sum(row.int8 for row in report.lite_ops)
    lines = [f"\nPaddle Lite for ARM: {int8} of {len(report.lite_ops)} convolutions and matrix "
             "products run in int8"]
    lines += [f"  float: {row.weight} ({row.kernel}): {row.why}" for row in report.lite_ops
              if not row.int8]
    return lines
