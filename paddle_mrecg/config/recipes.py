# SPDX-License-Identifier: Apache-2.0
"""The recipes that come along: whole config files to start from.

They are the files below ``configs/`` of the repository; a wheel holds them as
``paddle_mrecg/recipes``.
"""

import re
import textwrap
from pathlib import Path
from typing import Dict

from ..errors import ConfigError
from .schema import did_you_mean

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
LIST_WIDTH, INDENT = 100, "    "  # of the list


def recipes() -> Dict[str, Path]:
    """Name (``ocr/ppocr_cls_mrecg_w4a8``) -> file, in the order of the names.

    Raises:
        ConfigError: the installed package has no recipes.
    """
    inside = PACKAGE_FOLDER / "recipes"
    folder = inside if inside.is_dir() else PACKAGE_FOLDER.parent / "configs"
    found = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*.yaml"))
    }
    if not found:
        raise ConfigError(
            f"this installation has no recipes in '{folder}': install the package again"
        )
    return found


def recipe_text(name: str) -> str:
    """The content of a recipe.

    Args:
        name(str): as ``recipes`` gives it; its folder, or a suffix ``.yaml``, may be there or not.

    Raises:
        ConfigError: the recipe does not exist.
    """
    known = recipes()
    short = {path.stem: path for path in known.values()}
    wanted = name[: -len(".yaml")] if name.endswith(".yaml") else name
    wanted = wanted[len("configs/") :] if wanted.startswith("configs/") else wanted
    path = known.get(wanted) or short.get(wanted)
    if path is None:
        choices = known if "/" in wanted else short
        raise ConfigError(
            f"no recipe is named '{name}'.{did_you_mean(wanted, choices)} "
            "`paddle-mrecg config --recipe` lists all"
        )
    return path.read_text(encoding="utf-8")


def recipe_list() -> str:
    """Every name with the first sentence of its file."""
    lines = []
    for name, path in recipes().items():
        sentence = textwrap.wrap(_first_sentence(path), LIST_WIDTH - len(INDENT))
        lines += [name, *(INDENT + line for line in sentence)]
    return "\n".join(lines)


def _first_sentence(path: Path) -> str:
    """Of the header; the commands below it are set in by more than one blank."""
    header = re.match(r"(?:# \S.*\n)*", path.read_text(encoding="utf-8"))[0]
    text = " ".join(line[2:] for line in header.splitlines())
    return text.split(". ")[0].rstrip(" .:") + "."
