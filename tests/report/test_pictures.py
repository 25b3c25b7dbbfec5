# SPDX-License-Identifier: Apache-2.0
"""Pictures are readable PNGs that show every series, whatever the numbers are."""
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from paddle_mrecg.report.loss_curve import LossCurve
from paddle_mrecg.report.pictures import BLUE, ORANGE, oscillation_picture


def has_color(image, color, count=50):
    rgb = [int(color[k:k + 2], 16) for k in (1, 3, 5)]
    return (np.abs(image.astype(int) - rgb).max(-1) <= 2).sum() >= count


def curves(first, second, spans):
    modules, power = list(range(len(first))), [100.0] * len(first)
    return [LossCurve("without joining", modules, first, power, [(k, k) for k in modules]),
            LossCurve("with joining", modules, second, power, spans,
                      {a: (first[a], 100.0) for a, b in spans if b > a})]


def test_oscillation_picture_shows_both_curves(figure_6, tmp_path):
    path = str(tmp_path / "oscillation.png")
    spans = [(0, 0), (1, 1), (2, 3), (4, 4), (5, 6), (7, 7), (8, 10), (11, 13), (14, 14), (15, 16)]
    oscillation_picture(path, curves(figure_6["brecq"], figure_6["loss"], spans))
    image = np.asarray(Image.open(path))
    assert image.shape == (780, 1800, 3)
    for half in (image[:, :900], image[:, 900:]):
        assert has_color(half, ORANGE) and has_color(half, BLUE)
    assert (image == 255).all(-1).mean() > 0.4


@pytest.mark.parametrize("losses",
                         [[0.0, 0.0, 0.0], [1.0], [1e-9, 3.0, 0.0], [math.nan, 1.0, 2.0], []])
def test_odd_losses_are_drawn_without_complaint(tmp_path, losses):
    curve = LossCurve("without joining", list(range(len(losses))), losses,
                      [0.0 if v == 0 else 1.0 for v in losses], [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        oscillation_picture(str(tmp_path / "a.png"), [curve])
    assert Image.open(tmp_path / "a.png").size == (1800, 780)


def test_no_pyplot_state_is_touched(tmp_path):
    program = ("import sys; from paddle_mrecg.report.pictures import *; "
               f"oscillation_picture({str(tmp_path / 'a.png')!r}, []); "
               "sys.exit('matplotlib.pyplot' in sys.modules)")
    subprocess.run([sys.executable, "-c", program], check=True)


def test_paddle_may_be_imported_first(tmp_path):
    pytest.importorskip("paddle")
    program = ("import paddle; from paddle_mrecg.report.pictures import *; "
               f"oscillation_picture({str(tmp_path / 'a.png')!r}, [])")
    subprocess.run([sys.executable, "-c", program], check=True, stderr=subprocess.DEVNULL)
    assert Image.open(tmp_path / "a.png").size[0] > 500
