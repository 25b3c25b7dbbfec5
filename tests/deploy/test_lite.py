# SPDX-License-Identifier: Apache-2.0
"""Every way in which Paddle Lite's converter can fail is one sentence; the real one, where it
is installed, makes int8.
"""
import pytest

from paddle_mrecg.deploy import targets
from paddle_mrecg.errors import ModelError, MrecgError, OutputError
from paddle_mrecg.deploy.lite import convert as lite
from paddle_mrecg.deploy.lite.env import LiteTools

from tests.lite import lite_tools
from tests.tiny import SMALL_CODES, tiny_graph, tiny_quantized


@pytest.fixture(scope="module")
def quantized():
    return tiny_quantized()


def converter(tmp_path, script):
    """A stand-in for paddle_lite_opt."""
    path = tmp_path / "paddle_lite_opt"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return LiteTools(str(path), None)


@pytest.mark.parametrize("script, said", [
    ("echo loading; echo 'Check failed: no kernel for softplus'; echo bye; exit 3",
     r"exit code 3\): Check failed: no kernel for softplus"),
    # it claims success and writes nothing
    ("echo 'last words'; exit 0", r"exit code 0\): last words"),
    ("kill -ABRT $$", r"killed by signal 6\): no message"),
])
def test_a_failed_conversion_gives_the_converters_reason(quantized, tmp_path, script, said):
    with pytest.raises(ModelError, match=said):
        lite.convert(quantized, converter(tmp_path, script), "arm")


def test_a_target_that_fails_leaves_nothing_and_names_the_other(quantized, tmp_path, monkeypatch):
    def convert(graph, tools, target):
        if target == "x86":
            raise ModelError("paddle_lite_opt for x86 failed")
        return lite.LiteModel(target, b"nb", [], [])
    monkeypatch.setattr(targets, "convert", convert)
    monkeypatch.setattr(targets, "find_lite", lambda: None)
    output = str(tmp_path / "out")
    with pytest.raises(ModelError, match="no .nb file was written: .* arm` leaves x86"):
        targets.export_model(quantized, "lite", output)
    assert not (tmp_path / "out").exists()
    targets.export_model(quantized, "lite", output, ["arm"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.arm.nb", "ops.json"]


def test_a_converter_that_hangs_is_stopped(quantized, tmp_path, monkeypatch):
    monkeypatch.setattr(lite, "OPT_SECONDS", 0.2)
    with pytest.raises(ModelError, match="did not finish in 0.2 s"):
        lite.convert(quantized, converter(tmp_path, "exec sleep 30"), "arm")


def test_half_a_file_on_a_full_disk_is_not_taken_for_a_model(quantized, tmp_path, monkeypatch):
    """The converter writes what fits and ends with exit code 0."""
    half = 'for a; do case $a in --optimize_out=*) o=${a#*=}; mkdir -p $o; : >$o/model; : >$o.nb;; '
    monkeypatch.setattr(lite, "free_bytes", lambda folder: 0.0)
    with pytest.raises(OutputError, match="temporary folder .*No space left.*TMPDIR"):
        lite.convert(quantized, converter(tmp_path, half + "esac; done"), "arm")


def test_a_converter_that_cannot_run_names_the_cure(quantized, tmp_path):
    with pytest.raises(MrecgError, match="cannot be run .*lite-env"):
        lite.convert(quantized, LiteTools(str(tmp_path / "missing"), None), "arm")


def test_a_program_is_converted_once(tmp_path):
    runs = tmp_path / "runs"
    tools = converter(tmp_path, f"""echo run >> '{runs}'
for word in "$@"; do case $word in --optimize_out=*) printf nb > "${{word#*=}}.nb";; esac; done""")
    graph = tiny_quantized()
    for _ in range(2):
        assert lite.convert(graph, tools, "arm", table=False).data == b"nb"
    assert runs.read_text() == "run\n"
    graph.params["a.b"] = graph.params["a.b"] + 1
    lite.convert(graph, tools, "arm", table=False)
    lite.convert(graph, tools, "x86", table=False)
    assert runs.read_text() == 3 * "run\n" and len(lite._RECENT) <= lite._REMEMBERED


@pytest.mark.parametrize("target", lite.LITE_TARGETS)
def test_the_real_converter_makes_int8_of_every_layer(target):
    quantized = tiny_quantized(graph=tiny_graph(channels=8), **SMALL_CODES)
    tools = lite_tools()
    before = {name: value.copy() for name, value in quantized.params.items()}
    model = lite.convert(quantized, tools, target)
    assert model.target == target and len(model.data) > 1000
    convolutions = [row for row in model.rows if "conv" in row.type]
    assert len(convolutions) == 4 and all(row.int8 for row in convolutions)
    # the graph is not changed
    assert all((quantized.params[name] == value).all() for name, value in before.items())
