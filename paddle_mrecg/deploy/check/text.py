# SPDX-License-Identifier: Apache-2.0
"""A check report as text."""
from typing import List

from .doctor import CheckReport, RuntimeFinding

MOST_LAYERS = 12


def report_text(report: CheckReport) -> str:
    """A paragraph per runtime, then Paddle Lite's table of ops."""
    lines = [f"{report.samples} samples, {report.layers} layers, outputs up to "
             f"{report.max_abs_output:.4g}; a layer may differ by {100 * report.tolerance:g} % "
             "(root mean square)"]
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
    for layer in found.findings[:MOST_LAYERS]:
        lines.append(f"  {layer.name} ({layer.op}, {layer.output}): {100 * layer.relative:.2g} %, "
                     f"max {layer.max_abs_diff:.3g}")
        lines.append(f"      cause: {layer.cause}" + ("  [x86 only]" if layer.x86_only else ""))
        lines.append(f"      cure:  {layer.cure}")
    if len(found.findings) > MOST_LAYERS:
        lines.append(f"  ... and {len(found.findings) - MOST_LAYERS} more layers")
    return lines


def _lite_ops(report: CheckReport) -> List[str]:
    if not report.lite_ops:
        return [f"\nPaddle Lite for ARM: no table ({report.lite_why})"] if report.lite_why else []
    int8 = sum(row.int8 for row in report.lite_ops)
    lines = [f"\nPaddle Lite for ARM: {int8} of {len(report.lite_ops)} convolutions and matrix "
             "products run in int8"]
    lines += [f"  float: {row.weight} ({row.kernel}): {row.why}" for row in report.lite_ops
              if not row.int8]
    return lines
