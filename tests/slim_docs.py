# SPDX-License-Identifier: Apache-2.0
"""The table of PaddleSlim's settings and ours in demo/slim/README.md, written from the
translations.
"""
from paddle_mrecg.config.dialect.post import POST
from paddle_mrecg.config.dialect.aware import AWARE
from paddle_mrecg.config.dialect.translation import Ignored, Only


def switch_table() -> str:
    """One row per setting of PaddleSlim, as Markdown."""
    lines = ["| PaddleSlim | post-training | training |", "| --- | --- | --- |"]
    for name in [*POST, *(name for name in AWARE if name not in POST)]:
        lines.append(f"| `{name}` | {_cell(POST.get(name))} | {_cell(AWARE.get(name))} |")
    return "\n".join(lines)


def _cell(rule) -> str:
    if rule is None:
        return ""
    if isinstance(rule, Ignored):
        return "no effect"
    if isinstance(rule, Only):
        return (f"only {', '.join(f'`{v}`' for v in rule.values)}" if rule.values
                else f"refused: {rule.cure}")
    text = f"`{rule.section}.{rule.key}`"
    if isinstance(rule.values, dict):
        text += " (" + ", ".join(k if k == v else f"{k}: {v}" for k, v in rule.values.items()) + ")"
    return text
