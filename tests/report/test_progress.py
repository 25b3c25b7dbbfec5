# SPDX-License-Identifier: Apache-2.0
"""Bars on a terminal, plain lines elsewhere."""
import io
import re
import sys

import pytest

from paddle_mrecg.errors import numbered, plural
from paddle_mrecg.report.progress import Progress, duration, get_logger, rough_duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_one_line_at_start_and_end(capsys):
    with Progress("Calibration", 2) as bar:
        bar.update(2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}-INFO: "  # PaddleSlim's format
    assert re.fullmatch(stamp + "Calibration stage, 2 batches", lines[0])
    assert re.fullmatch(stamp + r"Calibration stage done: 2 batches in 0\.0 s", lines[1])


def test_on_a_terminal_a_bar_with_time_left_and_lines_above_it(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("Reconstruction", 4, "iter") as bar:
        bar.text("layer1.0")
        bar.update(4)
        get_logger().info("1/2 layer1.0")
    text = terminal.getvalue()
    assert re.search(r"Reconstruction stage, Run iter:\|[^|]*\| 0/4 \[00:00<\?\]", text)
    assert "4/4" in text and ", layer1.0" in text
    assert "stage, 4 iters" not in text  # the bar says it already
    assert re.search(r"(^|[\r\n])\d{4}-[^\r\n]*INFO: 1/2 layer1\.0\n", text)  # on a line of its own


def test_length_may_be_unknown(capsys):
    with Progress("Reading", unit="file") as bar:
        bar.update()
    assert "Reading stage\n" in capsys.readouterr().err


def test_interruption_is_not_reported_as_done(capsys):
    with pytest.raises(KeyboardInterrupt):
        with Progress("Calibration", 10) as bar:
            bar.update(2)
            raise KeyboardInterrupt
    err = capsys.readouterr().err
    assert "stopped" in err and "done" not in err


def test_logger_gets_one_handler_only():
    assert get_logger() is get_logger()
    ours = [h for h in get_logger().handlers if type(h).__module__.startswith("paddle_mrecg")]
    assert len(ours) == 1 and not get_logger().propagate


@pytest.mark.parametrize("seconds, text",
                         [(0.44, "0.4 s"), (9.96, "10 s"), (41.2, "41 s"), (185, "3 min 05 s"),
                          (3599.9, "1 h 00 min"), (7625, "2 h 07 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_plural():
    assert ([plural("batch", 1), plural("batch", 2), plural("iter", 0)]
            == ["batch", "batches", "iters"])
    assert [numbered(1, "try"), numbered(2, "try"), numbered(1, "layer"), numbered(0, "layer")] == [
        "1 try", "2 tries", "1 layer", "0 layers"]


@pytest.mark.parametrize("seconds, text", [
    (0.0, "half a minute"), (44.0, "half a minute"), (46.0, "a minute"), (89.0, "a minute"),
    (91.0, "2 minutes"), (5300.0, "88 minutes"), (5400.0, "2 hours"), (100 * 60 * 60, "4 days"),
    (47 * 3600, "47 hours"), (48 * 3600, "2 days")])
def test_predictions_are_in_words(seconds, text):
    assert rough_duration(seconds) == text
