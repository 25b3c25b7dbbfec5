# SPDX-License-Identifier: Apache-2.0
"""The ranking of analyze against the task's metric, and PaddleSlim's way."""
import types

import numpy as np
import pytest

from demo import analysis_table, compare_analysis, kept_float, results
from paddle_mrecg import analyze
from paddle_mrecg.analysis.job import prepare_to_measure
from paddle_mrecg.config.io import load_config
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.post.scheme import build_scheme
from tests.jobs import batches, model_dir  # noqa: F401
from tests.tiny import tiny_samples


def cell(folder, question, measured, **extra):
    setting = dict(model="MobileNetV1", metric="top-1", bits="W4A8", question=question)
    results.save_results(
        results.cell_path(folder, setting, 0), "python x.py",
        [results.run_record(setting, 0, measured, samples=150, calibration=48, **extra)])


def test_a_row_has_the_answers_to_all_questions(tmp_path):
    assert compare_analysis.table(tmp_path) == results.NOT_YET
    cell(tmp_path, "auto", {"auto drop": 1.3, "reached": 0.0, "auto layers": 3,
                            "auto float layers": 2, "auto evaluations": 16,
                            "auto minutes": 7.4}, tries=[])
    assert compare_analysis.table(tmp_path).splitlines()[2] == (
        "| MobileNetV1, top-1 | 48, –, 150 | W4A8 | – "
        "| 1.30, not reached | 3 | 2 | 16 | 7 | – | – | – | – | – |")
    cell(tmp_path, "ranking", {"analyze": 61.2, "Spearman": 0.934, "reliability": 0.952,
                               "float": 78.0},
         ranked=8,
         layers=[dict(weight="w", error=k, drop=k) for k in range(28)])
    cell(tmp_path, "slim", {"slim drop": 0.7, "slim layers": 20, "slim evaluations": 49})
    cell(tmp_path, "hand", {"hand layers": 22, "hand drop": 0.9, "ranked layers": 9,
                            "ranked drop": 0.8})
    rows = [line for line in compare_analysis.table(tmp_path).splitlines() if "top-1" in line]
    first = "| MobileNetV1, top-1 | 48, 8, 150 | W4A8 | 28 | "
    assert rows == [first + "61 | 0.93 | 0.95 | 0.99 | 1.00 | 78.00 |",
                    first + "1.30, not reached | 3 | 2 | 16 | 7 | 0.70 | 20 | 49 | 22 | 9 |"]
    chinese = compare_analysis.table(tmp_path, "cn")
    assert "1.30，未达到" in chinese and "信度" in chinese
    assert [line.count("|") for line in chinese.splitlines()] == [
        line.count("|") for line in compare_analysis.table(tmp_path).splitlines()]


def test_the_metrics_noise_is_told_where_two_bits_are_measured(tmp_path):
    def ranking(bits, drops, errors):
        layers = [dict(weight=str(k), drop=drop, error=error)
                  for k, (drop, error) in enumerate(zip(drops, errors))]
        setting = dict(model="MobileNetV1", metric="top-1", bits=bits, question="ranking")
        results.save_results(results.cell_path(tmp_path, setting, 0), "python x.py", [
            results.run_record(setting, 0, {}, samples=9, calibration=9, layers=layers)])

    ranking("W2A8", [10, 20, 30], [1, 2, 3])
    assert "correlate" not in compare_analysis.table(tmp_path)
    assert "raise the metric" not in compare_analysis.table(tmp_path)
    ranking("W4A8", [0, 2, 1], [0.1, 0.2, 0.3])
    assert ("MobileNetV1: with what layers lose at W2A8 correlate their losses at W4A8 by 0.50, "
            "the errors of `analyze` at W4A8 by 1.00.") in compare_analysis.table(tmp_path)


def test_a_metric_that_gains_from_errors_is_told(tmp_path):
    layers = [dict(weight=str(k), drop=drop, error=k) for k, drop in enumerate([0, -2, 4, -5.25])]
    cell(tmp_path, "ranking", {"Spearman": -0.4}, layers=layers, ranked=8)
    found = compare_analysis.table(tmp_path)
    assert "| -0.40 | – | – | 1.00 |" in found
    assert ("MobileNetV1 at W4A8: 2 of 4 layers alone raise the metric when they are quantized, by "
            "up to 5.25 points.") in found


def test_a_ranking_scores_the_halves_too():
    """A score that is the mean of a half tells it from all."""
    inputs = {"x": np.arange(6, dtype=np.float32)}
    work = types.SimpleNamespace(batch_size=4, evaluation=lambda count: (
        {"x": inputs["x"][:count]},
        lambda outputs, rows=slice(None): float(outputs[0][rows].mean())))
    evaluator = compare_analysis.RankingEvaluator(work, 6)
    assert evaluator(lambda feed: [10 * feed["x"]]) == {"score": 25.0, "even": 20.0, "odd": 30.0}


