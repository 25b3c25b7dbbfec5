# SPDX-License-Identifier: Apache-2.0
"""The ranking of analyze against the task's metric, and PaddleSlim's way."""
import numpy as np
import pytest

from demo import compare_analysis, results
from paddle_mrecg import analyze
from paddle_mrecg.config.io import load_config
from paddle_mrecg.deploy.predictor import Predictor
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
                            "auto evaluations": 16, "auto minutes": 7.4}, tries=[])
    assert compare_analysis.table(tmp_path).splitlines()[2] == (
        "| MobileNetV1, top-1 | 48, 150 | W4A8 | – | – | – | – | 1.30, not reached | 3 | 16 "
        "| 7 | – | – | – |")
    cell(tmp_path, "ranking", {"analyze": 61.2, "Spearman": 0.934, "float": 78.0}, layers=[{}] * 28)
    cell(tmp_path, "slim", {"slim drop": 0.7, "slim layers": 20, "slim evaluations": 49})
    assert compare_analysis.table(tmp_path).splitlines()[2] == (
        "| MobileNetV1, top-1 | 48, 150 | W4A8 | 28 | 61 | 0.93 | 78.00 | 1.30, not reached | 3 "
        "| 16 | 7 | 0.70 | 20 | 49 |")


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


def test_layers_are_counted_that_have_more_bits_or_are_float():
    assert compare_analysis.raised_layers({}) == 0
    assert compare_analysis.raised_layers({"QuantPost": dict(
        overrides=[{}, {}], skip=["a"], equalize="auto")}) == 3


@pytest.mark.parametrize("drop", [1e9, None, 0.0])
def test_slims_way_keeps_the_fewest_layers_of_its_order_float(model_dir, drop,  # noqa: F811
                                                              monkeypatch):
    samples = tiny_samples(8, seed=5)
    target = Predictor(model_dir + "/inference")(samples)[0]

    def evaluator(predict):
        scores.append(100.0 - 1e4 * float(np.square(predict(samples)[0] - target).mean()))
        return {"score": scores[-1]}

    scores = []
    config = compare_analysis.job("MobileNetV1", "W4A8", rounding="nearest", bias_correction=False)
    found = analyze(model_dir, batches(), config, evaluator=evaluator)
    layers = [dict(weight=e.weight, activation=e.activation, drop=scores[0] - e.metric["score"])
              for e in found.layers]
    score, lost = scores[0], max(e["drop"] for e in layers)
    monkeypatch.setattr(compare_analysis, "DROP", 0.9 * lost if drop is None else drop)
    del scores[:]
    floats, evaluations, last = compare_analysis.slims_way(model_dir, batches(), config, evaluator,
                                                           layers, score)
    reached = [score - s <= compare_analysis.DROP for s in scores]
    if drop == 0.0:
        assert (floats, evaluations, last) == (5, 5, score)
        assert not any(reached)
    else:
        assert reached == [False] * floats + [True] and last == scores[-1]
        assert evaluations == floats + 1
        assert (floats == 0) == (drop == 1e9)
