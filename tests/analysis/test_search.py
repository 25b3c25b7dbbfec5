# SPDX-License-Identifier: Apache-2.0
"""The search for the cheapest setting: order, limits, log, and what it ends with."""
import json

import numpy as np
import pytest

import paddle_mrecg
from paddle_mrecg import Goal
from paddle_mrecg.analysis.allocate import BITS, allocate, average_bits, error_curves
from paddle_mrecg.analysis.job import prepare_to_measure
from paddle_mrecg.analysis.tries import TryLog
from paddle_mrecg.config.io import load_config
from paddle_mrecg.errors import ConfigError, OutputError
from tests.jobs import batches, model_dir, settings  # noqa: F401
from tests.tiny import tiny_graph, tiny_samples

COARSE = {"QuantPost": dict(weight_bits=2, first_layer_weight_bits=2, last_layer_weight_bits=2,
                            num_observe=16)}


def search(model_dir, folder, goal, config=None, **kwargs):  # noqa: F811
    base = {"Global": {}, **(config or COARSE)}
    base["Global"] = {"visualdl": False, **base["Global"]}
    return paddle_mrecg.auto(model_dir, batches(), base, str(folder / "out"), goal=goal, **kwargs)


@pytest.fixture(scope="module")
def found(model_dir, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("search")
    return search(model_dir, folder, Goal(max_drop=3.0)), folder


def test_it_reaches_the_goal_with_few_layers_and_says_what_each_step_bought(found):
    result, folder = found
    assert result.reached and result.best.loss <= 3.0
    assert result.tries[0].name == "as configured" and result.tries[0].loss > 3.0
    assert result.best.bits < 8 and len(result.tries) <= 16
    enough = [t.bits for t in result.tries if t.loss <= 3.0]
    assert result.best.bits == min(enough)
    table = result.table()
    assert table.count("<- taken") == 1 and "layers with 8 bits" in table
    recipe = load_config(result.recipe)
    written = load_config(str(folder / "out" / "resolved_config.yaml"))
    assert recipe.quant_post == written.quant_post
    assert [o.weight_bits for o in recipe.quant_post.overrides]  # some layers have 8 bits
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    assert {w["bits"] for w in report["weights"].values()} == {2, 8}


def test_the_time_is_said_once_for_all_tries(model_dir, tmp_path, capsys):  # noqa: F811
    search(model_dir, tmp_path, Goal(max_drop=3.0), tries=8)
    said = [line for line in capsys.readouterr().err.splitlines() if "INFO: time: " in line]
    assert len(said) == 1 and "for all of at most 8 tries" in said[0]


def test_a_second_run_takes_everything_from_the_log(found, model_dir, monkeypatch):  # noqa: F811
    result, folder = found
    monkeypatch.setattr("paddle_mrecg.analysis.measure.Bench.measure",
                        lambda *args: pytest.fail("tried again"))
    again = search(model_dir, folder, Goal(max_drop=3.0))
    assert [t.settings for t in again.tries] == [t.settings for t in result.tries]
    assert again.best == result.best


def test_an_impossible_goal_gives_the_best_within_the_tries(model_dir, tmp_path):  # noqa: F811
    result = search(model_dir, tmp_path, Goal(max_drop=1e-9), tries=2)
    assert not result.reached and len(result.tries) == 2
    assert result.best.loss == min(t.loss for t in result.tries)
    assert (tmp_path / "out" / "model.pdmodel").exists()


def test_what_is_good_enough_is_taken_at_once(model_dir, tmp_path):  # noqa: F811
    result = search(model_dir, tmp_path, Goal(max_drop=99.0))
    assert result.reached and [t.name for t in result.tries] == ["as configured"]


def test_points_of_the_users_metric(model_dir, tmp_path):  # noqa: F811
    images, seen = tiny_samples(48)["image"], []

    def agreement(predict):
        """Share of images with the class of the program that is scored first, the float one."""
        classes = predict([images])[0].argmax(1)
        seen.append(classes)
        return {"other": 0.0, "agreement": float((classes == seen[0]).mean())}
    plain = {"QuantPost": dict(COARSE["QuantPost"], rounding="nearest", bias_correction=False,
                               equalize="none")}
    result = search(model_dir, tmp_path, Goal(max_drop=5.0), plain, evaluator=agreement,
                    metric="agreement", tries=3)
    first = result.tries[0]
    assert first.loss == pytest.approx(100 * (1 - first.score)) and first.score < 1
    assert len(seen) <= 1 + 3 + 5  # float, the tries, and the final report
    with pytest.raises(ConfigError, match="no metric 'accuracy': choose one of other, agreement"):
        search(model_dir, tmp_path / "2", Goal(max_drop=5.0), evaluator=agreement,
               metric="accuracy")


def test_bits_by_layer_for_an_average(model_dir, tmp_path):  # noqa: F811
    result = search(model_dir, tmp_path, Goal(bits=3.3), tries=1)
    given = {o.pattern: o.weight_bits for o in load_config(result.recipe).quant_post.overrides}
    assert len(given) == 5 and set(given.values()) <= set(BITS) and len(set(given.values())) > 1
    assert 3.0 < result.best.bits <= 3.3
    uniform = search(model_dir, tmp_path / "u", Goal(max_drop=0.0), tries=1,
                     config={"QuantPost": dict(COARSE["QuantPost"], weight_bits=3,
                                               first_layer_weight_bits=3,
                                               last_layer_weight_bits=3)})
    assert result.tries[0].loss < uniform.tries[0].loss
    assert result.table().splitlines()[1].endswith(
        f"{result.best.bits:.2f}  bits by layer  <- taken")


def test_a_size_is_an_average(model_dir, tmp_path):  # noqa: F811
    total = sum(tiny_graph().params[n].size for n in ("a.w", "b.w", "c.w", "d.w", "fc.w"))
    result = search(model_dir, tmp_path, Goal(size=total / 2), tries=1)
    assert 3.0 < result.best.bits <= 4.0


def test_what_stays_float_counts_in_the_average_that_can_be_had(model_dir, tmp_path):  # noqa: F811
    params = {n: tiny_graph().params[n].size for n in ("a.w", "b.w", "c.w", "d.w", "fc.w")}
    rest = sum(params.values()) - params["c.w"]
    config = {"QuantPost": dict(COARSE["QuantPost"], skip=["c.w"])}
    bits = 2 * rest + 32 * params["c.w"]
    fewest = -(-bits // 8)
    with pytest.raises(ConfigError, match=f"32 for what stays float.* comes to {fewest} to "):
        search(model_dir, tmp_path, Goal(size=fewest - 1), config)
    result = search(model_dir, tmp_path, Goal(size=fewest), config, tries=1)
    assert result.reached and result.best.bits == pytest.approx(bits / sum(params.values()))


def test_bits_that_the_config_names_are_counted_and_stay(model_dir, tmp_path):  # noqa: F811
    def overridden(*overrides):
        return {"QuantPost": dict(COARSE["QuantPost"], overrides=list(overrides)),
                "Global": {"target": "simulation"}}
    config = overridden(dict(pattern="c.w", weight_bits=8), dict(pattern="*", activation_bits=6))
    result = search(model_dir, tmp_path, Goal(bits=4.5), config, tries=1)
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["weights"]["c.w"]["bits"] == 8 and result.reached
    bits = {name: a["bits"] for name, a in report["activations"].items()}
    assert bits.pop("b.relu") == 8 and set(bits.values()) == {6}  # of overrides the first counts
    assert 4.0 < result.best.bits <= 4.5  # the others have what that leaves
    with pytest.raises(ConfigError, match="those of QuantPost.overrides for its layers, .* comes"):
        search(model_dir, tmp_path / "few", Goal(bits=2.0), config, tries=1)
    with pytest.raises(ConfigError, match="names the bits of every layer"):
        search(model_dir, tmp_path / "all", Goal(bits=4.0),
               overridden(dict(pattern="*", weight_bits=4)), tries=1)


def test_a_goal_of_nothing_is_refused(model_dir, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match="nothing is looked for"):
        search(model_dir, tmp_path, Goal())


def test_curves_fall_with_the_bits():
    config = load_config({"QuantPost": dict(rounding="nearest", bias_correction=False)})
    prepared, samples = prepare_to_measure(tiny_graph(), tiny_samples(24), config, 8)
    curves = error_curves(prepared, samples)
    assert all(tuple(c) == BITS and 0 < 100 * c[8] < c[2] for c in curves.values())
    total = {b: sum(c[b] for c in curves.values()) for b in BITS}
    assert total[2] > 10 * total[4] > 100 * total[8]


@pytest.mark.parametrize("average", [2.0, 2.7, 3.5, 5.0, 8.0])
def test_allocation_keeps_the_average_and_beats_equal_bits(average):
    rng = np.random.default_rng(0)
    elements = {f"w{k}": int(rng.integers(10, 1000)) for k in range(12)}
    curves = {n: {b: float(s) * 4.0**-b for b in BITS}
              for n, s in zip(elements, rng.lognormal(0, 2, 12))}
    bits = allocate(curves, elements, average)
    assert average - 0.5 < average_bits(bits, elements) <= average
    equal = max(b for b in BITS if b <= average)
    assert (sum(curves[n][bits[n]] for n in bits)
            <= sum(curve[equal] for curve in curves.values()))


def test_below_two_bits_there_is_nothing():
    with pytest.raises(ConfigError, match="at least 2"):
        allocate({"a": {2: 1.0}}, {"a": 4}, 1.5)


def test_a_log_of_another_search_is_not_used(tmp_path):
    path = str(tmp_path / "tries.json")
    log = TryLog(path, "one", 3, lambda settings: (1.0, 2.0, 3.0, 4.0))
    assert log.run("first", {"A": {"b": 1}}).loss == 1.0
    fail = lambda settings: pytest.fail("tried again")  # noqa: E731
    assert TryLog(path, "one", 3, fail).run("first", {"A": {"b": 1}}).score == 2.0
    assert TryLog(path, "two", 3, fail).tries == []
    (tmp_path / "tries.json").write_text("[1", encoding="utf-8")
    with pytest.raises(OutputError, match="not a log of tries"):
        TryLog(path, "one", 3, fail)


def test_no_more_tries_than_stated(tmp_path):
    log = TryLog(str(tmp_path / "t.json"), "x", 2, lambda settings: (1.0, 1.0, 4.0, 0.0))
    assert log.run("a", {"A": {"b": 1}}) and log.run("b", {"A": {"b": 2}})
    assert log.run("c", {"A": {"b": 3}}) is None and log.left == 0
    assert log.run("a again", {"A": {"b": 1}}).name == "a"  # known: costs nothing
