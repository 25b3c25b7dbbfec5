# SPDX-License-Identifier: Apache-2.0
"""Run a script of a host as it is, with our names registered in PaddleSlim and the sections of
its YAML file switched on.
"""
import contextlib
import importlib
import runpy
import sys
from typing import Optional

from ..errors import ModelError
from ..report.progress import get_logger
from ..slim import registration
from ..slim.patches import Patches
from .host import ScriptCall, import_roots
from .sections import Strategies
from .switches import Switches


def run_script(call: ScriptCall, strategies: Strategies, watch: Optional[str] = None) -> bool:
    """Run a script as ``python SCRIPT ...`` does, our strategies switched on.

    Args:
        call(Call): the script, its arguments and its host.
        strategies(Strategies): see ``sections.examine``.
        watch(str, optional): folder for tables, pictures and curves of the training. Default: None.

    Returns:
        bool: whether every program that it exported computes what the trained model does.

    Raises:
        ModelError: the host's package is incomplete, or of a version that is not known here.
    """
    switches, patches = Switches(strategies, call.name, watch), Patches()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_as_main(call))
        registration.register()
        stack.callback(registration.unregister)
        stack.callback(patches.restore)
        switches.install(patches)
        if call.host is not None:
            _install_host(call, patches, switches)
        runpy.run_path(call.script, run_name="__main__")
        switches.finish()
    if switches.unused():
        get_logger().warning("%s had no effect: %s quantizes nothing that these sections are for",
                             " and ".join(switches.unused()), call.script)
    return switches.agrees


def _install_host(call: ScriptCall, patches: Patches, switches: Switches):
    try:
        call.host.install(patches, switches)
    except ModuleNotFoundError as error:
        raise ModelError(f"{call.name} cannot be imported: no module named '{error.name}'; install "
                         f"the requirements.txt of {call.root}") from error
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{call.name} in {call.root} is not of a version that is known here "
                         f"({error}); tried are PaddleOCR 2.8, PaddleDetection of October 2024 and "
                         "PaddleClas 2.6") from error


@contextlib.contextmanager
def _as_main(call: ScriptCall):
    """``sys.argv`` and ``sys.path`` as the script expects them."""
    argv, path = sys.argv, list(sys.path)
    sys.argv = [call.script, *call.arguments]
    sys.path[:0] = import_roots(call)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
