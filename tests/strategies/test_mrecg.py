# SPDX-License-Identifier: Apache-2.0
"""Digitised losses in, published partitions out; the optimal partition against all partitions."""
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_mrecg.config import MRECG
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.graph.graph import weight_name
from paddle_mrecg.graph.partition import modules_of
from paddle_mrecg.graph.probe import probe
from paddle_mrecg.strategies.mrecg import (JOIN_GAIN, capacities, explicit, loss_peaks, make_plan,
                                           optimal, singles, top_differences)
from tests.tiny import tiny_graph, tiny_samples

# Figure 6 of the paper (MobileNetV2), digitised: loss per block. Joined blocks
# have the value of their unit.
BRECQ = [0.95, 1.45, 6.99, 4.0, 5.15, 7.38, 5.28, 7.4, 8.15, 9.36, 7.25, 10.03, 14.55, 6.85, 10.88,
         16.66, 10.7]
MODCAP = [1.0, 1.7, 3.5, 3.5, 4.75, 5.15, 5.15, 6.9, 7.82, 7.0, 7.0, 9.65, 6.65, 6.65, 9.83, 10.7,
          10.7]
LOSS = [1.07, 1.54, 3.52, 3.54, 4.87, 5.33, 5.35, 7.03, 6.93, 6.93, 6.93, 6.52, 6.51, 6.52, 10.24,
        10.69, 10.69]
MODCAP_UNITS = [(2, 3), (5, 6), (9, 10), (12, 13), (15, 16)]
LOSS_UNITS = [(2, 3), (5, 6), (8, 10), (11, 13), (15, 16)]


def joined(groups):
    return [(i, j) for i, j in groups if j > i]


def tiles(groups, count):
    return [k for i, j in groups for k in range(i, j + 1)] == list(range(count))


def area_and_drops(losses, groups, join_cost=0.0):
    """The objective of ``optimal``, written from its docstring."""
    ends = [losses[j] * JOIN_GAIN**(j - i) for i, j in groups]
    area = sum(loss * (j - i + 1) for loss, (i, j) in zip(ends, groups))
    drops = sum(max(0.0, a - b) for a, b in zip(ends, ends[1:]))
    return area + drops + join_cost * sum(losses) / len(losses) * sum(j - i for i, j in groups)


def all_partitions(count, largest):
    for cuts in itertools.product((0, 1), repeat=count - 1):
        ends = [k for k, c in enumerate(cuts) if c] + [count - 1]
        groups = [(a + 1, b) for a, b in zip([-1] + ends, ends)]
        if all(j - i < largest for i, j in groups):
            yield groups


def test_one_round_of_peaks_gives_the_partition_plotted_as_modcap():
    assert joined(loss_peaks(BRECQ, 3, rounds=1)) == MODCAP_UNITS


def test_peaks_until_none_is_left_give_the_released_partition():
    assert joined(loss_peaks(BRECQ, 3)) == LOSS_UNITS


def test_measuring_joined_units_again_gives_the_same():
    curves = iter([MODCAP, LOSS, LOSS])

    def remeasure(groups):
        curve = next(curves)
        return [curve[j] for _, j in groups]

    assert joined(loss_peaks(BRECQ, 3, remeasure)) == LOSS_UNITS


def test_a_peak_may_be_joined_with_the_module_before_it_once():
    assert (joined(loss_peaks([1.0, 2.0, 6.0, 1.5, 1.6, 3.0, 2.0], 3, partner="predecessor"))
            == [(1, 2), (4, 5)])
    # nothing comes before the first
    assert loss_peaks([6.0, 1.0, 2.0], 3, partner="predecessor") == singles(3)


def test_rising_losses_have_no_peaks_but_relative_ones_may():
    graph = tiny_graph()
    modules = cut(graph)
    losses, powers = [1.0, 2.0, 3.0], [20.0, 10.0, 40.0]
    plan = {relative: make_plan(graph, modules, MRECG(relative_loss=relative), BITS, losses, powers)
            for relative in (True, False)}
    assert plan[False].groups == singles(3)
    assert plan[True].groups == [(0, 0), (1, 2)]
    assert plan[True].scores == pytest.approx([0.05, 0.2, 0.075])


