# SPDX-License-Identifier: Apache-2.0
"""``module:function`` finds the user's code and says what is wrong with it."""
import sys

import numpy as np
import pytest

from paddle_mrecg.config import Data
from paddle_mrecg.data import call_hook, open_loader
from paddle_mrecg.errors import DataError, is_users
from paddle_mrecg.graph.graph import TensorInfo
from paddle_mrecg.report.progress import get_logger

MODULE = """
import numpy as np
NUMBER = 3
calls = []
def batches(count=2, label=True):
    calls.append(count)
    for k in range(count):
        x = np.full((2, 1), k, "float32")
        yield (x, np.array([[k], [k]])) if label else x
def broken():
    yield np.zeros((2, 1), "float32"), np.zeros(2, int)
    raise LookupError("mine")
class Group:
    @staticmethod
    def make():
        return 7
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of a module in the working directory."""
    name = "hook_" + "".join(c for c in tmp_path.name if c.isalnum())
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / f"{name}_bad.py").write_text("import not_there_at_all\n", encoding="utf-8")
    (tmp_path / f"{name}_raises.py").write_text("raise RuntimeError('boom')\n", encoding="utf-8")
    (tmp_path / f"{name}_exits.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_a_function_of_the_working_directory_is_called(module):
    assert len(list(call_hook(f"{module}:batches", arguments={"count": 3}, setting="s"))) == 3
    assert call_hook(f"{module}:Group.make", arguments={}, setting="s") == 7


@pytest.mark.parametrize("text, arguments, words", [
    ("no_such_module:f", {}, "no module named 'no_such_module'"),
    ("{}.sub:f", {}, "no module named"),
    ("{}_bad:f", {}, "needs 'not_there_at_all', which is not installed"),
    ("{}_raises:f", {}, "failed with RuntimeError: boom"),
    ("{}_exits:f", {}, "failed with SystemExit: 3"),
    ("{}:batchs", {}, "has no 'batchs'. Did you mean 'batches'?"),
    ("{}:NUMBER", {}, "is an int, which cannot be called: name a function"),
    ("{}:batches", {"cuont": 1},
     r"Data.loader_args .*cuont.* its signature is batches\(count=2, label=True\)"),
])
def test_what_is_wrong_with_it(module, text, arguments, words):
    with pytest.raises(DataError, match=words):
        call_hook(text.format(module), arguments=arguments, setting="Data.loader_args")


def test_as_loader_with_and_without_labels(module):
    info = [TensorInfo("x", (-1, 1))]
    loader = open_loader(Data(loader=f"{module}:batches", loader_args={"count": 3}, num_samples=5),
                         info, 0, labelled=True)
    for _ in range(2):  # called anew for every pass
        feeds, labels = zip(*loader)
        assert np.concatenate(labels).tolist() == [0, 0, 1, 1, 2]
        assert np.concatenate([f["x"][:, 0] for f in feeds]).tolist() == [0, 0, 1, 1, 2]
    assert sys.modules[module].calls == [3, 3]
    unlabelled = open_loader(Data(loader=f"{module}:batches"), info, 0)
    assert [len(f["x"]) for f in unlabelled] == [2, 2]


def test_labelled_needs_pairs(module):
    loader = open_loader(Data(loader=f"{module}:batches", loader_args={"label": False}),
                         [TensorInfo("x", (-1, 1))], 0, True)
    with pytest.raises(DataError, match=r"must yield \(inputs, labels\) pairs"):
        list(loader)


@pytest.mark.parametrize("labelled", [False, True])
def test_exceptions_inside_a_loader_pass_and_are_named_once(module, labelled, capsys):
    get_logger()
    loader = open_loader(Data(loader=f"{module}:broken"), [TensorInfo("x", (-1, 1))], 0, labelled)
    with pytest.raises(LookupError, match="mine") as caught:
        list(loader)
    assert is_users(caught.value) and caught.traceback[-1].name == "broken"
    line = f"ERROR: '{module}:broken' raised LookupError: this is your own code, not paddle_mrecg"
    assert capsys.readouterr().err.count(line) == 1


def test_a_loader_that_is_not_iterable_is_named(module):
    loader = open_loader(Data(loader=f"{module}:Group.make"), [TensorInfo("x", (-1, 1))], 0, True)
    with pytest.raises(DataError, match=f"'{module}:Group.make' is an int"):
        list(loader)
