# SPDX-License-Identifier: Apache-2.0
"""``module:function`` settings: the user's own code, named in YAML."""
import contextlib
import importlib
import inspect
import logging
import os
import sys
import sysconfig
import traceback
from typing import Any, Callable, Dict, Iterator

from ..config import Config
from ..config.schema import did_you_mean
from ..errors import ConfigError, DataError, MrecgError, is_users, kind_of, mark_users


def find_hook(text: str) -> Callable:
    """The function that ``module:function`` names; modules in the working directory are found too.

    Raises:
        DataError: the module or function does not exist, or importing it fails.
    """
    name, _, attribute = text.partition(":")
    here = os.getcwd()
    if here not in sys.path:  # `paddle-mrecg` starts without it, `python -m` with it
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        value = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(missing + "."):
            raise DataError(f"'{text}': no module named '{missing}'; it is looked for in {here} "
                            "and among the installed packages") from error
        raise DataError(f"'{text}': importing {name} needs '{missing}', "
                        "which is not installed") from error
    except (Exception, SystemExit) as error:  # whatever the user's module does
        raise DataError(f"'{text}': importing {name} failed with "
                        f"{type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = [n for n in dir(value) if not n.startswith("_")]
            raise DataError(f"'{text}': {name} has no '{part}'.{did_you_mean(part, names)}")
        value = getattr(value, part)
    if not callable(value):
        raise DataError(f"'{text}' is {kind_of(value)}, which cannot be called: name a function")
    return value


def refuse_foreign_hooks(config: Config, path: str, own=()):
    """A config that lies with a model came with it: its functions are not called.

    Args:
        config(Config): what was read from ``path``.
        path(str): the config's file.
        own(list[str], optional): functions that the user named elsewhere. Default: ().

    Raises:
        ConfigError: the folder of ``path``, or one above it, holds a model (see
            ``_folders_that_came``), and the config names a function.
    """
    with_model = any(map(_holds_model, _folders_that_came(path)))
    hooks = {"Data.loader": config.data.loader, "Evaluation.evaluator": config.evaluation.evaluator,
             "Evaluation.data.loader": config.evaluation.data and config.evaluation.data.loader}
    for setting, hook in hooks.items():
        if with_model and hook and hook not in own:
            raise ConfigError(f"{setting} in '{path}' names the code '{hook}', and the file lies "
                              "with a model, or below one, as what others send does: copy it to a "
                              "folder of your own, or give --trust-hooks if you trust whoever "
                              "wrote it")


def _folders_that_came(path: str) -> Iterator[str]:
    """The folder of a file and those above it, as far as they may have come with it: to the
    working directory, or, from elsewhere, short of the folder that holds that too.
    """
    folder, here = os.path.dirname(os.path.realpath(path)), os.path.realpath(os.getcwd())
    while True:
        yield folder
        above = os.path.dirname(folder)
        if folder in (here, above) or above != here and _contains(above, here):
            return
        folder = above


def _contains(folder: str, inner: str) -> bool:
    return os.path.join(inner, "").startswith(os.path.join(folder, ""))


def _holds_model(folder: str) -> bool:
    try:
        return any(n == "__model__" or n.endswith((".pdmodel", ".pdiparams", ".nb"))
                   for n in os.listdir(folder))
    except OSError:
        return False


def users_frames(error: BaseException) -> str:
    """The lines of a traceback that lie in files of the user's, neither here nor in Python and its
    packages; all of them where none does.
    """
    paths = sysconfig.get_paths()
    skipped = tuple(os.path.join(os.path.realpath(path), "") for path in (
        os.path.dirname(os.path.dirname(__file__)),
        *(paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))))
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if os.path.isfile(frame.filename)
            and not os.path.realpath(frame.filename).startswith(skipped)]
    return "".join(traceback.format_list(mine or frames)).rstrip("\n")


@contextlib.contextmanager
def users_code(name: str):
    """Exceptions of the user's code pass through, behind a line that says whose they are;
    ``sys.exit`` is one.
    """
    try:
        yield
    except MrecgError:
        raise
    except (Exception, SystemExit) as error:
        if not is_users(error):  # once: calls of the user's code may lie within each other
            mark_users(error)
            logging.getLogger("paddle_mrecg").error(
                "%s raised %s: this is your own code, not paddle_mrecg", name,
                type(error).__name__)
        raise


def bound_hook(text: str, *args, arguments: Dict[str, Any], setting: str) -> Callable:
    """A hook that takes these arguments; it is not called.

    Args:
        text(str): ``module:function``.
        args: positional arguments.
        arguments(dict): keyword arguments from the config.
        setting(str): where they stand, for the message, e.g. ``Data.loader_args``.

    Raises:
        DataError: see ``find_hook``; or the function takes other arguments.
    """
    function = find_hook(text)
    try:
        inspect.signature(function).bind(*args, **arguments)
    except TypeError as error:
        raise DataError(f"'{text}' cannot be called with {setting} {arguments}: {error}; its "
                        f"signature is {function.__name__}{inspect.signature(function)}") from error
    except ValueError:  # some built-in callables have no signature
        pass
    return function


def call_hook(text: str, *args, arguments: Dict[str, Any], setting: str):
    """Call a hook; arguments and errors as of ``bound_hook``, before it runs."""
    function = bound_hook(text, *args, arguments=arguments, setting=setting)
    with users_code(f"'{text}'"):
        return function(*args, **arguments)
