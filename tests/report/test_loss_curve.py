# SPDX-License-Identifier: Apache-2.0
"""The measures on the paper's figure 6 (MobileNetV2), digitised, and on our own units."""
import pytest

from paddle_mrecg.report.loss_curve import LossCurve, oscillation
from paddle_mrecg.report.units import InnerLoss, UnitReport


@pytest.mark.parametrize("curve, variation, drops, peak", [
    ("adaround", 67, 25.0, 18.6), ("brecq", 51.5, 20.9, 16.7), ("modcap", 17.3, 3.8, 10.7),
    ("loss", 10.7, 0.5, 10.7)])
def test_published_curves(figure_6, curve, variation, drops, peak):
    found = oscillation(figure_6[curve])
    assert (found["total_variation"]
            == pytest.approx(variation, abs=0.5 if curve == "adaround" else 0.06))
    assert found["sum_of_drops"] == pytest.approx(drops, abs=0.06)
    assert found["max"] == pytest.approx(peak, abs=0.06)


def test_short_curves_do_not_oscillate():
    assert oscillation([]) == dict(total_variation=0, sum_of_drops=0, max=0)
    assert oscillation([3.0]) == dict(total_variation=0, sum_of_drops=0, max=3.0)


def unit(index, first, count, loss, power=1.0, inner=()):
    return UnitReport(index, f"u{index}", first, [f"m{first + k}" for k in range(count)], count, 10,
                      1, 1.0, 2 * loss,
                      loss, loss, power, list(inner))


def test_joined_unit_is_a_flat_run_but_its_inner_block_ends_stay_visible():
    units = [unit(0, 0, 1, 1.0),
             unit(1, 1, 2, 3.0, power=2.0, inner=[InnerLoss(1, "m1", 9.0, 8.0, 4.0)]),
             unit(2, 3, 1, 4.0)]
    curve = LossCurve.of_units("with joining", units)
    assert curve.losses == [1.0, 3.0, 3.0, 4.0]
    assert curve.relative_losses == [1.0, 1.5, 1.5, 4.0]
    assert curve.spans == [(0, 0), (1, 2), (3, 3)]
    assert curve.at_block_ends().losses == [1.0, 8.0, 3.0, 4.0]
    measures = curve.measures()
    assert measures["absolute"]["sum_of_drops"] == 0
    assert measures["absolute_block_ends"]["sum_of_drops"] == 5
    assert measures["relative_block_ends"]["max"] == 4.0


def test_run_that_was_interrupted_or_skipped_modules_keeps_its_places():
    curve = LossCurve.of_units("with joining",
                               [unit(0, 4, 2, 3.0, inner=[InnerLoss(4, "m4", 9.0, 8.0, 4.0)])])
    assert curve.modules == [4, 5] and curve.at_block_ends().losses == [8.0, 3.0]
    assert LossCurve.of_units("nothing", []).measures()["absolute_block_ends"]["max"] == 0
