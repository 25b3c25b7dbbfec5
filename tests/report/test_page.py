# SPDX-License-Identifier: Apache-2.0
"""The page needs nothing but itself, shows what the report holds, and never ends a job."""
import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from paddle_mrecg.report.layers import Histogram, LayerReport, ranked
from paddle_mrecg.report.page import html
from paddle_mrecg.report.page.charts import curves
from paddle_mrecg.report.page.html import page, write_page
from paddle_mrecg.report.report import Report
from paddle_mrecg.report.summary import summary_text

VOID = {"meta", "input", "br"}
TIMES = dict(float=dict(median=2.0, low=1.9, high=2.3), int8=dict(median=3.0, low=2.9, high=3.3),
             ratio=0.67, ratio_low=0.6, ratio_high=0.7, threads=1, repeats=30)


class Parsed(HTMLParser):
    """Elements with their attributes; complains where tags do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.labels = [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.texts.append("")
        if tag not in VOID:
            self.open.append((tag, dict(attributes), len(self.texts) - 1))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.texts.append("")

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data):
        for _, _, place in self.open:
            self.texts[place] += data

    def text(self, language, identity):
        """Of the element with that id, in one language."""
        start = next(k for k, (_, a) in enumerate(self.elements) if a.get("id") == identity)
        parts = [(a["lang"], self.texts[k]) for k, (tag, a) in enumerate(self.elements)
                 if k > start and tag == "span" and "lang" in a]
        whole, other = self.texts[start], [text for lang, text in parts if lang != language]
        for text in other:
            whole = whole.replace(text, "", 1)
        return whole


def layer(k, **changes):
    histogram = Histogram(-9.0, 8.0, [0, 5, 900, 20, 1], -8.0, 7.0, 16, 12, 0.004)
    fields = dict(name=f"conv_{k}.w", op="conv2d", shape=[8, 3, 3, 3], weight_bits=4,
                  activation_bits=8, error=0.3 / (k + 1), weight_error=0.2, activation_error=0.1,
                  arriving_error=0.4, weights=histogram if k < 6 else None,
                  activations=histogram if k < 6 else None)
    return LayerReport(**dict(fields, **changes))


@pytest.fixture
def full(make_unit):
    """A report with every section."""
    return Report(
        metrics=dict(float=dict(top1=0.815), nearest=dict(top1=0.70), solved=dict(top1=0.79),
                     nearest_bias=dict(top1=0.75), quantized=dict(top1=0.801)),
        units=[make_unit(curve=[[0, 3.0], [10, 2.0], [20, 1.0]])],
        layers=[layer(k) for k in range(29, -1, -1)],
        weights=dict(a=dict(bits=4, scale="per_channel"), b=dict(bits=4, scale="per_channel"),
                     c=dict(bits=8, scale="per_channel")),
        activations=dict(x=dict(bits=8, signed=True)),
        float_tensors={"fc.w": "behind unsupported op (nms); 12.0% of all weights"},
        seconds={"read": 1.5, "reconstruct": 203.0}, peak_memory=10**9,
        sizes=dict(float_file=dict(bytes=1_400_000, zipped=1_300_000),
                   quantized_file=dict(bytes=500_000, zipped=230_000),
                   codes=dict(int8=300_000, zipped=100_000, entropy_coded=90_000, float32=1_2e5)),
        speed=dict(inference=TIMES, lite=dict(failure="not installed")),
        verification=dict(max_abs_diff=2e-6, mean_abs_diff=1e-7, max_abs_output=11.2, samples=8),
        samples=dict(calibration=256), notes=["something unforeseen"],
        config=dict(Global=dict(model_dir="models/lcnet", target="paddle_lite"),
                    QuantPost=dict(rounding="solve", bias_correction=True),
                    MRECG=dict(preset="fast", granularity="block")))


def test_nothing_is_loaded_and_nothing_foreign_runs(full):
    text = page(full)
    parsed = Parsed(text)
    assert not re.search(r"https?://|url\(|@import", text)
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "img", "iframe", "object") and "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert "style" not in attributes and not [a for a in attributes if a.startswith("on")]
    policy = next(a["content"] for t, a in parsed.elements if "http-equiv" in a)
    for tag in ("style", "script"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_pictures_have_names_and_links_have_ends(full):
    elements = Parsed(page(full)).elements
    ids = [a["id"] for _, a in elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids, attributes
        assert attributes.get("href", "#" + ids[0])[1:] in ids, attributes
        if tag == "svg":
            named = attributes.get("role") == "img" and attributes.get("aria-labelledby")
            assert named or attributes.get("aria-hidden") == "true"
    pictures = [a for t, a in elements if t == "svg" and a.get("role") == "img"]
    assert len(pictures) == 12 + 1 + 1  # histograms of six layers, the network, one unit's curve


@pytest.mark.parametrize("ratio, said", [
    ((1.5, 1.2, 1.7), "1.50 times as fast"), ((1.5, 0.9, 1.7), "about as fast as float"),
    ((0.7, 0.6, 0.9), "slower than float"), ((0.7, 0.6, 1.1), "about as fast as float"),
    ((1.02, 1.01, 1.03), "about as fast as float")])
def test_what_scatters_is_not_called_faster_or_slower(full, ratio, said):
    full.speed["inference"] = dict(TIMES, **dict(zip(("ratio", "ratio_low", "ratio_high"), ratio)))
    assert said in summary_text(full)
    assert ("slower than float here" in page(full)) == ("slower" in said)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_summary_is_the_first_paragraph(full, language):
    parsed = Parsed(page(full))
    assert parsed.text(language, "summary").strip() == summary_text(full, language)


def test_the_summary_says_what_counts(full):
    text = summary_text(full)
    for part in ("lcnet: 3 layers at W4A8 (weights of 1 layer: 8 bits)", "then reconstruction",
                 "float 0.8150", "nearest + bias 0.7500", "quantized 0.8010 (-0.0140)",
                 "from 1.40 MB to 500.00 kB", "computes what was simulated", "3 min 24 s",
                 "Paddle Inference on this machine int8 is slower than float, 0.67 times as fast",
                 "1.00 GB of memory"):
        assert part in text, part
    full.verification["max_abs_diff"], full.status = 3.0, "interrupted"
    assert "differs from the simulation" in summary_text(full)
    assert "Global.resume=true" in summary_text(full)
    full.metrics, full.output_error = {}, 0.0123
    assert "differs from the float network's by 1.23 % of its variance" in summary_text(full)
    assert "1.23 %" in page(full)
    full.sizes["quantized_file"]["bytes"] = 2 * full.sizes["float_file"]["bytes"]
    assert "grows from 1.40 MB to 2.80 MB" in summary_text(full)


def test_the_command_that_reproduces_runs_where_the_job_ran(full):
    full.config["Global"]["save_dir"] = "output/my net"
    assert ("paddle-mrecg quant --config &#39;output/my net/resolved_config.yaml&#39; "
            "&#39;Global.save_dir=output/my net_again&#39;") in page(full)


def test_the_page_shows_the_report(full):
    text = page(full)
    for part in ("conv_0.w · 30 %", "something unforeseen", "12.0%",
                 "位于不支持的算子之后（nms）", "0.67", "未安装", "preset: fast", "78 %",
                 "int8 is slower than float here in Paddle Inference", "其余 10 层"):
        assert part in text, part
    assert text.index("conv_0.w") < text.index("conv_1.w") < text.index("conv_29.w")
    assert ranked(full.layers[::-1])[0].name == "conv_0.w"


def test_names_cannot_add_markup(full):
    full.layers[0].name = full.units[0].name = "<script>alert(1)</script>"
    full.config["Global"]["model_dir"] = full.notes[0] = "</title><img src=x>"
    text = page(full)
    assert "<script>alert" not in text and "<img" not in text
    Parsed(text)


def test_a_report_with_next_to_nothing():
    text = page(Report())
    Parsed(text)
    assert "Nothing was scored" in text and "未测量" in text and "无法单独运行" in text


def test_values_that_are_not_finite(full):
    full.units[0].loss_hard = full.layers[3].error = float("nan")
    full.layers[4].arriving_error = float("inf")
    full.layers[-1].weights.counts = [0, 0]
    Parsed(page(full))


def test_a_loss_of_zero_has_no_place_on_a_logarithmic_axis():
    chart = curves([("after", [0, 1, 2, 3], [0.0, 2.0, float("nan"), 4.0])])
    assert len(chart.lines[0].points) == 2 and len(chart.y_ticks) >= 2
    assert curves([("after", [0], [0.0])]).lines == []


def test_a_large_network_stays_small(full):
    full.layers = [layer(k) for k in range(1000)]
    assert len(page(full).encode()) < 1_500_000


def test_a_page_that_cannot_be_drawn_is_one_warning(full, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    monkeypatch.setattr(html, "sections", lambda report: 1 / 0)
    said = []
    monkeypatch.setattr(html.get_logger(), "warning", lambda text, *args: said.append(text % args))
    write_page(str(path), lambda: page(full))
    assert not path.exists()
    assert said == ["no report.html: ZeroDivisionError: division by zero"]


def test_a_page_is_written_as_a_whole(full, tmp_path):
    write_page(str(tmp_path / "report.html"), lambda: page(full))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page(full)
