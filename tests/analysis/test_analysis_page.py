# SPDX-License-Identifier: Apache-2.0
"""The pages of analyze and auto show what was found, in both languages, and need no network."""
import dataclasses
import re

import pytest

from paddle_mrecg.analysis.findings import Findings
from paddle_mrecg.analysis.goal import AutoResult, Goal
from paddle_mrecg.analysis.page import auto_page, findings_page
from paddle_mrecg.analysis.sensitivity import LayerEffect
from paddle_mrecg.analysis.tries import Try
from paddle_mrecg.config.io import load_config
from paddle_mrecg.report.words import translated
from tests.report.test_page import Parsed

CONFIG = load_config(dict(Global=dict(model_dir="models/lcnet")))


def effect(k, cause="few levels: rounding is 1.2 % noise in the weight"):
    return LayerEffect(f"conv<{k}>.w", f"x{k}", [f"y{k}"], "conv2d", 4, 8, 100,
                       dict(weights=0.02 / (k + 1), activations=0.01, both=0.03 / (k + 1)),
                       dict(weights=0.2, activations=0.2, both=0.25 - 0.02 / (k + 1)),
                       {"top1": 0.7 - 0.1 / (k + 1)}, cause, "weight_bits: 8")


@pytest.fixture
def findings():
    return Findings([effect(k) for k in range(24, -1, -1)], 0.25, ["softmax.in"], 8,
                    {"top1": 0.7846}, 83.0)


def test_nothing_is_advised_where_nothing_is_lost(findings):
    small = dataclasses.replace(findings, whole=2e-6)
    assert small.suggested() == [] and small.yaml_lines() == ""
    assert "no layer needs more bits: all together cost at most 0.1 %" in small.text()
    text = findings_page(small, CONFIG, "recipe.yaml")
    parsed = Parsed(text)
    assert "No layer needs more bits" in parsed.text("en", "summary")
    assert "没有任何一层需要更多比特" in parsed.text("zh", "summary")
    assert "suggested.yaml holds" not in text


@pytest.fixture
def tries():
    changed = dict(QuantPost=dict(equalize="auto", skip=["conv2d_27.w_0", "conv<1>.w"], overrides=[
        dict(pattern="conv<0>.w", weight_bits=8)]))
    return [Try("as configured", {}, 2.3, 76.1, 4.25, 61.0),
            Try("equalized channels", dict(QuantPost=dict(equalize="auto")), 1.9, 76.5, 4.25, 66.0),
            Try("6 of 28 layers with 8 bits", changed, 0.9, 77.6, 4.9, 62.0)]


def test_the_page_of_analyze_ranks_all_layers_and_has_the_lines(findings):
    text = findings_page(findings, CONFIG, "out/resolved_config.yaml")
    parsed = Parsed(text)
    summary = parsed.text("en", "summary")
    for part in ("lcnet: 25 layers at W4A8", "on 8 inputs", "in 83 s", "by 25 % of its variance",
                 "To be changed first: conv<0>.w, conv<1>.w", "top1 of the float network: 0.7846",
                 "changes it by -0.1846"):
        assert part in summary, part
    assert "25 层" in parsed.text("zh", "summary")
    rows = re.findall(r'<th scope="row">(conv&lt;\d+&gt;\.w)<br>.*?</th><td>([^<]*)</td>', text)
    assert [name for name, _ in rows] == [f"conv&lt;{k}&gt;.w" for k in range(25)]
    assert rows[0][1] == "3 %" and "The other 5 layers" in text
    assert "Inputs that errors are measured on" in text and "Calibration samples" not in text
    assert "取整给权重带来 1.2 % 的噪声" in text and "weight_bits: 8" in text
    assert findings.yaml_lines().splitlines()[0] in text
    assert "analyze --config out/resolved_config.yaml --samples 8 --metric<" in text
    pictures = [a for t, a in parsed.elements if t == "svg" and a.get("role") == "img"]
    assert len(pictures) == 1 and pictures[0]["aria-labelledby"] == "along"


