# SPDX-License-Identifier: Apache-2.0
"""What a job will take is counted from one pass, and said in front of it."""
import dataclasses

import pytest

from paddle_mrecg import quant_post_mrecg
from paddle_mrecg.config.io import load_config
from paddle_mrecg.graph.probe import probe
from paddle_mrecg.post import expected_time as times
from paddle_mrecg.post import prepare as preparation
from paddle_mrecg.post.prepare import expected_time_of
from tests.jobs import batches, model_dir, settings  # noqa: F401
from tests.tiny import tiny_graph, tiny_samples

PASS = 0.01  # seconds per sample


@pytest.fixture
def counted(monkeypatch):
    """The forecast of a job whose passes take ``PASS`` and whose matrix products nothing."""
    taken = {0: PASS}  # by the first op

    def timed(graph, feed):
        found = {graph.ops[k]: seconds for k, seconds in taken.items()}
        return dataclasses.replace(probe(graph, feed), op_seconds=found)

    monkeypatch.setattr(preparation, "probe", timed)
    monkeypatch.setattr(times, "_product_seconds", lambda: 0.0)

    def forecast(samples=64, post=None, behind=0.0, **mrecg):
        mrecg, taken[-1] = {"preset": "none", **mrecg}, behind
        return expected_time_of(tiny_graph(), tiny_samples(samples),
                                load_config(dict(QuantPost=post or {}, MRECG=mrecg)))
    return forecast


def test_training_costs_steps_times_samples(counted):
    """And passes to measure units, whose layers are solved again."""
    def steps(forecast, samples):
        return forecast.training - forecast.solving - samples * times.MEASURED * PASS

    settings = dict(preset="qdrop", num_iters=100, batch_size=16)
    assert counted().training == 0.0
    step = times.STEP * PASS
    assert steps(counted(**settings), 64) == pytest.approx(100 * 16 * step)
    assert steps(counted(samples=8, **settings), 8) == pytest.approx(100 * 8 * step)
    joined = counted(**dict(settings, preset="mrecg"))
    assert steps(joined, 64) == pytest.approx(100 * 16 * step * times.JOINED)


def test_passes_grow_with_the_samples_and_layers_that_are_solved_cost_extra(counted):
    nearest = dict(rounding="nearest", bias_correction=False, activation_observer="mse",
                   equalize="none")
    assert counted(post=nearest).solving == 0.0
    assert counted(64, nearest).calibration == pytest.approx(64 * times.OBSERVED * PASS)
    biases = counted(64, dict(nearest, bias_correction=True)).solving
    assert biases == pytest.approx(64 * times.SOLVED * PASS)
    rows = 3 * 9 + 3 * 6 * 9 + 6  # of the five layers
    solved = counted(64).solving - biases
    assert solved == pytest.approx(rows * times.ROW_SECONDS * (1 + times.SWEEPS))
    assert counted(64).calibration > counted(64, nearest).calibration


def test_ops_behind_the_last_layer_run_in_few_passes(counted):
    """A suppression of boxes may take longer than the network."""
    plain, slow = counted(), counted(behind=1.0)
    assert (slow.calibration, slow.solving) == (plain.calibration, plain.solving)
    passes = times.FIRST_PASSES + 8 * times.VERIFYING_PASSES
    assert slow.untrained == pytest.approx(plain.untrained + passes)
    few = counted(2, behind=1.0).rest - counted(2).rest
    assert few == pytest.approx(times.FIRST_PASSES + 2 * times.VERIFYING_PASSES)


def test_the_line_says_what_is_certain_and_what_may_come(counted):
    assert counted().sentence() == (
        "time: about half a minute on this machine; scoring not counted")
    text = counted(preset="qdrop", num_iters=1000, batch_size=64).sentence()
    assert text == ("time: about half a minute on this machine without the training, which takes "
                    "about 53 minutes more; scoring not counted")
    assert "up to 53 minutes" in counted(preset="qdrop", num_iters=1000, batch_size=64,
                                         train_above=0.04).sentence()


def test_hours_of_training_are_warned_of_with_the_preset_and_the_cure(counted):
    assert counted(preset="fast").warning() == ""
    text = counted(preset="mrecg").warning()
    assert "20000 steps for every module, 27 hours on this machine" in text
    assert "MRECG.preset=fast" in text and "MRECG.preset=none" in text


def test_it_stands_in_front_of_a_job(model_dir, tmp_path, capsys):  # noqa: F811
    quant_post_mrecg(model_dir, batches(), settings(), str(tmp_path / "out"))
    lines = capsys.readouterr().err.splitlines()
    said, began = ([k for k, line in enumerate(lines) if text in line]
                   for text in ("INFO: time: about half a minute on this machine without the "
                                "training, which takes ", "Calibration stage,"))
    assert len(said) == 1 and said[0] < began[0]


def test_a_pass_and_a_product_take_time():
    found = expected_time_of(tiny_graph(), tiny_samples(), load_config({}))
    assert found.forward > 0.0 and found.layers == 5
    assert 0.0 < times._product_seconds() < 1e-6


def test_products_that_other_processes_hold_up_do_not_count(monkeypatch):
    clock = iter(value for k in range(times.PRODUCTS)
                 for value in (10.0 * k, 10.0 * k + (1e-3 if k == 3 else 5e-2)))
    monkeypatch.setattr(times.time, "perf_counter", lambda: next(clock))
    assert times._product_seconds() == pytest.approx(1e-3 / times.PRODUCT ** 3)
