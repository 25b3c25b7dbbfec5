# SPDX-License-Identifier: Apache-2.0
"""Ask the installed Paddle Lite converter which ops have a kernel, and write the table.

    python -m tests.deploy.derive_lite_ops            # writes paddle_mrecg/deploy/lite/ops.json
"""
import json
import re
import subprocess
from pathlib import Path

from paddle_mrecg.deploy.lite.convert import LITE_TARGETS
from paddle_mrecg.deploy.lite.env import find_lite

TABLE = Path(__file__).resolve().parents[2] / "paddle_mrecg" / "deploy" / "lite" / "ops.json"
WITHOUT_KERNEL = "kUnk"  # the column of ops that only passes of the converter know


def supported(opt, target):
    """Ops with a kernel for a target or its host, as ``--print_supported_ops`` shows them."""
    text = _ask(opt, "--print_supported_ops=true", f"--valid_targets={target}")
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if line.split()[:1] == ["OP_name"])
    columns = [(m.group(), m.end()) for m in re.finditer(r"\S+", lines[start])][1:]
    found = set()
    for line in filter(str.strip, lines[start + 1:]):
        name = line.split()[0]
        marks = [m.end() for m in re.finditer(r"\bY\b", line) if m.start() > line.index(name)]
        # a mark stands near the middle of its column
        kinds = {next(kind for kind, end in columns if mark <= end) for mark in marks}
        if kinds - {WITHOUT_KERNEL}:
            found.add(name)
    return sorted(found)


def _ask(opt, *arguments):
    return subprocess.run([opt, *arguments], check=True, capture_output=True, text=True).stdout


def table():
    """What ``ops.json`` holds."""
    opt = find_lite().opt
    version = re.search(r"\d+\.\d+(\.\d+)?", _ask(opt, "--version"))
    return {"version": version.group() if version else "",
            **{target: supported(opt, target) for target in LITE_TARGETS}}


if __name__ == "__main__":
    TABLE.write_text(json.dumps(table(), indent=0) + "\n", encoding="utf-8")
