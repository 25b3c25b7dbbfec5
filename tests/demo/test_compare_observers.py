# SPDX-License-Identifier: Apache-2.0
"""The table of observers."""
from demo import compare_observers, results


def test_table_has_a_row_per_model_and_marks_the_best(tmp_path):
    for observer, score in (("output_error", 92.25), ("mse", 80.0), ("kl", 92.25)):
        setting = dict(model="PP-OCRv4 rec", metric="words", bits="W8A8", observer=observer)
        results.save_results(results.cell_path(tmp_path, setting, 0), "python x.py",
                             [results.run_record(setting, 0, {"score": score, "seconds": 9.0},
                                                 samples=250, calibration=32)])
    head, _, row, *_ = compare_observers.table(tmp_path).splitlines()
    assert head == "| model | bits | output_error | mse | min_max | percentile | kl |"
    assert row == ("| PP-OCRv4 rec, words of 250 | W8A8 | **92.25** | 80.00 | – | – | **92.25** |")


def test_every_observer_that_can_be_chosen_is_compared():
    from paddle_mrecg.config import QuantPost
    field = QuantPost.__dataclass_fields__["activation_observer"]
    assert set(compare_observers.OBSERVERS) == set(field.metadata["choices"])
