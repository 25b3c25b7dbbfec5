# SPDX-License-Identifier: Apache-2.0
"""What all subcommands share: exit codes, settings on the command line, and how one is added."""
import argparse
import os
from typing import Callable, List

from ..config.schema import did_you_mean
from ..errors import OutputError
from ..files import refuse_output

OK, DIFFERENT, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
LISTS = {"--lite_targets": ("arm", "x86"), "--runtimes": ("inference", "onnxruntime", "lite")}
OVERRIDES = dict(nargs="*", metavar="Section.key=value",
                 help="settings that win over the file; values as in YAML")


def add_command(commands, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    """Add a subcommand whose one-line help is the first line of ``run``'s docstring.

    Args:
        commands: what ``add_subparsers`` returned.
        name(str): the subcommand.
        run(callable): takes the parsed arguments and returns an exit code.
        text(str): what ``--help`` prints, with examples.
    """
    command = commands.add_parser(name, help=run.__doc__.rstrip("."), description=text,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    command.set_defaults(run=run, command=name, overrides=None)  # None: takes no settings
    return command


def config_arguments(command):
    """Settings in a file and on the command line, or a model and images in place of the file."""
    command.usage = ("%(prog)s (--config FILE | MODEL_DIR IMAGES) [Section.key=value ...] "
                     "[options]")
    command.add_argument("--config", metavar="FILE", help="YAML file of settings; or give "
                         "MODEL_DIR and IMAGES for 8 bits on Paddle Lite")
    command.add_argument("overrides", **OVERRIDES)
    command.add_argument("--trust-hooks", action="store_true",
                         help="call functions named in a config that lies with a model")


def joined_lists(words: List[str]) -> List[str]:
    """``--runtimes lite inference`` as ``--runtimes lite,inference``: argparse would take the
    MODEL_DIR behind such a list for a part of it.
    """
    joined, choices = [], ()
    for word in words:
        if choices and set(word.split(",")) <= {*choices, ""}:
            joined[-1] += ("," if joined[-1] else "") + word
            continue
        if choices and not joined[-1]:  # not one of them: the option's type says so
            joined[-1], choices = word, ()
            continue
        joined.append(word)
        choices = LISTS.get(word, ())
        joined += [""] if choices else []
    return joined[:-1] if choices and not joined[-1] else joined


def list_argument(command, option: str):
    """An option of ``LISTS``, whose words stand between commas or spaces; all of them without."""
    def words(text: str) -> List[str]:
        given = [word for word in text.split(",") if word]
        unknown = [word for word in given if word not in LISTS[option]]
        if unknown or not given:
            hint = did_you_mean(unknown[0], LISTS[option]) if unknown else ""
            raise argparse.ArgumentTypeError(
                f"there is no '{''.join(unknown[:1])}', only {', '.join(LISTS[option])}.{hint}")
        return given

    command.add_argument(option, type=words, default=LISTS[option], metavar="NAME[,NAME...]",
                         help=f"of {', '.join(LISTS[option])} (default all)")


def make_parent(path: str, option: str):
    """Make the folder of the file ``path``, which ``option`` names; raises OutputError where the
    file cannot be written.
    """
    refuse_output(path, option)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    except OSError as error:
        raise OutputError(f"{option} '{path}' cannot be written ({error.strerror}): "
                          "name another place") from error


def first_samples(graph, config, count: int):
    """The first ``count`` samples of the data of a job, whose training steps need not find a whole
    batch among them: ``config`` is changed.
    """
    from ..data import calibration_samples
    config.data.num_samples, config.mrecg.num_iters = count, 0
    return {n: v[:count] for n, v in calibration_samples(graph, None, config).items()}
