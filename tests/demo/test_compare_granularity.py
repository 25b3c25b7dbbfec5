# SPDX-License-Identifier: Apache-2.0
"""The studies of granularity: their cells, and that they run and go on where they stopped."""
from types import SimpleNamespace

import numpy as np
import pytest

from demo import compare_granularity, results
from paddle_mrecg.config import MRECG
from tests.tiny import tiny_graph, tiny_job, tiny_samples


def study_args(tmp_path, name, *more):
    words = ["--study", name, "--results", str(tmp_path / "study.json"), *more]
    return compare_granularity.parse_args(words)


@pytest.mark.parametrize("name", compare_granularity.STUDIES)
def test_every_study_is_of_valid_settings_and_of_different_cells(name, tmp_path):
    args = study_args(tmp_path, name)
    cells = list(compare_granularity.STUDIES[args.study]())
    assert len(cells) > 2 and len({str(c.setting) for c in cells}) == len(cells)
    for cell in cells:
        settings = MRECG(**{**dict(preset="fast"), **cell.mrecg})
        assert settings.iters_scaling == "per_unit", "equal steps are equal passes over modules"
        for count in (1, 2, 7, 11) if cell.groups else ():
            covered = [k for i, j in cell.groups(count) for k in range(i, j + 1)]
            assert covered == list(range(count))


def test_results_of_a_study_have_their_own_file():
    args = compare_granularity.parse_args(["--study", "batch"])
    assert args.results.name == "study_batch.json"
    assert (args.num_calib, args.num_eval) == compare_granularity.SAMPLES["ResNet-20"]
    assert set(compare_granularity.MODELS) < set(compare_granularity.WORKLOADS)


def test_policies_are_chosen_by_name(tmp_path, capsys):
    args = study_args(tmp_path, "ablation", "--policies", "block")
    assert [c.setting["policy"] for c in args.cells] == ["block", "block"]
    with pytest.raises(SystemExit):
        study_args(tmp_path, "policies", "--policies", "block", "bloc")
    assert "--policies bloc: study policies has block, pairs," in capsys.readouterr().err


class TinyStart(compare_granularity.Start):
    """The tiny network in place of a trained one; its labels are what it says itself."""

    def __init__(self, model, bits, seed, num_calib, num_eval):
        job = tiny_job(weight_bits=2, activation_bits=4, seed=seed)
        layers = tiny_job(granularity="layer").modules
        self.prepared = SimpleNamespace(network=job.network, graph=job.network.graph,
                                        float_graph=tiny_graph(), modules=job.modules,
                                        layers=layers)
        self.state, self._size = job.state, 16
        self._inputs = tiny_samples(40)
        self._float = self._outputs(self.prepared.float_graph)
        labels = self._float[0].argmax(-1)
        self._score = lambda outputs: 100.0 * float(np.mean(outputs[0].argmax(-1) == labels))


def test_the_float_network_has_no_error():
    start = TinyStart("ResNet-20", "W2A4", 0, 8, 8)
    float_outputs = start._float
    start._outputs = lambda _: float_outputs
    assert start.score(start.state) == {"score": 100.0, "output error": 0.0}
    start._outputs = lambda _: [1.1 * v for v in float_outputs]
    assert start.score(start.state)["output error"] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("name", compare_granularity.STUDIES)
def test_a_study_runs_and_goes_on_where_it_stopped(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare_granularity, "Start", TinyStart)
    args = study_args(tmp_path, name, "--num_iters", "6")
    assert compare_granularity.study(args) == 0
    runs = results.load_results(tmp_path / "study.json")["runs"]
    cells = list(compare_granularity.STUDIES[name]())
    assert [r["setting"]["policy"] for r in runs] == ["solved, no training",
                                                      *(c.setting["policy"] for c in cells)]
    for run in runs[1:]:
        assert set(run["measured"]) >= {"score", "output error", "passes"}
        assert [m for unit in run["curve"] for m in unit["modules"]][0] == 0
    monkeypatch.setattr(compare_granularity, "Start", None)  # nothing is left to run
    assert compare_granularity.study(args) == 0
    assert results.load_results(tmp_path / "study.json")["runs"] == runs
    assert results.NOTHING_NEW in capsys.readouterr().out
