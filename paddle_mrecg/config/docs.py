# SPDX-License-Identifier: Apache-2.0
"""The tables of all settings, written from the dataclasses: there is no
second place for a default.
"""
import textwrap
from typing import Iterator, List

import yaml

from .post import PRESETS
from .schema import ALL_SECTIONS, Setting, all_settings, section_class

DOC_COLUMNS = ("key", "type", "default", "allowed", "symbol", "meaning")


def markdown_tables() -> str:
    """All sections and presets as Markdown, for the README."""
    parts = []
    for section in ALL_SECTIONS:
        parts += [f"### {section}", "", _purpose(section), "",
                  *_markdown(DOC_COLUMNS, _rows(section)), ""]
    keys = sorted({k for values in PRESETS.values() for k in values})
    rows = [[f"`{name}`"] + [_yaml_text(values[k]) if k in values else "" for k in keys]
            for name, values in PRESETS.items()]
    parts += ["### Presets", "", "Starting values of `MRECG`; an empty cell is the default above.",
              "",
              *_markdown(["preset"] + [f"`{k}`" for k in keys], rows)]
    return "\n".join(parts)


def text_tables(sections=ALL_SECTIONS, width: int = 100) -> str:
    """Sections as text for a terminal, one paragraph per key."""
    lines: List[str] = []
    for section in sections:
        lines += [f"{section}: {_purpose(section)}", ""]
        for s in (s for s in all_settings() if s.section == section):
            allowed = f"; {s.allowed}" if s.allowed else ""
            symbol = f"; {s.symbol} in the paper" if s.symbol else ""
            lines.append(f"  {s.key}: {_yaml_text(s.default)}  ({s.type}{allowed}{symbol})")
            lines += textwrap.wrap(s.doc, width, initial_indent="      ",
                                   subsequent_indent="      ")
        lines.append("")
    if "MRECG" in sections:
        lines.append("presets (MRECG.preset), and what they start from instead of the defaults:")
        lines += [
            f"  {name}: "
            f"{', '.join(f'{k} {_yaml_text(v)}' for k, v in values.items()) or 'the defaults'}"
            for name, values in PRESETS.items()
        ]
    return "\n".join(lines).rstrip()


def _rows(section: str) -> Iterator[List[str]]:
    for s in all_settings():
        if s.section == section:
            yield _cells(s)


def _cells(s: Setting) -> List[str]:
    return [f"`{s.key}`", s.type, f"`{_yaml_text(s.default)}`" if s.default is not None else "–",
            s.allowed, s.symbol, s.doc]


def _markdown(header, rows) -> List[str]:
    def line(cells):
        return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"
    return [line(header), line(["---"] * len(header)), *map(line, rows)]


def _purpose(section: str) -> str:
    """First sentence of the section's docstring."""
    return section_class(section).__doc__.splitlines()[0]


def _yaml_text(value) -> str:
    """As one would write it in YAML."""
    if value is None:
        return "unset"
    if isinstance(value, float):
        return f"{value:.4g}"
    return yaml.safe_dump(value, default_flow_style=True, width=1000).replace("\n...", "").strip()
