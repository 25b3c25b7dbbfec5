# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C leaves what is finished usable, and a resumed run ends as if nothing had happened."""
import os

import numpy as np
import pytest

from paddle_mrecg.errors import OutputError
from paddle_mrecg.grids.fake_quantize import FakeQuantize
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.post.job import quant_post_mrecg
from paddle_mrecg.post.walk import Walker
from paddle_mrecg.report.progress import get_logger

from tests.jobs import batches, content, model_dir, reference, settings  # noqa: F401
from tests.tiny import tiny_samples


def score(predict):
    """An evaluator named in a config."""
    return {"ones": 1.0}


class CtrlC:
    """Raises KeyboardInterrupt instead of the n-th training of a unit, once."""

    def __init__(self, monkeypatch, turn):
        self.left, step = turn, Walker.step

        def interrupted(walker, *args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return step(walker, *args, **kwargs)
        monkeypatch.setattr(Walker, "step", interrupted)

    def disarm(self):
        self.left = -1


@pytest.mark.parametrize("finished_units", [0, 1, 2])
def test_ctrl_c_leaves_a_usable_program_and_resume_ends_as_if_nothing_happened(finished_units,
                                                                               model_dir, tmp_path,
                                                                               monkeypatch):
    config, folder = settings(granularity="block"), str(tmp_path / "out")
    quant_post_mrecg(model_dir, batches(), config, str(tmp_path / "whole"))
    CtrlC(monkeypatch, finished_units + 1)
    partial = quant_post_mrecg(model_dir, batches(), config, folder)
    assert partial.interrupted and partial.report.status == "interrupted"
    assert len(partial.report.units) == finished_units
    assert np.isfinite(Predictor(partial.prefix)(tiny_samples(4))[0]).all()
    if finished_units < 2:
        assert content(folder) != content(tmp_path / "whole")
    config["Global"]["resume"] = True
    resumed = quant_post_mrecg(model_dir, batches(), config, folder)
    assert [u.restored for u in resumed.report.units] == [k < finished_units for k in range(3)]
    assert content(folder) == content(tmp_path / "whole")
    assert (sorted(os.listdir(tmp_path)) == ["out", "whole"]
            and not os.path.exists(os.path.join(folder, ".partial")))


def test_ctrl_c_in_a_backward_pass(model_dir, tmp_path, monkeypatch):
    """Paddle makes an OSError of it."""
    backward, calls = FakeQuantize.backward, []

    def interrupted(ctx, *gradients):
        calls.append(ctx)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return backward(ctx, *gradients)
    monkeypatch.setattr(FakeQuantize, "backward", staticmethod(interrupted))
    partial = quant_post_mrecg(model_dir, batches(), settings(granularity="block"),
                               str(tmp_path / "out"))
    assert partial.interrupted and len(calls) == 2 and not partial.report.units
    assert np.isfinite(Predictor(partial.prefix)(tiny_samples(4))[0]).all()


@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_resume_repeats_the_first_pass_as_well(steps, model_dir, tmp_path, monkeypatch, reference):
    folder = str(tmp_path / "out")
    ctrl_c = CtrlC(monkeypatch, steps)
    if steps <= 3:  # without a plan there is nothing to keep but checkpoints
        with pytest.raises(KeyboardInterrupt):
            quant_post_mrecg(model_dir, batches(), settings(), folder)
        assert not os.path.exists(folder)
    else:
        assert quant_post_mrecg(model_dir, batches(), settings(), folder).interrupted or steps > 4
    ctrl_c.disarm()
    quant_post_mrecg(model_dir, batches(), settings({"Global": {"resume": True}}), folder)
    assert content(folder) == reference


def test_resume_with_other_settings_starts_afresh_and_says_why(model_dir, tmp_path, monkeypatch,
                                                               reference, caplog):
    folder = str(tmp_path / "out")
    CtrlC(monkeypatch, 4)
    assert quant_post_mrecg(model_dir, batches(), settings({"QuantPost": {"weight_bits": 4}}),
                            folder).interrupted
    monkeypatch.setattr(get_logger(), "propagate", True)
    quant_post_mrecg(model_dir, batches(), settings({"Global": {"resume": True}}), folder)
    assert content(folder) == reference
    assert "these have changed: QuantPost.weight_bits" in caplog.text


def test_what_does_not_change_results_keeps_finished_units(model_dir, tmp_path, monkeypatch):
    folder, whole = str(tmp_path / "out"), str(tmp_path / "whole")
    config = settings(granularity="block")
    quant_post_mrecg(model_dir, batches(), config, whole)
    CtrlC(monkeypatch, 2)
    assert quant_post_mrecg(model_dir, batches(), config, folder).interrupted
    for suffix in ("", ".partial"):
        os.rename(folder + suffix, str(tmp_path / "moved") + suffix)
    (tmp_path / "link").symlink_to(model_dir)
    changed = settings({"Global": {"resume": True, "memory_limit_mb": 64},
                        "Evaluation": {"evaluator": "tests.post.test_resume:score"},
                        "Data": {"num_samples": 48}}, granularity="block")
    resumed = quant_post_mrecg(str(tmp_path / "link"), batches(), changed,
                               os.path.relpath(tmp_path / "moved"))
    assert resumed.report.units[0].restored
    assert content(tmp_path / "moved") == content(whole)


def test_a_restart_asks_before_it_deletes_finished_units(model_dir, tmp_path, monkeypatch):
    folder, whole = str(tmp_path / "out"), str(tmp_path / "whole")
    config = settings(granularity="block")
    quant_post_mrecg(model_dir, batches(), config, whole)
    CtrlC(monkeypatch, 2)
    assert quant_post_mrecg(model_dir, batches(), config, folder).interrupted
    with pytest.raises(OutputError, match="Global.resume=true.*Global.overwrite=true"):
        quant_post_mrecg(model_dir, batches(), config, folder)
    config = settings({"Global": {"overwrite": True}}, granularity="block")
    afresh = quant_post_mrecg(model_dir, batches(), config, folder)
    assert not any(u.restored for u in afresh.report.units) and content(folder) == content(whole)
