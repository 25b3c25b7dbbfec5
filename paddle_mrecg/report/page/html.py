# SPDX-License-Identifier: Apache-2.0
"""Pages of one file, in two languages: that of a report, and what the pages of other jobs are made
with.
"""
import base64
import hashlib
import os
from typing import Any, Callable, Mapping

import jinja2
from markupsafe import Markup, escape

from ...files import write_text
from ..progress import get_logger
from ..report import Report
from ..words import LANGUAGES, Phrase, phrase, translated
from .sections import sections

FOLDER = os.path.dirname(os.path.abspath(__file__))
STYLE, SCRIPT = "style.css", "script.js"


def write_page(path: str, make: Callable[[], str]):
    """Write a page; a page that cannot be drawn is one warning, never the end of a job.

    Args:
        path(str): file to write, replaced as a whole.
        make(callable): returns the page, see ``render``.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        text = make()
    except Exception as error:  # whatever an odd report makes of one of its sections
        get_logger().warning("no %s: %s: %s", os.path.basename(path), type(error).__name__, error)
        return
    write_text(path, text)


def page(report: Report) -> str:
    """The page of a quantized model as HTML."""
    return render("page.html", sections(report))


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page as HTML, with both languages in it.

    Its own security policy forbids everything but its one style sheet and its one script, so
    neither a name in a report nor a program next to the page can add any, and nothing is loaded.

    Args:
        template(str): file of this folder that extends ``frame.html``.
        values(dict): what it reads; ``name``, ``title``, ``summary`` and ``tiles`` of every page.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    style, script = (_read_asset(name) for name in (STYLE, SCRIPT))
    environment.globals.update(t=_both, known=_known)
    return environment.get_template(template).render(
        values, style=style, script=script,
        policy=f"default-src 'none'; style-src '{_policy_digest(style)}'; "
               f"script-src '{_policy_digest(script)}'")


def _both(what, end: str = "", **values):
    """The template's ``t``: a key with values, or a phrase, in both languages.

    ``end`` stands behind the English only: Chinese sentences follow each other without a space.
    """
    if not isinstance(what, Phrase):
        what = phrase(what, **values)
    english, chinese = (what.text(language) for language in LANGUAGES)
    return _spans(english + end, chinese)


def _known(sentence: str):
    """An English sentence of a report, with its Chinese where that is known."""
    return _spans(sentence, translated(sentence) or sentence)


def _spans(english: str, chinese: str):
    if english == chinese:
        return escape(english)
    return Markup('<span lang="en">{}</span><span lang="zh">{}</span>').format(english, chinese)


def _policy_digest(text: str) -> str:
    """What a content security policy calls a text by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read_asset(name: str) -> str:
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return file.read()
