# SPDX-License-Identifier: Apache-2.0
"""Scripts of hosts run in this process, with a working folder and modules of their own."""
import logging
import sys
from pathlib import Path

import pytest
import yaml

import paddle
from paddle_mrecg.cli import main as cli
from paddle_mrecg.report.progress import get_logger

from tests.slim_nets import save_tiny

STUBS = Path(__file__).parent / "stubs"
HOST_MODULES = ("ppcls", "ppdet", "ppocr", "tools")
SCRIPTS = {"clas": "clas/tools/{}.py", "det": "det/tools/{}.py",
           "ocr": "ocr/deploy/slim/quantization/{}.py"}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """``host(script, files, *arguments)``: exit code of ``paddle-mrecg run``;
    files are name -> content.
    """
    messages = []

    class Handler(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    handler = Handler()
    get_logger().addHandler(handler)
    monkeypatch.chdir(tmp_path)
    before = {name for name in sys.modules}

    def run(script, files, *arguments):
        for name, content in files.items():
            (tmp_path / name).write_text(content if isinstance(content, str)
                                         else yaml.safe_dump(content, sort_keys=False),
                                         encoding="utf-8")
        kind, name = script.split("/")
        forget()
        options = [a for a in arguments
                   if a == "--check" or a.startswith(("--strategy", "--watch"))]
        rest = [a for a in arguments if a not in options]
        return cli.main(["run", *options, str(STUBS / SCRIPTS[kind].format(name)), *rest])

    def forget():
        for name in [n for n in sys.modules if n.split(".")[0] in HOST_MODULES and n not in before]:
            del sys.modules[name]

    run.messages, run.folder = messages, tmp_path
    yield run
    forget()
    get_logger().removeHandler(handler)
    paddle.disable_static()


@pytest.fixture(scope="session")
def float_dir(tmp_path_factory):
    """The tiny network as ``model.pdmodel`` and ``model.pdiparams``."""
    return save_tiny(tmp_path_factory.mktemp("float"))
