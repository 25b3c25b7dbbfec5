# SPDX-License-Identifier: Apache-2.0
"""The measures on the paper's figure 6 (MobileNetV2), digitised, and on our own units."""
import pytest

from paddle_mrecg.report import Curve, UnitReport, oscillation
from paddle_mrecg.report.units import InnerLoss

FIGURE_6 = {
    "adaround": [1.2, 2.80, 6.46, 6.22, 1.49, 2.20, 8.9, 2.18, 1.55, 2.29, 11.0, 3.7, 5.73, 10.9, 5.5, 8.95, 18.6],
    "brecq": [0.95, 1.45, 6.99, 4.0, 5.15, 7.38, 5.28, 7.4, 8.15, 9.36, 7.25, 10.03, 14.55, 6.85, 10.88, 16.66, 10.7],
    "modcap": [1.0, 1.7, 3.5, 3.5, 4.75, 5.15, 5.15, 6.9, 7.82, 7.0, 7.0, 9.65, 6.65, 6.65, 9.83, 10.7, 10.7],
    "loss": [1.07, 1.54, 3.52, 3.54, 4.87, 5.33, 5.35, 7.03, 6.93, 6.93, 6.93, 6.52, 6.51, 6.52, 10.24, 10.69, 10.69],
}


@pytest.mark.parametrize("curve, variation, drops, peak", [
    ("adaround", 67, 25.0, 18.6), ("brecq", 51.5, 20.9, 16.7), ("modcap", 17.3, 3.8, 10.7), ("loss", 10.7, 0.5, 10.7)])
def test_published_curves(curve, variation, drops, peak):
    found = oscillation(FIGURE_6[curve])
    assert found["total_variation"] == pytest.approx(variation, abs=0.5 if curve == "adaround" else 0.06)
    assert found["sum_of_drops"] == pytest.approx(drops, abs=0.06)
    assert found["max"] == pytest.approx(peak, abs=0.06)


def test_short_curves_do_not_oscillate():
    assert oscillation([]) == dict(total_variation=0, sum_of_drops=0, max=0)
    assert oscillation([3.0]) == dict(total_variation=0, sum_of_drops=0, max=3.0)


def unit(index, first, count, loss, power=1.0, inner=()):
    return UnitReport(index, f"u{index}", first, [f"m{first + k}" for k in range(count)], count, 10, 1, 1.0, 2 * loss,
                      loss, loss, power, list(inner))


def test_joined_unit_is_a_flat_run_but_its_inner_block_ends_stay_visible():
    units = [unit(0, 0, 1, 1.0), unit(1, 1, 2, 3.0, power=2.0, inner=[InnerLoss(1, "m1", 9.0, 8.0, 4.0)]),
             unit(2, 3, 1, 4.0)]
    curve = Curve.of_units("with joining", units)
    assert curve.losses == [1.0, 3.0, 3.0, 4.0]
    assert curve.relative_losses == [1.0, 1.5, 1.5, 4.0]
    assert curve.spans == [(0, 0), (1, 2), (3, 3)]
    assert curve.at_block_ends().losses == [1.0, 8.0, 3.0, 4.0]
    measures = curve.measures()
    assert measures["absolute"]["sum_of_drops"] == 0
    assert measures["absolute_block_ends"]["sum_of_drops"] == 5
    assert measures["relative_block_ends"]["max"] == 4.0


def test_run_that_was_interrupted_or_skipped_modules_keeps_its_places():
    curve = Curve.of_units("with joining", [unit(0, 4, 2, 3.0, inner=[InnerLoss(4, "m4", 9.0, 8.0, 4.0)])])
    assert curve.modules == [4, 5] and curve.at_block_ends().losses == [8.0, 3.0]
    assert Curve.of_units("nothing", []).measures()["absolute_block_ends"]["max"] == 0
