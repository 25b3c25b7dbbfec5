# SPDX-License-Identifier: Apache-2.0
"""VisualDL records are written when it works; when it does not, the run goes on."""
import sys
import types

import numpy as np
import pytest

from paddle_mrecg.report import vdl
from paddle_mrecg.report.vdl import HISTOGRAM_VALUES, VisualDLWriter


class FakeWriter:
    def __init__(self, logdir):
        self.calls, self.closed = [], False
        FakeWriter.last = self

    def add_scalar(self, **kwargs):
        self.calls.append(kwargs)

    add_histogram = add_scalar

    def close(self):
        self.closed = True


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(sys.modules, "visualdl", types.SimpleNamespace(LogWriter=FakeWriter))


def use(board, unit):
    board.step(3, 10, loss=0.5)
    board.step(3, 20, loss=0.4, round_term=1.0, beta=12.0, settled=0.25)
    board.unit(unit)
    board.histogram("h", np.zeros((10, HISTOGRAM_VALUES)), 0)


def test_tags(fake, make_unit):
    with VisualDLWriter("dir") as board:
        use(board, make_unit())
    calls = FakeWriter.last.calls
    assert ([c["tag"] for c in calls[:5]]
            == [f"training_of_unit_003/{t}"
                for t in ("loss", "loss", "round_term", "beta", "settled")])
    assert dict(tag="unit_by_unit/loss_hard", value=0.0157, step=2) in calls
    assert calls[-1]["values"].shape == (HISTOGRAM_VALUES,) and FakeWriter.last.closed


def test_switched_off(fake, make_unit):
    FakeWriter.last = None
    with VisualDLWriter("dir", enabled=False) as board:
        use(board, make_unit())
    assert FakeWriter.last is None


@pytest.mark.parametrize("broken", ["import", "write"])
def test_broken_visualdl_is_one_notice(fake, make_unit, monkeypatch, capsys, broken):
    if broken == "import":
        monkeypatch.setitem(sys.modules, "visualdl", None)
    else:
        def fail(self, **_):
            raise TypeError("Descriptors cannot be created directly")
        monkeypatch.setattr(FakeWriter, "add_scalar", fail)
    with VisualDLWriter("dir") as board:
        use(board, make_unit())
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no VisualDL records" in err


def test_a_full_disk_is_one_notice_that_names_the_place(fake, make_unit, tmp_path, monkeypatch,
                                                        capsys):
    room = [1 << 30, 1 << 30, 0]
    monkeypatch.setattr(vdl, "free_bytes", lambda path: room.pop(0) if len(room) > 1 else room[0])
    with VisualDLWriter(str(tmp_path / "board")) as board:
        use(board, make_unit())
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device" in err
    assert f"'{tmp_path / 'board'}'" in err and len(FakeWriter.last.calls) == 1


def test_real_records(make_unit, tmp_path):
    pytest.importorskip("visualdl")
    with VisualDLWriter(str(tmp_path)) as board:
        use(board, make_unit())
    records = list(tmp_path.glob("vdlrecords.*.log"))
    assert len(records) == 1 and records[0].stat().st_size > 500
