# SPDX-License-Identifier: Apache-2.0
"""What is known of a host project: how its scripts are called, and where its epochs begin."""
import os
from typing import List, NamedTuple, Optional, Tuple

from . import paddleclas, paddledetection, paddleocr

HOSTS = (paddleocr, paddledetection, paddleclas)
CONFIG_OPTIONS = ("-c", "--config", "--slim_config")
OVERRIDE_OPTIONS = ("-o", "--opt", "--override")


class ScriptCall(NamedTuple):
    """A script of a host, or any other script.

    Attributes:
        script(str): path of the script.
        arguments(list[str]): what it is called with.
        host(module or None): one of ``HOSTS``.
        root(str): the directory that holds the host's package; '' without host.
    """

    script: str
    arguments: List[str]
    host: Optional[object] = None
    root: str = ""

    @property
    def name(self) -> str:
        return self.host.NAME if self.host else os.path.basename(self.script)

    def config_files(self) -> List[str]:
        """Paths given with the options for config files, those that exist; of others the
        script itself will say so.
        """
        found, words = [], self.arguments
        for k, word in enumerate(words):
            option, equals, value = word.partition("=")
            if option in CONFIG_OPTIONS:
                found += [value] if equals else words[k + 1:k + 2]
        return [path for path in found if os.path.isfile(path)]

    def overrides(self) -> List[str]:
        """``key=value`` words after the options that override settings."""
        found, open_ = [], False
        for word in self.arguments:
            if word.startswith("-"):
                open_ = word in OVERRIDE_OPTIONS
            elif open_ and "=" in word:
                found.append(word)
        return found


def call_of(script: str, arguments: List[str]) -> ScriptCall:
    """Recognise the host by its package next to or above the script."""
    directory = os.path.dirname(os.path.abspath(script))
    while True:
        for host in HOSTS:
            if os.path.isdir(os.path.join(directory, host.PACKAGE)):
                return ScriptCall(script, arguments, host, directory)
        parent = os.path.dirname(directory)
        if parent == directory:
            return ScriptCall(script, arguments)
        directory = parent


def import_roots(call: ScriptCall) -> Tuple[str, ...]:
    """Where the script's imports are looked for, before everything else: its own folder,
    as always, and its host's.
    """
    own = os.path.dirname(os.path.abspath(call.script))
    return tuple(dict.fromkeys(path for path in (own, call.root) if path))
