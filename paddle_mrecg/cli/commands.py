# SPDX-License-Identifier: Apache-2.0
"""What all subcommands share: exit codes, settings on the command line, and how one is added."""
import argparse
import os
from typing import Callable

from ..errors import OutputError
from ..files import refuse_output

OK, DIFFERENT, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
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
    command.add_argument("--config", metavar="FILE", help="YAML file of settings; or give "
                         "MODEL_DIR and IMAGES for 8 bits on Paddle Lite")
    command.add_argument("overrides", **OVERRIDES)
    command.add_argument("--trust-hooks", action="store_true",
                         help="call functions named in a config that lies with a model")


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
