# SPDX-License-Identifier: Apache-2.0
"""Words that the documentation, the messages and the names of the code do without."""
import re
from pathlib import Path

import pytest

from tests.test_layout import ROOT, tracked_files

UNWANTED = re.compile(r"\b(?:[Bb]eside|[Nn]obody|[Ss]omebody|[Qq]uantis\w*)\b"
                      r"|(?<![Tt]here )\b(?:is|are) no (?!(?:longer|more|less)\b)")


def test_plain_words():
    """"Next to", "is not a", one spelling of quantization; in names, too."""
    found = []
    for path in tracked_files():
        if (path.suffix in (".py", ".md", ".yaml", ".sh", ".html")
            and path.name != Path(__file__).name):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [f"{path.relative_to(ROOT)}:{k}: {line.strip()}"
                      for k, line in enumerate(lines, 1) if UNWANTED.search(line.replace("_", " "))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["beside it", "is no model", "ones_are_no_layers", "quantised",
                                  "Nobody knows"])
def test_an_unwanted_word_is_found(line):
    assert UNWANTED.search(line.replace("_", " ")) and not UNWANTED.search(
        "There is no model, besides it is no longer quantized")
