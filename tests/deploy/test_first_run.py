# SPDX-License-Identifier: Apache-2.0
"""The float program runs apart before anything is trained: what is wrong shows as a sentence."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.deploy import apart, first_run as module
from paddle_mrecg.deploy.apart import Ran, run_apart
from paddle_mrecg.deploy.compare import in_front_of_choices, largest, relative
from paddle_mrecg.deploy.first_run import first_run
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.ops import registry
from paddle_mrecg.graph.writer import save_program


class Net(paddle.nn.Layer):
    def __init__(self, tail=None):
        super().__init__()
        self.conv, self.norm = paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4)
        self.tail = tail or (lambda y: y)

    def forward(self, x):
        return self.tail(paddle.nn.functional.leaky_relu(self.norm(self.conv(x))))


FEED = {"x": np.random.RandomState(0).randn(3, 3, 8, 8).astype("float32")}


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(module, "_DONE", {})


def exported(folder, tail=None, batch=None):
    paddle.seed(0)
    net = Net(tail)
    net.eval()
    paddle.jit.save(net, str(folder / "m"), input_spec=[
        paddle.static.InputSpec([batch, 3, 8, 8], "float32", "x")])
    return fold(load_graph(str(folder / "m")))


@pytest.mark.parametrize("batch", [None, 1])
def test_a_good_model_passes_without_a_word(tmp_path, batch):
    graph = exported(tmp_path, batch=batch)
    assert graph.files and first_run(graph, FEED, graph.files) == []


def test_an_attribute_that_was_read_wrongly_is_found(tmp_path):
    graph = exported(tmp_path)
    next(op for op in graph.ops if op.type == "leaky_relu").attrs["alpha"] = 0.5
    assert first_run(graph, FEED) == []  # consistent in itself
    with pytest.raises(ModelError, match="not read as Paddle reads it .* nothing was trained"):
        first_run(graph, FEED, graph.files)


def test_an_op_that_dygraph_computes_otherwise_is_named(tmp_path, monkeypatch):
    graph = exported(tmp_path)
    monkeypatch.setitem(registry._TABLE, "leaky_relu",
                        (lambda call: paddle.nn.functional.relu(call("X")), ["Out"]))
    with pytest.raises(ModelError, match="op 'leaky_relu' -> .* nothing was trained"):
        first_run(graph, FEED, graph.files)


def test_a_program_that_does_not_run_is_refused_and_the_model_itself_is_told_apart(
        tmp_path, monkeypatch):
    graph = exported(tmp_path)
    failing = {"written": True, "exported": False}

    def run(program, params, feed, *args, **kwargs):
        own = program == graph.files[0]
        wrong = failing["exported" if own else "written"]
        return Ran(failure="the process was killed by SIGSEGV") if wrong else run_apart(
            program, params, feed, *args, **kwargs)
    monkeypatch.setattr(module, "run_apart", run)
    with pytest.raises(ModelError, match="cannot run the float program .*SIGSEGV.*nothing was"):
        first_run(graph, FEED, graph.files)
    failing["exported"] = True
    with pytest.raises(ModelError, match="m.(pdmodel|json) itself .*SIGSEGV"):
        first_run(graph, FEED, graph.files)


def test_what_optimization_alone_changes_is_a_note(tmp_path, monkeypatch):
    graph = exported(tmp_path)

    def run(program, params, feed, *args, optimize=True):
        ran = run_apart(program, params, feed, *args, optimize=optimize)
        return Ran({n: v * 1.1 for n, v in ran.outputs.items()}) if optimize else ran
    monkeypatch.setattr(module, "run_apart", run)
    note, = first_run(graph, FEED)
    assert "graph optimization changes the float program by 0.1 " in note


def test_choices_are_compared_in_front_of_them(tmp_path):
    graph = exported(tmp_path, lambda y: (paddle.argmax(y, 1), y.mean([2, 3])))
    compared = in_front_of_choices(graph)
    argmax = next(op for op in graph.ops if op.type == "arg_max")
    assert argmax.input("X") in compared and argmax.output("Out") not in compared
    assert graph.outputs[1] in compared
    assert first_run(graph, FEED, graph.files) == []


def test_nan_and_shapes_count_as_differences():
    a = np.array([1.0, np.nan, np.inf, 2.0])
    assert largest(a, a) == relative(a, a) == 0.0
    for position, value in ((0, np.nan), (1, 1.0), (2, -np.inf), (3, np.inf)):
        b = a.copy()
        b[position] = value
        assert largest(a, b) == relative(a, b) == np.inf
    assert largest(np.zeros(3), np.zeros(4)) == np.inf
    assert largest(np.array([3.0, 4.0]), np.array([3.0, 4.4])) == pytest.approx(0.1)


def test_a_crash_inside_paddle_is_a_sentence(tmp_path):
    """An Input of the wrong type: Paddle aborts or raises, and this process goes on."""
    paths = [str(tmp_path / f"m.{suffix}") for suffix in ("pdmodel", "pdiparams")]
    save_program(Graph([Op("strided_slice", {"Input": ["x"]}, {"Out": ["y"]},
                           dict(axes=[9], starts=[0], ends=[8], strides=[0], infer_flags=[]))],
                       {"x": TensorInfo("x", (-1, 3, 8, 8)), "y": TensorInfo("y", (-1,))}, {},
                       ["x"], ["y"]), str(tmp_path / "m"))
    ran = run_apart(*paths, FEED)
    assert ran.outputs is None and len(ran.failure.split()) > 3


def test_a_crash_that_breaks_the_heap_ends_at_once(tmp_path):
    """Paddle's own handler of signals once waited forever in it; oneDNN's padding of all axes
    writes behind its buffer.
    """
    graph = exported(tmp_path, lambda y: paddle.nn.functional.pad(y, [0, 0, 1, 1, 0, 0, 2, 2]))
    save_program(graph, str(tmp_path / "w"))
    files = [str(tmp_path / f"w.{suffix}") for suffix in ("pdmodel", "pdiparams")]
    ran = run_apart(*files, FEED, seconds=60)
    assert ran.outputs or "no result" not in ran.failure


def test_the_helper_is_replaced_when_it_has_gone(tmp_path):
    save_program(exported(tmp_path), str(tmp_path / "w"))
    files = [str(tmp_path / f"w.{suffix}") for suffix in ("pdmodel", "pdiparams")]
    assert run_apart(*files, FEED).outputs
    apart._server._process.kill()
    assert run_apart(*files, FEED).outputs
    assert "no result after 0 s" == run_apart(*files, FEED, seconds=0).failure
    ran = run_apart(*files, {"x": FEED["x"][:, :2]}, repeat=2)
    assert "cannot run" in ran.failure
    assert len(run_apart(*files, FEED, repeat=2).milliseconds) == 2