def test_the_page_of_auto_says_what_each_try_bought(tries):
    result = AutoResult(tries[2], True, tries, "out", "out.auto/recipe.yaml", "top1")
    text = auto_page(result, Goal(max_drop=1.0), [effect(k) for k in range(3)], CONFIG)
    parsed = Parsed(text)
    assert parsed.text("en", "summary").split() == (
        "lcnet: the goal, a loss of at most 1 (points of top1), was reached; settings tried: 3. "
        "What was taken loses 0.9 (points of top1), with 4.90 bits per weight on average.").split()
    assert "初始设置" in text and "28 层中 6 层使用 8 比特" in text
    assert re.findall(r'<td class="enough">([\d.]+)', text) == ["0.900"]
    rows = re.findall(r"<td>(\d)</td>.*?</th><td[^>]*>([\d.]+)</td>.*?</td><td>([-+.\d]*)</td>"
                      r"<td>([\d.]+)</td><td>(\d+ s)</td>", text, re.DOTALL)
    assert rows == [("1", "2.300", "", "4.25", "61 s"), ("2", "1.900", "-0.400", "4.25", "66 s"),
                    ("3", "0.900", "-1.000", "4.90", "62 s")]
    assert text.count("taken</span>") == 1 and 'class="verdict good"' in text
    assert "- conv2d_27.w_0" in text and "--config out.auto/recipe.yaml" in text
    assert re.findall(r"<td>(4/8[^<]*)", text) == ["4/8 → 8/8", "4/8 → ", "4/8"]
    assert 'id="along"' not in text  # ranked layers do not lie along the network


def test_a_goal_that_was_missed_is_said(tries):
    result = AutoResult(tries[1], False, tries[:2], "out", "recipe.yaml", "")
    text = auto_page(result, Goal(max_drop=1.0, bits=4.0), [], CONFIG)
    summary = Parsed(text).text("en", "summary")
    assert ("the goal, a loss of at most 1 (percent of the output's variance), at most 4 bits per "
            "weight on average, was not reached; settings tried: 2") in summary
    assert 'class="verdict bad"' in text and 'id="layers"' not in text


def test_nothing_is_loaded_and_links_have_ends(findings, tries):
    result = AutoResult(tries[2], True, tries, "out", "recipe.yaml", "top1")
    for text in (findings_page(findings, CONFIG, "out/resolved_config.yaml"),
                 auto_page(result, Goal(max_drop=1.0), findings.ranked(), CONFIG)):
        elements = Parsed(text).elements
        ids = [a["id"] for _, a in elements if "id" in a]
        assert len(ids) == len(set(ids)) and not re.search(r"https?://|url\(|@import", text)
        for tag, attributes in elements:
            assert tag not in ("link", "img", "iframe", "object") and "src" not in attributes
            assert attributes.get("href", "#done")[1:] in ids
            assert attributes.get("aria-labelledby", ids[0]) in ids


@pytest.mark.parametrize("sentence", [
    "depthwise on unequal channels: one step for all is 31 % noise in a channel",
    "outlier channels in the input: the largest is 9 times the median",
    "range: the input reaches 32.1, the grid ends at 12",
    "range: the largest input is 25 times the typical one", "few levels: 4-bit input",
    "the output depends strongly on this input", "the output depends strongly on this weight",
    "unequal weight channels: the largest is 12 times the median",
    "outlier weights: the largest is 30 times the typical one",
    "equalize the channels, or keep the layer float (skip)",
    "activation_observer: percentile, or keep the layer float (skip)",
    "bits by layer", "activation ranges by output error", "short reconstruction",
    "3 of 28 layers with 8 bits", "3 of 28 layers kept float"])
def test_causes_cures_and_tries_are_known_in_chinese(sentence):
    chinese = translated(sentence) or ""
    assert re.search("[\u4e00-\u9fff]", chinese) and "layers" not in chinese
