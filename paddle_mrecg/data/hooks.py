# SPDX-License-Identifier: Apache-2.0
"""``module:function`` settings: the user's own code, named in YAML."""
import importlib
import inspect
import os
import sys
from typing import Any, Callable, Dict

from ..config.schema import did_you_mean
from ..errors import DataError


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
    except Exception as error:  # whatever the user's module does when it is imported
        raise DataError(f"'{text}': importing {name} failed with "
                        f"{type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = [n for n in dir(value) if not n.startswith("_")]
            raise DataError(f"'{text}': {name} has no '{part}'.{did_you_mean(part, names)}")
        value = getattr(value, part)
    if not callable(value):
        raise DataError(f"'{text}' is a {type(value).__name__}, not a function")
    return value


def call_hook(text: str, *args, arguments: Dict[str, Any], setting: str):
    """Call a hook; arguments that it does not take are an error before it runs.

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
    return function(*args, **arguments)
