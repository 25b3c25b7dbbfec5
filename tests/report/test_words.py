# SPDX-License-Identifier: Apache-2.0
"""Every string is there in both languages with the same braces, and every one is used."""
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import paddle_mrecg.analysis
import paddle_mrecg.report
from paddle_mrecg.config import MRECG
from paddle_mrecg.deploy import first_run
from paddle_mrecg.deploy.apart import Ran
from paddle_mrecg.deploy.lite.ops import lite_note
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.load import _use_running_statistics
from paddle_mrecg.post.prepare import _forward_only, _samples_alone
from paddle_mrecg.report.advice import (advice, coarse_advice, equalize_cost_note, equalized_note,
                                        float_note, taken_back_note, untrained_note)
from paddle_mrecg.report.words import (LANGUAGES, phrase, phrase_numbered, translated,
                                       words_table)

FOLDERS = [Path(module.__file__).parent for module in (paddle_mrecg.report, paddle_mrecg.analysis)]
BRACES = re.compile(r"\{(\w+)\}")
HANZI = re.compile("[\u3001-\u9fff\uff08-\uff1b]")  # and full-width marks


def test_both_languages_say_the_same():
    assert LANGUAGES == ("en", "zh")
    for english, chinese in [*words_table()["words"].values(), *words_table()["sentences"]]:
        assert english and chinese
        assert not HANZI.search(english), english
        assert HANZI.search(chinese) or chinese == english, chinese
        assert set(BRACES.findall(chinese)) <= set(BRACES.findall(english)), chinese
    for key, (english, chinese) in words_table()["words"].items():
        assert sorted(BRACES.findall(english)) == sorted(BRACES.findall(chinese)), key


def test_every_word_is_used():
    text = "".join(p.read_text(encoding="utf-8") for folder in FOLDERS
                   for p in sorted(folder.rglob("*")) if p.suffix in (".py", ".html"))
    parts = [(key, key) for key in words_table()["words"]]
    parts += [(key, key[len(start):]) for key, _ in parts
              for start in ("to_", "histogram_caption_", "sum_") if key.startswith(start)]
    used = {key for key, part in parts if f'"{part}"' in text}
    assert set(words_table()["words"]) == used, set(words_table()["words"]) - used


def test_a_phrase_in_a_phrase_is_in_the_same_language():
    score = phrase("sum_score", stage=phrase("nearest"), value="7")
    assert score.text("en") == "nearest 7" and score.text("zh") == "就近取整 7"


def test_one_thing_is_not_called_many():
    one, many = (phrase_numbered(n, "one_layer", "many_layers") for n in (1, 2))
    assert (one.text("en"), many.text("en")) == ("1 layer", "2 layers")
    assert (one.text("zh"), many.text("zh")) == ("1 层", "2 层")


def test_every_advice_is_known_in_chinese(make_unit):
    worse = make_unit(note="training made the output worse; the rounding before it stays")
    two = advice([worse, worse], MRECG(preset="fast"))
    thrown = make_unit(loss_hard=0.04, power=0.1, note=worse.note)
    undecided = make_unit(loss_soft=0.005, loss_hard=0.0157, power=0.1)
    notes = [note for units in ([worse], [thrown], [undecided], [worse, thrown, undecided])
             for solved in (False, True)
             for note in advice(units, MRECG(preset="fast"), solved)]
    for equalize in ("auto", "fold"):
        notes += coarse_advice({"a": 0.3}, equalize) + coarse_advice({"a": 1, "b": 1}, equalize)
    notes += float_note({"a": "behind unsupported op (x)"})
    notes += equalized_note([dict(way="multiply", before=0.3, after=0.1, layers=["a"])])
    notes += untrained_note(0.031, 0.05) + taken_back_note(0.03, 0.04)
    notes += equalize_cost_note({"inference": 0.03, "lite": -0.01})
    notes += float_note(dict.fromkeys("abcdefg", "r"))
    assert len(notes) > 8 and worse.note
    for note in notes + two + [worse.note]:
        assert HANZI.search(translated(note) or ""), note
    assert "MRECG.num_iters=120" in translated(advice([undecided], MRECG(preset="fast"))[0])


def test_every_note_on_the_float_program_is_known_in_chinese(monkeypatch):
    """As ``prepare`` collects them."""
    ops = [Op("conv3d", {"Input": ["x"]}, {"Output": ["y"]}, alone=(1,)),
           Op("acosh", {"X": ["y"]}, {"Out": ["z"]}),
           Op("batch_norm", {"X": ["z"], "Variance": ["v"], "Scale": ["v"], "Bias": ["v"]},
              {"Y": ["n"]}, {"is_test": False})]
    graph = Graph(ops, {n: TensorInfo(n, (1, 4)) for n in "xyzvn"}, {}, ["x"], ["n"])
    notes = [*lite_note(graph), *_forward_only(SimpleNamespace(forward_only=ops[:1])),
             *_samples_alone(graph)]
    _use_running_statistics(graph)
    expected = {"n": np.ones(2)}
    monkeypatch.setattr(first_run._Runs, "__call__", lambda *_, **__: Ran(expected))
    run = first_run._Runs(graph, None, None, None)
    for found in (Ran(None, "killed"), Ran({"n": np.zeros(2)})):
        notes += first_run._unoptimized(run, found, expected, ["n"], lambda difference: True)
    notes += graph.remarks
    assert len(notes) == 6
    for note in notes:
        assert HANZI.search(translated(note) or ""), note


@pytest.mark.parametrize("sentence", ["", "something new", "read twice"])
def test_what_is_not_known_stays_as_it_is(sentence):
    assert translated(sentence) is None
