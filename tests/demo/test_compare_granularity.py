# SPDX-License-Identifier: Apache-2.0
"""The grid of policies: its cells' configs, its order, its table."""
from types import SimpleNamespace

import pytest

from demo import compare_granularity, granularity_studies, results
from paddle_mrecg.config import MRECG
from tests.tiny import tiny_graph, tiny_job, tiny_samples


@pytest.mark.parametrize("model, bits",
                         [(m, b) for m, n in compare_granularity.NETWORKS.items() for b in n.bits])
def test_every_cell_is_a_valid_config(model, bits, tmp_path):
    args = compare_granularity.parse_args(["run", "--model", model, "--data_dir", str(tmp_path)])
    for policy in compare_granularity.POLICIES:
        if policy.startswith("explicit") and model not in compare_granularity.PAIRS:
            continue
        config = compare_granularity.cell_config(args, dict(model=model, bits=bits, policy=policy),
                                                 seed=3)
        assert f"W{config.quant_post.weight_bits}A{config.quant_post.activation_bits}" == bits
        assert config.global_.seed == 3 and config.mrecg.granularity == policy.split()[0]
        assert (config.mrecg.keep_prob == 0.5) == ("QDrop" in policy)


def test_a_budget_reaches_both_sides():
    args = compare_granularity.parse_args(["run", "--budget", "long", "--set",
                                           "MRECG.num_iters=77"])
    for policy in ("block", "explicit pairs", "explicit pairs, inner 0.1"):
        setting = dict(model="cifar_resnet20", bits="W2A4", policy=policy)
        assert compare_granularity.cell_config(args, setting, 0).mrecg.num_iters == 77


def test_summary_sorts_the_cells_of_one_results_file(tmp_path, capsys):
    cells = [("mobilenet_v1", "W4A8", "loss_peaks"), ("pplcnetv2", "W4A8", "block"),
             ("mobilenet_v1", "W4A8", "block + QDrop"),
             ("cifar_resnet20", "W2A4", "block")]
    for model, bits, policy in cells:
        setting = dict(model=model, bits=bits, policy=policy, budget="config")
        results.save_results(results.cell_path(tmp_path / "cells", setting, 0), "python x.py",
                             [results.run_record(setting, 0, {"float": 70.0, "quantized": 69.0})])
    arguments = ["summary", "--model", "pplcnetv2", "--cells_dir", str(tmp_path / "cells"),
                 "--results", str(tmp_path / "imagenet.json")]
    assert compare_granularity.summary(compare_granularity.parse_args(arguments)) == 0
    table = capsys.readouterr().out
    assert "cifar" not in table
    assert table.index("block + QDrop") < table.index("loss_peaks") < table.index("pplcnetv2 | "
                                                                                  "W4A8")


def test_a_measure_that_some_cells_lack_is_left_out(tmp_path, capsys):
    for seed, more in ((0, {}), (1, {"output error": 2.0})):
        for bits in ("W2A4", "W4A4") if more else ("W2A4",):
            setting = dict(model="cifar_resnet20", bits=bits, policy="block", budget="config")
            results.save_results(results.cell_path(tmp_path, setting, seed), "python x.py",
                                 [results.run_record(setting, seed, {"quantized": 69.0, **more})])
    arguments = ["summary", "--cells_dir", str(tmp_path), "--results",
                 str(tmp_path / "x" / "granularity.json")]
    assert compare_granularity.summary(compare_granularity.parse_args(arguments)) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "block" in line]
    assert rows[0].endswith("| 69.00 | – | 2 |") and rows[1].endswith("| 69.00 | 2.00 | 1 |")


def test_without_cells_it_says_what_to_run(tmp_path, capsys):
    args = compare_granularity.parse_args(["summary", "--cells_dir", str(tmp_path)])
    assert compare_granularity.summary(args) == 1
    assert "run" in capsys.readouterr().out


def test_measured_is_in_percent():
    class Report:
        metrics = {stage: {"top1": value}
                   for stage, value in (("float", 0.7), ("nearest", 0.1), ("quantized", 0.65))}
        units, first_pass = [], []
    Report.units = [type("Unit", (), {"iterations": 5})] * 2
    measured = results.measured(Report, "top1")
    assert measured["quantized"] == pytest.approx(65.0) and measured["iterations"] == 10


def study_args(tmp_path, name, *more):
    return compare_granularity.parse_args(["study", "--study", name, "--seeds", "0", "--results",
                                           str(tmp_path / "study.json"), *more])


@pytest.mark.parametrize("name", granularity_studies.STUDIES)
def test_every_study_is_of_valid_settings_and_of_different_cells(name, tmp_path):
    args = study_args(tmp_path, name)
    cells = list(granularity_studies.STUDIES[args.study]())
    assert len(cells) > 2 and len({str(c.setting) for c in cells}) == len(cells)
    for cell in cells:
        settings = MRECG(**{**dict(preset="fast"), **cell.mrecg})
        assert settings.iters_scaling == "per_unit", "equal steps are equal passes over modules"
        for count in (1, 2, 7, 11) if cell.groups else ():
            covered = [k for i, j in cell.groups(count) for k in range(i, j + 1)]
            assert covered == list(range(count))


def test_results_of_a_study_have_their_own_file():
    path = compare_granularity.parse_args(["study", "--study", "batch"]).results
    assert path.name == "granularity_batch.json"


class TinyStart(granularity_studies.Start):
    """The tiny network in place of a trained one; its labels are what it says itself."""

    def __init__(self, model, bits, seed, args):
        job = tiny_job(weight_bits=2, activation_bits=4, seed=seed)
        layers = tiny_job(granularity="layer").modules
        self.prepared = SimpleNamespace(network=job.network, graph=job.network.graph,
                                        float_graph=tiny_graph(), modules=job.modules,
                                        layers=layers)
        self.state, self.images = job.state, tiny_samples(40)["image"]
        self._float = self._logits(self.prepared.float_graph)
        self.labels = self._float.argmax(-1)


@pytest.mark.parametrize("name", granularity_studies.STUDIES)
def test_a_study_runs_and_goes_on_where_it_stopped(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(granularity_studies, "Start", TinyStart)
    args = study_args(tmp_path, name, "--num_iters", "6")
    assert granularity_studies.study(args) == 0
    runs = results.load_results(tmp_path / "study.json")["runs"]
    cells = list(granularity_studies.STUDIES[name]())
    assert [r["setting"]["policy"] for r in runs] == ["solved, no training",
                                                      *(c.setting["policy"] for c in cells)]
    for run in runs[1:]:
        assert set(run["measured"]) >= {"top1", "output error", "passes"}
        assert [m for unit in run["curve"] for m in unit["modules"]][0] == 0
    monkeypatch.setattr(granularity_studies, "Start", None)  # nothing is left to run
    assert granularity_studies.study(args) == 0
    assert results.load_results(tmp_path / "study.json")["runs"] == runs
    assert "output error" in capsys.readouterr().out
