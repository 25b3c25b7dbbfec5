# SPDX-License-Identifier: Apache-2.0
"""The picture of the paper's studies shows the means of all seeds and how far they lie apart."""
import pytest
from matplotlib.figure import Figure

from demo import results
from demo.classification import study_pictures


def run(policy, seed, error, units=4.0):
    return results.run_record(dict(model="net", bits="W2A4", policy=policy), seed,
                              {"output error": error, "units": units})


def test_partitions_have_bars_and_policies_names():
    axes = Figure().subplots()
    runs = [run("random 0", seed, error) for seed, error in enumerate((5.0, 6.0, 7.0))]
    runs += [run("block", 0, 4.0, units=11.0)]
    study_pictures.draw_partitions(axes, runs)
    chance, block = axes.containers
    assert (chance[0].get_xdata()[0], chance[0].get_ydata()[0]) == (4.0, 6.0)
    (low, high), = ([point[1] for point in segment] for segment in chance[2][0].get_segments())
    assert (low, high) == (5.0, 7.0) and block[0].get_ydata()[0] == 4.0
    assert [text.get_text() for text in axes.texts] == ["block"]


def test_losses_are_against_single_blocks():
    axes = Figure().subplots()
    runs = []
    for policy, losses in (("block", (0.1, 0.2)), ("loss", (0.2, 0.1))):
        record = run(policy, 0, 1.0)
        record["curve"] = [dict(modules=[0], end=losses[0], inner={}),
                           dict(modules=[1, 2], end=losses[1], inner={"1": 0.3})]
        runs.append(record)
    study_pictures.draw_losses(axes, runs)
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["block"] == [0.0, 0.0, 0.0]
    assert lines["loss"] == pytest.approx([100.0, 0.0, -50.0])


def test_the_picture_is_drawn_from_the_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_pictures, "PICTURE", tmp_path / "study.png")
    monkeypatch.setattr(study_pictures.sources, "ROOT", tmp_path)
    assert study_pictures.main([]) == 0 and (tmp_path / "study.png").stat().st_size > 10_000
    monkeypatch.setattr(study_pictures, "FOLDER", tmp_path)
    assert study_pictures.main([]) == 1
    assert "run demo/compare_granularity.py --study curves" in capsys.readouterr().out
