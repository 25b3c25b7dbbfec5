# SPDX-License-Identifier: Apache-2.0
"""The strings of the page and of the summary, in English and in Chinese; they are in words.yaml."""
import functools
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import yaml

LANGUAGES = ("en", "zh")
WORDS_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "words.yaml")


class Phrase(NamedTuple):
    """A key of the table and what stands in its braces: text, or phrases of their own."""

    key: str
    values: Dict[str, Any]

    def text(self, language: str) -> str:
        """The phrase in ``en`` or ``zh``; raises KeyError for a key that is not in the table."""
        values = {n: v.text(language) if isinstance(v, Phrase) else v
                  for n, v in self.values.items()}
        return words_table()["words"][self.key][LANGUAGES.index(language)].format(**values)


def phrase(key: str, **values) -> Phrase:
    """``Phrase`` with keywords."""
    return Phrase(key, values)


def phrase_numbered(count: int, one: str, many: str) -> Phrase:
    """The phrase of the key ``one`` or ``many``, with ``count`` in its braces."""
    return Phrase(one if count == 1 else many, dict(count=count))


def translated(sentence: str) -> Optional[str]:
    """The Chinese of an English sentence of the log or of report.json; None if it is not known."""
    for pattern, chinese in _patterns():
        found = pattern.fullmatch(sentence)
        if found:
            return chinese.format(**found.groupdict())
    return None


@functools.lru_cache(maxsize=None)
def words_table() -> Dict[str, Any]:
    """``words``: key -> both languages; ``sentences``: a list of both languages."""
    with open(WORDS_FILE, encoding="utf-8") as file:
        return yaml.safe_load(file)


@functools.lru_cache(maxsize=None)
def _patterns() -> List[Tuple[re.Pattern, str]]:
    braces = re.compile(r"\\\{(\w+)\\\}")
    return [(re.compile(braces.sub(r"(?P<\1>.*?)", re.escape(english)), re.DOTALL), chinese)
            for english, chinese in words_table()["sentences"]]
