# SPDX-License-Identifier: Apache-2.0
"""The check agrees with runtimes that compute right, finds the layer of one that does
not, and survives a crash.
"""
import numpy as np
import pytest

from paddle_mrecg.deploy import arrays as arrays_file
from paddle_mrecg.deploy.check import doctor, runtimes
from paddle_mrecg.deploy.simulate import simulate
from paddle_mrecg.deploy.check.text import report_text
from paddle_mrecg.errors import ConfigError, ModelError
from paddle_mrecg.graph.graph import Op, TensorInfo

from tests.lite import lite_tools
from tests.tiny import SMALL_CODES, tiny_graph, tiny_quantized, tiny_samples

FEED = {"image": tiny_samples()["image"][:2]}


@pytest.fixture
def graph():
    return tiny_quantized(first_layer_weight_bits=4, last_layer_weight_bits=4)


@pytest.fixture
def only(monkeypatch):
    """Replaces all runtimes by one function of a graph and its inputs, and by another, if given,
    where Paddle's graph optimization is off.
    """
    monkeypatch.setattr(doctor, "_arm_table", lambda graph: ([], "not asked"))

    def replace(function, plain=None):
        monkeypatch.setitem(doctor.RUNTIMES, "inference",
                            lambda graph, feed, seconds: function(graph, feed))
        monkeypatch.setattr(doctor, "run_inference",
                            lambda graph, feed, seconds, optimize: (plain or function)(graph, feed))
    return replace


def exact(graph, feed):
    return runtimes.Outcome(simulate(graph, feed, graph.outputs))


def test_a_runtime_that_computes_the_same_agrees(graph, only):
    only(exact)
    report = doctor.check(graph, FEED, ["inference"])
    found, = report.runtimes
    assert report.is_fine and found.status == doctor.AGREES
    assert found.max_abs_diff == 0.0 and found.worst_layer == 0.0 and report.layers == 5


