# SPDX-License-Identifier: Apache-2.0
"""Fill measured results into markdown files and config headers, so that no number is typed by hand.

Markdown: the text between ``<!-- results:quickstart/direction bits=W4A8 -->`` and
``<!-- /results -->`` becomes the table of ``demo/quickstart/results/direction.json``, restricted to
the settings named after it. YAML: the comment
lines below ``# result: quickstart/direction bits=W4A8`` that start with ``#   `` become
one line per setting.
A block whose results file does not exist (yet) is left as it is.
``<!-- results:headline language=en -->`` is the README's table of three rows, whose picture is
drawn again too; the names in ``TABLES`` stand for tables that a script makes of a folder of cells.
"""

import argparse
import importlib
import re
import sys
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from demo.headline import (PICTURE, draw_picture, headline_table,  # noqa: E402
                           picture_is_current)
from demo.results import (NOT_YET, cell, load_results, markdown_table,  # noqa: E402
                          provenance, summarise)

MARKDOWN_BLOCK = re.compile(
    r"(<!-- results:(?P<name>\S+)(?P<where>[^\n]*?) *-->\n).*?(<!-- /results -->)", re.DOTALL)
TABLES = {  # name -> (folder of cells or file, its table)
    "mobile/cells": ("mobile/results/cells", "demo.mobile.cells:markdown"),
    "recipes": ("recipes/results", "demo.recipes.run:table"),
    "first_use": ("results/first_use_cells", "demo.first_use:table"),
    "steps": ("results/step_cells", "demo.compare_steps:table"),
    "analysis": ("results/analysis_cells", "demo.analysis_table:table"),
    "observers": ("results/observer_cells", "demo.compare_observers:table"),
    "slim/post": ("slim/results/post_cells", "demo.slim.compare_post:table"),
    "kills": ("results/kills.json", "demo.robustness:kills"),
    "fuzz": ("results/fuzz.json", "demo.robustness:fuzz"),
    "memory": ("results/memory.json", "demo.robustness:memory"),
    "hosts/trials": ("hosts/results/hosts", "demo.hosts.try_hosts:table"),
    "hosts/zoo": ("hosts/results/zoo", "demo.hosts.zoo:table"),
    "memory_slim": ("results/memory_slim.json", "demo.robustness:memory_slim"),
}
YAML_BLOCK = re.compile(r"(^# result: (?P<name>\S+)(?P<where>[^\n]*)\n)((?:^#   [^\n]*\n)*)",
                        re.MULTILINE)


def find_results(name: str, demo_dir: Path) -> Path:
    """``area/file`` -> ``<demo_dir>/area/results/file.json``."""
    area, _, file = name.rpartition("/")
    return demo_dir / area / "results" / f"{file}.json"


def parse_where(text: str) -> Dict[str, str]:
    """``bits=W4A8 data=rendered`` -> dict."""
    return dict(pair.split("=", 1) for pair in text.split())


def table_of_cells(name: str, demo_dir: Path, **where: str) -> str:
    """One of ``TABLES``, in a language where one is given. What makes it is imported now: some of
    it brings Paddle along, which filling in other results does not need.
    """
    folder, maker = TABLES[name]
    module, function = maker.split(":")
    return getattr(importlib.import_module(module), function)(demo_dir / folder, **where)


def fill_markdown(text: str, demo_dir: Path) -> str:
    """``text`` with every results block renewed."""
    def renew(match):
        if match["name"] in TABLES:
            made = table_of_cells(match["name"], demo_dir, **parse_where(match["where"]))
            return f"{match[1]}{made}\n{match[4]}"
        if match["name"] == "headline":
            table = headline_table(demo_dir, **parse_where(match["where"]))
            return f"{match[1]}{table}\n{match[4]}"
        path = find_results(match["name"], demo_dir)
        if not path.exists():
            return match[0]
        results, where = load_results(path), parse_where(match["where"])
        table = markdown_table(results, where) if summarise(results["runs"], where) else NOT_YET
        return f"{match[1]}{table}\n{match[4]}"
    return MARKDOWN_BLOCK.sub(renew, text)


def fill_yaml(text: str, demo_dir: Path) -> str:
    """``text`` with every result header renewed."""
    def renew(match):
        path = find_results(match["name"], demo_dir)
        if not path.exists():
            return match[0]
        results, where = load_results(path), parse_where(match["where"])
        lines = []
        for row in summarise(results["runs"], where):
            varied = " ".join(str(v) for k, v in row["setting"].items() if k not in where)
            numbers = ", ".join(f"{k} {cell(v, k)}" for k, v in row["measured"].items())
            seeds = "1 seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"
            lines.append(f"#   {varied + ': ' if varied else ''}{numbers} ({seeds})")
        lines.append(f"#   measured {provenance(results)}" if lines else f"#   {NOT_YET}")
        return match[1] + "".join(line + "\n" for line in lines)
    return YAML_BLOCK.sub(renew, text)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true",
                        help="change nothing; exit 1 when a file is out of date")
    args = parser.parse_args(argv)
    files = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "demo").rglob("*.md")),
             *sorted((ROOT / "configs").rglob("*.yaml"))]
    stale = []
    for path in (p for p in files if p.exists()):
        before = path.read_text(encoding="utf-8")
        after = (fill_yaml if path.suffix == ".yaml" else fill_markdown)(before, ROOT / "demo")
        if after != before:
            stale.append(path)
            if not args.check:
                path.write_text(after, encoding="utf-8")
    if not picture_is_current(ROOT / "demo"):
        stale.append(ROOT / "demo" / PICTURE)
        if not args.check:
            draw_picture(ROOT / "demo")
    for path in stale:
        print(("out of date: " if args.check else "updated: ") + str(path.relative_to(ROOT)))
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