def test_every_cell_is_a_valid_job():
    for model in compare_analysis.SAMPLES:
        for bits in compare_analysis.BITS:
            config = load_config(compare_analysis.job(model, bits, rounding="nearest"))
            assert config.quant_post.weight_bits == int(bits[1])
            assert config.quant_post.rounding == "nearest" and config.mrecg.num_iters == 0


def test_correlation_is_that_of_ranks():
    assert compare_analysis.correlation([1, 2, 300], [0.1, 0.5, 0.6]) == pytest.approx(1.0)
    assert compare_analysis.correlation([1, 2, 300], [0.6, 0.5, 0.1]) == pytest.approx(-1.0)
    assert compare_analysis.correlation([1, 2, 3], [0.0, 0.0, 0.0]) is None


@pytest.mark.parametrize("reliability", [0.3, 0.8])
def test_the_ceiling_is_that_of_a_ranking_by_the_truth(reliability):
    """Losses of many layers with noise of the halves that makes them so reliable."""
    random = np.random.default_rng(0)
    truth, noise = random.normal(size=20000), (1 / reliability - 1) ** 0.5
    halves = truth + noise * random.normal(size=(2, 20000))
    assert np.corrcoef(*halves)[0, 1] == pytest.approx(reliability, abs=0.02)
    assert np.corrcoef(truth, halves.mean(0))[0, 1] == pytest.approx(
        analysis_table.ceiling(reliability), abs=0.01)
    assert analysis_table.ceiling(None) is analysis_table.ceiling(-0.1) is None


def test_layers_are_counted_that_have_more_bits_or_are_float(model_dir):  # noqa: F811
    config = compare_analysis.job("MobileNetV1", "W4A8")
    low = [name for name, spec in build_scheme(
        fold(load_graph(model_dir)), load_config(config).quant_post,
        "paddle_lite").weights.items() if spec.bits == 4]

    def raised(**post):
        return tuple(compare_analysis.raised_layers(model_dir, config,
                                                    {"QuantPost": post}).values())
    assert raised() == raised(equalize="fold") == (0, 0) and len(low) > 2
    assert raised(small_layer_share=1.0) == (len(low), 0)
    overrides = [dict(pattern=name, weight_bits=8) for name in low[:2]]
    assert raised(overrides=overrides, skip=low[1:3]) == (1, 2)


@pytest.fixture
def kept(model_dir):  # noqa: F811
    """Tiny programs with some layers float; every score is kept."""
    samples = tiny_samples(8, seed=5)
    target, scores = Predictor(model_dir + "/inference")(samples)[0], []

    def evaluator(predict):
        scores.append(100.0 - 1e4 * float(np.square(predict(samples)[0] - target).mean()))
        return {"score": scores[-1]}

    config = load_config(compare_analysis.nearest_job("MobileNetV1", "W4A8"))
    found = analyze(model_dir, batches(), config, evaluator=evaluator)
    layers = [dict(weight=e.weight, activation=e.activation, drop=scores[0] - e.metric["score"])
              for e in found.layers]
    prepared = prepare_to_measure(model_dir, batches(), config, 8)[0]
    made = kept_float.Kept(prepared, layers, scores[0], evaluator, 1.0)
    made.scores = scores
    del scores[:]
    return made


@pytest.mark.parametrize("drop", [1e9, None, 0.0])
def test_slims_way_keeps_the_fewest_layers_of_its_order_float(kept, drop):
    lost = max(e["drop"] for e in kept.layers)
    kept.most = 0.9 * lost if drop is None else drop
    order = kept_float.worst_first(kept.layers, "drop")
    assert [e["drop"] for e in order] == sorted((e["drop"] for e in order), reverse=True)
    floats, last = kept.fewest(order)
    assert last <= kept.most and (floats == 0) == (drop == 1e9)
    if drop == 0.0:
        assert (floats, last) == (5, 0.0)
    elif drop is None:
        assert kept.drop(order[:floats - 1]) > kept.most >= kept.drop(order[:floats])


@pytest.mark.parametrize("enough", range(6))
def test_the_fewest_layers_are_found_by_bisection(kept, enough, monkeypatch):
    asked = []
    monkeypatch.setattr(kept, "drop", lambda order: asked.append(len(order)) or (
        0.5 if len(order) >= enough else 2.0))
    assert kept.fewest(kept.layers) == (enough, 0.5 if enough < 5 else 0.0)
    assert len(asked) <= 3


def test_a_hand_skips_from_both_ends():
    assert kept_float.from_both_ends([1, 2, 3, 4, 5]) == [1, 5, 2, 4, 3]
