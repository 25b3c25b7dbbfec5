# SPDX-License-Identifier: Apache-2.0
"""Sentences about units whose training went wrong."""
import re

from paddle_mrecg.config import MRECG
from paddle_mrecg.config.io import load_config
from paddle_mrecg.report.advice import advice as advice_on, float_note
from paddle_mrecg.report.advice import coarse_advice
from paddle_mrecg.report.units import UnitReport


def unit(name, nearest, soft, hard, power=100.0, iterations=300, note=""):
    return UnitReport(0, name, 0, [name], 1, 10, iterations, 1.0, nearest, soft, hard, power,
                      note=note)


def advice(units, **settings):
    return advice_on(units, MRECG(**dict(rounding_lr=0.2, num_iters=300, **settings)))


def test_well_trained_units_need_no_advice():
    assert (advice([unit("a", 50.0, 5.0, 5.5), unit("b", 0.5, 0.3, 0.45),
                    unit("c", 60.0, 60.0, 60.0, iterations=0)]) == [])


def test_a_unit_that_was_thrown_off_gets_smaller_steps():
    sentence, = advice([unit("a", 50.0, 5.0, 5.5), unit("b", 91.0, 86.0, 86.5)])
    assert "1 unit (b)" in sentence and "rounding_lr_start" in sentence


def test_undecided_roundings_get_a_heavier_term():
    sentence, = advice([unit("a", 75.0, 2.0, 17.0), unit("b", 75.0, 2.0, 18.0)])
    assert "2 units (a, b)" in sentence and "round_weight_relative" in sentence


def test_units_that_stayed_at_nearest_rounding_are_named_first():
    first, second = advice([unit("a", 50.0, 60.0, 50.0, note="training made the output worse; "
                                                             "nearest rounding stays")])
    assert ("1 unit kept the rounding that it began with, which was better: a" in first
            and "rounding_lr_start" in second)
    both, _ = advice([unit(name, 50.0, 60.0, 50.0, note="training made the output worse")
                      for name in "ab"])
    assert "2 units kept the rounding that they began with" in both


def test_from_solved_codes_a_small_gain_is_not_a_failure():
    gained = unit("b", 91.0, 86.0, 86.5)
    assert advice_on([gained], MRECG(num_iters=300), solved=True) == []
    worse = unit("c", 91.0, 86.0, 91.0, note="training made the output worse")
    _, sentence = advice_on([gained, worse], MRECG(num_iters=300), solved=True)
    assert "nothing better than the solved rounding in 1 unit (c)" in sentence


def test_a_rejected_unit_whose_error_is_small_needs_no_other_steps():
    small = unit("a", 5.0, 6.0, 5.0, note="training made the output worse")
    assert len(advice([small])) == 1


def test_units_that_needed_no_training_are_counted():
    units = [unit("a", 3.0, 3.0, 3.0, iterations=0), unit("b", 50.0, 5.0, 5.5)]
    sentence, = advice(units, train_above=0.04)
    assert sentence.startswith("1 of 2 units needed no training: an output error of at most 4 %")
    assert advice(units) == advice(units[1:], train_above=0.04) == []


def test_what_is_set_already_is_not_advised():
    thrown, = advice([unit("b", 91.0, 86.0, 86.5)], rounding_lr_start=0.1)
    assert ("rounding_lr_start" not in thrown and "MRECG.rounding_lr=0.1" in thrown
            and "MRECG.num_iters=600" in thrown)
    undecided, = advice([unit("a", 75.0, 2.0, 17.0)], round_weight_relative=30.0)
    assert "MRECG.round_weight_relative=60" in undecided


def test_advised_settings_are_accepted():
    sentences = " ".join(advice([unit("a", 75.0, 2.0, 17.0), unit("b", 91.0, 86.0, 86.5)]))
    assignments = re.findall(r"MRECG\.\w+=[\d.]+\d", sentences)
    assert len(assignments) == 5  # num_iters twice
    load_config({"MRECG": {"preset": "fast"}}, assignments)


def test_coarse_inputs_are_named_worst_first_as_the_command_line_takes_them():
    assert coarse_advice({}, "none") == []
    sentence, = coarse_advice({"a.w": 0.2, "b.w": 0.57}, "none")
    setting = sentence[sentence.index("QuantPost.equalize="):]
    assert load_config(None, [setting]).quant_post.equalize == "auto"
    sentence, = coarse_advice({"a.w": 0.2, "b.w": 0.57}, "auto")
    assert "57 %" in sentence
    setting = sentence[sentence.index("QuantPost.skip="):]
    assert load_config(None, [setting]).quant_post.skip == ["b.w", "a.w"]


def test_weights_that_stay_float_are_named():
    assert float_note({}) == []
    assert float_note({"w": "why"}) == ["1 weight stays float: w (why)"]
    many = float_note({f"w{k}": "why" for k in range(7)})[0]
    assert many.startswith("7 weights stay float: w0 (why), ") and many.endswith(
        "w4 (why), and 2 more in report.json")