def test_the_layer_of_a_wrong_kernel_is_named(graph, only):
    def wrong(program, feed):
        program = program.copy()
        program.params["c.w"] = (program.params["c.w"] // 2).astype(np.int8)
        return exact(program, feed)

    only(wrong)
    report = doctor.check(graph, FEED, ["inference"])
    found, = report.runtimes
    assert not report.is_fine and found.status == doctor.DIFFERS
    assert [layer.name for layer in found.findings] == ["c.w"]
    assert "c.w (relu, c.relu)" in report_text(report) and "no known cause" in report_text(report)


def test_layers_with_one_cause_stand_in_one_line():
    def finding(k, cause, x86_only=False):
        return doctor.LayerFinding(f"conv{k}.w", f"y{k}", "conv2d", 0.5, 0.01 * k, cause, "cure it",
                                   x86_only)

    found = doctor.RuntimeFinding("lite", doctor.DIFFERS, findings=[
        *(finding(k, "saturation", True) for k in range(1, 41)), finding(50, "no known cause")])
    report = doctor.CheckReport(2, 41, 0.01, 1.0, {}, [found], [])
    _, _, _, unknown, saturated = report_text(report).splitlines()
    assert unknown == "  conv50.w (conv2d, y50) 50 %; cause: no known cause; cure: cure it"
    assert saturated == (
        "  40 layers: conv40.w (conv2d, y40) 40 %, conv39.w (conv2d, y39) 39 %, conv38.w (conv2d, "
        "y38) 38 %, and 37 more; cause: saturation [x86 only]; cure: cure it")


def test_a_crash_is_a_finding(graph, only):
    only(lambda graph, feed: runtimes.Outcome(failure="the process was killed by SIGSEGV"))
    report = doctor.check(graph, FEED, ["inference"])
    assert (not report.is_fine and report.runtimes[0].status == doctor.FAILED
            and "SIGSEGV" in report_text(report))


def test_what_graph_optimization_alone_breaks_is_said(graph, only):
    """Nothing is wrong with the program, yet it must not be deployed as it is."""
    def wrong(program, feed):
        return runtimes.Outcome({n: -v for n, v in exact(program, feed).outputs.items()})
    for broken in (wrong, lambda *args: runtimes.Outcome(failure="killed by SIGSEGV")):
        only(broken, plain=exact)
        report = doctor.check(graph, FEED, ["inference"])
        assert not report.is_fine and "switch_ir_optim(False)" in report.runtimes[0].why
        only(broken)
        report = doctor.check(graph, FEED, ["inference"])
        assert "switch_ir_optim(False)" not in report_text(report)


def test_what_is_not_installed_is_absent_not_wrong(graph, only):
    only(lambda graph, feed: runtimes.Outcome(failure="no paddle_lite_opt on PATH: run "
                                                      "`paddle-mrecg lite-env`"))
    report = doctor.check(graph, FEED, ["inference"])
    assert report.is_fine and report.runtimes[0].status == doctor.ABSENT


def test_wrong_use_is_said(graph):
    with pytest.raises(ConfigError, match="no runtime 'tflite'"):
        doctor.check(graph, FEED, ["tflite"])
    with pytest.raises(ModelError, match="check quantized models"):
        doctor.check(tiny_graph(), FEED, ["inference"])


def test_processes_that_crash_hang_or_fail_are_outcomes(tmp_path):
    def run(code, seconds=60):
        command = [runtimes.sys.executable, "-S", "-c", code]
        return runtimes._run_worker(command, str(tmp_path), FEED, ["y"], seconds, 0,
                                    runtimes.Outcome()).failure

    assert (run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
            == "the process was killed by SIGSEGV")
    assert run("import time; time.sleep(60)", seconds=1) == "no result after 1 s"
    assert run("import os; print('[F 1/2 3:4 op.cc:5 Run] Check failed: x == y', flush=True); "
               "os.abort()") == "the process was killed by SIGABRT: Check failed: x == y"
    assert run("raise SystemExit('out of luck')") == "exit code 1: out of luck"
    assert (run("raise ValueError('got 8 rows\\n instead of 4\\n Please mend it')")
            == "exit code 1: ValueError: got 8 rows instead of 4 Please mend it")


def test_arrays_keep_any_name(tmp_path):
    arrays = {"file": np.arange(3), "a/b": np.ones((2, 2), np.float32), "x@cut": np.zeros(1)}
    arrays_file.write_arrays(str(tmp_path / "a.npz"), arrays)
    found, times = arrays_file.read_arrays(str(tmp_path / "a.npz"))
    assert times == [] and list(found) == list(arrays)
    assert all(np.array_equal(found[n], v) for n, v in arrays.items())


@pytest.fixture
def mean_of_all(graph):
    """One number for all samples together, as a branch's condition is."""
    graph.ops.append(Op("reduce_mean", {"X": ["d.relu"]}, {"Out": ["mean"]},
                        dict(dim=[], reduce_all=True, keep_dim=False)))
    graph.tensors["mean"] = TensorInfo("mean", ())
    graph.outputs = ["mean"]
    return graph


def with_axis(program, feed):
    """As onnxruntime gives a number without axes."""
    found = exact(program, feed).outputs
    return {n: v.reshape(1) if v.ndim == 0 else v for n, v in found.items()}


def one_at_a_time(program, feed):
    """As Paddle Lite runs."""
    return arrays_file.joined_by_name([with_axis(program, s) for s in arrays_file.one_by_one(feed)])


@pytest.mark.parametrize("run, words", [(with_axis, ""), (one_at_a_time, "one sample at a time")])
def test_numbers_without_axes_are_compared_by_their_values(run, words, mean_of_all, only):
    assert exact(mean_of_all, FEED).outputs["mean"].shape == ()
    only(lambda program, feed: runtimes.Outcome(run(program, feed)))
    found, = doctor.check(mean_of_all, FEED, ["inference"]).runtimes
    assert found.status == doctor.AGREES and found.relative == 0.0 and found.worst_layer == 0.0
    assert found.why.startswith(words)
    only(lambda program, feed: runtimes.Outcome(
        {n: v * 1.5 if n == "mean" else v for n, v in run(program, feed).items()}))
    found, = doctor.check(mean_of_all, FEED, ["inference"]).runtimes
    assert found.status == doctor.DIFFERS and found.worst_layer == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inference", "onnxruntime", "lite"])
def test_real_runtimes_agree(graph, name):
    if name == "onnxruntime":
        for module in ("onnx", "onnxruntime", "paddle2onnx"):
            pytest.importorskip(module, reason=f"{module} is not installed: pip install "
                                               "'paddle_mrecg[onnx]'")
    if name == "lite":
        lite_tools()
    report = doctor.check(graph, FEED, [name])
    found, = report.runtimes
    assert found.status == doctor.AGREES, report_text(report)
    assert found.worst_layer < 1e-4


@pytest.mark.parametrize("count", [3, 8, 10])
def test_onnxruntime_gets_batches_of_the_size_that_the_model_was_exported_for(graph, count):
    for module in ("onnx", "onnxruntime", "paddle2onnx"):
        pytest.importorskip(module)
    for name in graph.inputs + graph.outputs:
        info = graph.tensors[name]
        graph.tensors[name] = TensorInfo(name, (4, *info.shape[1:]))
    samples = {n: v[:count] for n, v in tiny_samples().items()}
    found, = doctor.check(graph, samples, ["onnxruntime"]).runtimes
    assert found.status == doctor.AGREES, found.why
    assert found.worst_layer < 1e-4


def test_the_real_x86_runtime_agrees_on_sizes_that_its_quantizer_spoils():
    """Images of 300 values, in front of maps of 800."""
    lite_tools()
    samples = tiny_samples(size=10)
    graph = tiny_quantized(graph=tiny_graph(channels=8, size=10), samples=samples, **SMALL_CODES)
    report = doctor.check(graph, {n: v[:2] for n, v in samples.items()}, ["lite"])
    found, = report.runtimes
    assert found.status == doctor.AGREES, report_text(report)
    assert found.worst_layer < 1e-4 and "spoils" in "".join(found.notes)


def test_the_real_x86_runtime_agrees_on_codes_that_saturate():
    lite_tools()
    eight = tiny_quantized(weight_bits=8)
    report = doctor.check(eight, FEED, ["lite"])
    found, = report.runtimes
    assert found.status == doctor.AGREES and found.worst_layer < 1e-4, report_text(report)
    assert "saturates" in "".join(found.notes)
