# SPDX-License-Identifier: Apache-2.0
"""The order in which auto gives layers more, what it gives, and how many tries that takes."""
import types

import pytest

from paddle_mrecg.analysis.goal import Goal
from paddle_mrecg.analysis.refine import (FLOAT, REFINED, coarse_part, given, given_to,
                                          refining_order)
from paddle_mrecg.analysis.search import Search
from paddle_mrecg.analysis.sensitivity import LayerEffect
from paddle_mrecg.analysis.tries import TryLog
from paddle_mrecg.config.io import load_config

PARTS = ("weights", "activations", "both")


def effect(name, bits, *errors):
    return LayerEffect(name, "x", ["y"], "conv2d", *bits, 10, dict(zip(PARTS, errors)))


@pytest.mark.parametrize("bits, part", [((4, 8), "weights"), ((8, 4), "activations"),
                                        ((4, 4), "both"), ((8, 8), None), ((8, 32), None)])
def test_what_is_coarse_gets_8_bits_and_its_error_decides(bits, part):
    layers = [effect("a[0]", bits, 1.0, 2.0, 3.0), effect("b", bits, 2.0, 3.0, 1.0),
              effect("c", bits, 3.0, 1.0, 2.0), effect("d", (8, 8), 9.0, 9.0, 9.0)]
    assert coarse_part(layers[0]) == part
    order = refining_order(layers, REFINED)
    assert [e.weight for e in order] == {
        "weights": ["c", "b", "a[0]"], "activations": ["b", "a[0]", "c"],
        "both": ["a[0]", "c", "b"], None: []}[part]
    assert [e.weight for e in refining_order(layers, FLOAT)] == ["d", "a[0]", "c", "b"]
    assert given(layers[:1], FLOAT) == dict(skip=["a[[]0]"])
    if part:
        keys = {k: 8 for k, b in zip(("weight_bits", "activation_bits"), bits) if b < 8}
        assert given(layers[:1], REFINED) == dict(overrides=[dict(pattern="a[[]0]", **keys)])
        assert given_to(layers[0], given(layers[:1], REFINED)) == "8/8"
    assert given_to(layers[0], given(layers[:1], FLOAT)) == "float"
    assert given_to(layers[1], given(layers[:1], FLOAT)) == ""


SMALLEST = "8 bits for the smallest layers"


def searched(tmp_path, layers, loss, output_error=0.1, small=0.0):
    """The search of a network whose loss is told by how many layers have 8 bits and are float;
    ``small`` is what 8 bits for the smallest layers take from it.
    """
    def measure(settings):
        post = settings.get("QuantPost", {})
        counts = len(post.get("overrides", ())), len(post.get("skip", ()))
        share = post.get("small_layer_share", 0.0)
        return (loss(*counts) - (small if share else 0.0), 0.0, 4.0 + sum(counts) + share, 1.0,
                output_error)

    config = load_config(dict(QuantPost=dict(weight_bits=4)))
    bench = types.SimpleNamespace(config=config, samples={"x": [0] * 32},
                                  job=load_config, training_seconds=lambda settings: 60.0)
    search = Search(bench, TryLog(str(tmp_path / "tries.json"), "x", 16, measure),
                    Goal(max_drop=1.0))
    search._ranking = lambda: [vars(e) for e in layers]
    return search.run(), [t.name for t in search.log.used], search.log.used


def network(count, bits=(4, 8)):
    return [effect(f"w{k}", bits, 1.0 / (k + 1), 0.1, 0.5) for k in range(count)]


@pytest.mark.parametrize("needed", [1, 2, 9, 31, 64, 97, 98])
def test_the_fewest_layers_get_8_bits_within_the_tries(needed, tmp_path):
    best, names, _ = searched(tmp_path, network(98), lambda fine, floats: 2.0 - fine / needed)
    assert names[:3] == ["as configured", SMALLEST, "98 of 98 layers with 8 bits"]
    assert len(names) <= 11
    assert [o["pattern"] for o in best.settings["QuantPost"]["overrides"]] == [
        f"w{k}" for k in range(needed)]
    assert best.settings["QuantPost"]["skip"] == []
    assert "short reconstruction" not in names


def test_8_bits_for_the_smallest_layers_come_before_the_ranking(tmp_path):
    best, names, _ = searched(tmp_path, network(98), lambda fine, floats: 2.0, small=1.5)
    assert names == ["as configured", SMALLEST]
    assert best.settings["QuantPost"] == {"small_layer_share": 0.03}
    (tmp_path / "more").mkdir()
    best, names, _ = searched(tmp_path / "more", network(98), lambda fine, floats: 2.0 - fine / 98,
                              small=0.5)
    assert len(best.settings["QuantPost"]["overrides"]) == 49  # on top of it
    assert best.settings["QuantPost"]["small_layer_share"] == 0.03


def test_layers_are_float_only_where_8_bits_for_all_are_not_enough(tmp_path):
    best, names, _ = searched(tmp_path, network(20), lambda fine, floats: 5 - fine / 10 - floats)
    assert names[2:4] == ["20 of 20 layers with 8 bits", "19 of 20 layers kept float"]
    assert (len(best.settings["QuantPost"]["overrides"]),
            len(best.settings["QuantPost"]["skip"])) == (20, 2)


def test_a_network_of_8_bits_has_only_float_left(tmp_path):
    best, names, _ = searched(tmp_path, network(20, (8, 8)), lambda fine, floats: 3.5 - floats)
    assert names[2] == "19 of 20 layers kept float" and best.settings["QuantPost"]["skip"] == [
        "w0", "w1", "w2"]


@pytest.mark.parametrize("error, trained", [(0.019, False), (0.021, True), (None, True)])
def test_a_training_comes_last_and_not_where_the_preset_leaves_it_out(error, trained, tmp_path):
    best, names, used = searched(tmp_path, network(9), lambda fine, floats: 3.0 - fine / 9, error)
    assert names[1:4] == [SMALLEST, "9 of 9 layers with 8 bits", "8 of 9 layers kept float"]
    assert names[4:] == ["short reconstruction"] * trained
    if trained:
        assert used[-1].settings["QuantPost"] == best.settings["QuantPost"]