def test_optimal_removes_every_peak_of_the_paper_and_is_not_an_extreme():
    for price in (0.0, 0.1):
        groups = optimal(BRECQ, 3, price)
        assert all(any(i <= a and b <= j for i, j in groups) for a, b in MODCAP_UNITS)
        assert 5 < len(groups) < 17
        assert (area_and_drops(BRECQ, groups, price)
                <= area_and_drops(BRECQ, loss_peaks(BRECQ, 3), price))
    assert optimal(BRECQ, 3, 100.0) == singles(17)


def test_optimal_on_monotone_losses():
    # steep: no gain pays for a lost target
    assert optimal([1.5**k for k in range(9)], 3) == singles(9)
    assert optimal([9.0, 8.0, 7.0, 6.0, 5.0, 4.0], 3) == [(0, 2), (3, 5)]
    # plateaus
    assert joined(optimal([1.0, 1.5, 2.2, 3.0, 3.05, 3.1, 4.5, 6.0, 6.1], 3)) == [(3, 5), (7, 8)]


LOSSES = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(LOSSES, st.integers(1, 4), st.floats(0.0, 2.0))
def test_optimal_is_as_good_as_the_best_of_all_partitions(losses, largest, price):
    groups = optimal(losses, largest, price)
    assert tiles(groups, len(losses)) and all(j - i < largest for i, j in groups)
    best = min(area_and_drops(losses, g, price) for g in all_partitions(len(losses), largest))
    assert area_and_drops(losses, groups, price) == pytest.approx(best)


@settings(max_examples=60, deadline=None)
@given(LOSSES, st.integers(1, 4), st.integers(0, 9))
def test_every_policy_tiles_within_the_size_limit(losses, largest, k):
    for groups in (loss_peaks(losses, largest), top_differences(losses, k, largest)):
        assert tiles(groups, len(losses)) and all(j - i < largest for i, j in groups)
    assert len(top_differences(losses, k, largest)) >= len(losses) - k


def test_top_differences_are_squared_unite_and_respect_the_limit():
    scores = [1.0, 5.0, 0.0, 0.5, 4.0]
    assert top_differences(scores, 1, 3) == [(0, 0), (1, 2), (3, 3), (4, 4)]
    assert top_differences(scores, 2, 3) == [(0, 2), (3, 3), (4, 4)]
    assert top_differences(scores, 2, 2) == [(0, 0), (1, 2), (3, 4)]
    assert (top_differences(scores, 1, 3, [True, False, True, True])
            == [(0, 1), (2, 2), (3, 3), (4, 4)])


def test_explicit_ranges_end_at_the_last_module():
    assert explicit([[0, 0], [1, 2], [3, 3]], 4) == [(0, 0), (1, 2), (3, 3)]
    for count in (3, 5):
        with pytest.raises(ConfigError, match=f"module 3, and the last module is {count - 1}"):
            explicit([[0, 0], [1, 2], [3, 3]], count)


def cut(graph):
    found = probe(graph, tiny_samples(3))
    return modules_of(graph, found, lambda op: weight_name(op, graph) is not None)


BITS = {"a.w": 8, "b.w": 4, "c.w": 4, "d.w": 2, "fc.w": 8}


def test_capacity_counts_parameters_bits_and_strides():
    graph = tiny_graph(channels=6, classes=4)
    modules = cut(graph)
    assert [m.weights for m in modules] == [["a.w"], ["b.w", "c.w"], ["d.w", "fc.w"]]
    assert (capacities(graph, modules, BITS, 1.6)
            == pytest.approx([162 * 8, 2 * 324 * 4, 324 * 2 * 1.6 + 24 * 8]))
    unlike = make_plan(graph, modules, MRECG(granularity="modcap", top_k=1, homogeneous_only=True),
                       BITS)
    # the first module has one convolution, the others have two
    assert unlike.groups == [(0, 0), (1, 2)]


def test_plan_says_why_and_can_be_read_back():
    graph = tiny_graph()
    plan = make_plan(graph, cut(graph), MRECG(relative_loss=False), BITS, [3.0, 11.0, 3.7])
    assert plan.groups == [(0, 0), (1, 2)]
    assert plan.reasons == ["alone", "joined: loss drops, 11 -> 3.7"]
    assert json.loads(json.dumps(plan.to_dict()))["units"][1]["modules"] == [1, 2]
    lines = plan.table().splitlines()
    assert len(lines) == 3 and lines[2].endswith("joined: loss drops, 11 -> 3.7")
    assert (plan.units[1].outputs == ["fc"]
            and plan.units[1].weights == ["b.w", "c.w", "d.w", "fc.w"])
