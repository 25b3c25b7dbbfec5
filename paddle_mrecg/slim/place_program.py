# SPDX-License-Identifier: Apache-2.0
"""Run the post-training job and put its program where PaddleSlim's next step looks for it."""
import os
import shutil

from ..errors import OutputError
from ..post.job import Result, quant_post_mrecg
from ..config.dialect.translation import Sections

MRECG_SWITCH = "mrecg"  # the value of PaddleSlim's arguments that asks for our job
REPORTS = ".mrecg"  # suffix of the folder with the report and everything else


def quantize_to(prefix: str, model, batches, sections: Sections, evaluator=None) -> Result:
    """Write ``<prefix>.pdmodel`` and ``.pdiparams``, and the whole result in ``<prefix>.mrecg``.

    Args:
        prefix(str): directory and stem of the two files; existing ones are
            replaced at the end, not before.
        model(str|tuple): what ``quant_post_mrecg`` takes.
        batches(iterable): calibration data.
        sections(dict): our settings.
        evaluator(callable, optional): see ``quant_post_mrecg``. Default: None.

    Raises:
        OutputError: the program cannot be written; and see ``quant_post_mrecg``.
    """
    result = quant_post_mrecg(model, batches, sections, reports_of(prefix), evaluator)
    place_program(result.prefix, prefix)
    return result


def reports_of(prefix: str) -> str:
    """The folder next to ``prefix`` that takes the whole result; its parent is made.

    Raises:
        OutputError: the parent cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(os.path.abspath(prefix)), exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{prefix}' cannot be written ({error.strerror}): "
                          "choose another place") from error
    return prefix + REPORTS


def place_program(source: str, prefix: str):
    """Give the program ``source`` its second name; parameters first, so that a new
    program never has old ones.
    """
    for suffix in (".pdiparams", ".pdmodel"):
        _replace(source + suffix, prefix + suffix)


def _replace(source: str, target: str):
    """A second name for ``source`` where the file system can do that, else a copy;
    never a half-written file.
    """
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"'{target}' cannot be written ({error.strerror}): it is in '{source}'; "
                          "copy it from there") from error
    finally:
        if os.path.lexists(temporary):
            os.remove(temporary)
