# SPDX-License-Identifier: Apache-2.0
"""``plan`` and ``validate --model`` say what would stop a run, and nothing is written."""
import sys

import paddle
import pytest

from paddle_mrecg.cli import main as cli
from paddle_mrecg.deploy import first_run
from paddle_mrecg.deploy.apart import Ran
from paddle_mrecg.deploy.lite import ops as lite_ops
from paddle_mrecg.report.progress import get_logger

CONFIG = """
Global: {{model_dir: {folder}/model, save_dir: {folder}/out}}
Data: {{loader: tests.post.test_examine:batches, num_samples: 8, batch_size: 4}}
MRECG: {{preset: none}}
"""


def batches():
    paddle.seed(1)
    return [paddle.randn([4, 3, 8, 8]).numpy() for _ in range(2)]


@pytest.fixture
def config(tmp_path, monkeypatch):
    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.ReLU(),
                               paddle.nn.Conv2D(4, 2, 1))
    net.eval()
    paddle.jit.save(net, str(tmp_path / "model" / "inference"), input_spec=[
        paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")])
    path = tmp_path / "settings" / "c.yaml"
    path.parent.mkdir()
    path.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    monkeypatch.setattr(first_run, "_DONE", {})
    return path


COMMANDS = {"plan": ["plan", "--config"], "validate": ["validate", "--model"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_good_job_passes_and_leaves_nothing(config, tmp_path, capsys, command):
    assert cli.main([*COMMANDS[command], str(config)]) == 0
    said = capsys.readouterr()
    assert "2 weights would be quantized" in said.out or command == "plan"
    line = "time: about half a minute on this machine; scoring not counted\n"
    assert f"INFO: {line}" in said.err and (line in said.out) == (command == "validate")
    assert "takes minutes" not in said.out
    if command == "validate":
        assert cli.main(["validate", "--model", str(config), "MRECG.preset=mrecg",
                         "MRECG.num_iters=100000000", "MRECG.batch_size=8"]) == 0
        out = capsys.readouterr().out
        assert "on this machine: MRECG.preset=fast takes minutes" in out
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def broken():
    """A loader with a mistake of the user's."""
    yield paddle.ones([4, 3, 8, 8]).numpy()
    paddle.ones([2]).reshape([3])


def leaving():
    sys.exit(3)


@pytest.mark.parametrize("hook, said", [("broken", "your own code raised ValueError: "),
                                        ("leaving", "your own code raised SystemExit: 3; no ")])
def test_a_loader_that_raises_is_the_users_error_with_the_users_frames(config, capsys, hook, said):
    """Exit code 1 means that the written program differs."""
    for argv in (["quant", "--config"], *COMMANDS.values()):
        assert cli.main([*argv, str(config), f"Data.loader=tests.post.test_examine:{hook}"]) == 2
        err = capsys.readouterr().err
        last = err[err.index("paddle-mrecg: "):]
        assert last.startswith(f"paddle-mrecg: {said}") and last.count(", line ") == 1
        assert f"{__file__}\", line " in last and f"in {hook}\n" in last and "Traceback" not in err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("target, said", [("paddle_lite", True), ("simulation", False)])
def test_ops_that_paddle_lite_lacks_are_told(config, caplog, command, target, said, monkeypatch):
    monkeypatch.setattr(lite_ops, "kernels", lambda: {"version": "0", "arm": [], "x86": []})
    monkeypatch.setattr(get_logger(), "propagate", True)
    assert cli.main([*COMMANDS[command], str(config), f"Global.target={target}"]) == 0
    assert ("Paddle Lite 0 has no kernel for conv2d, relu" in caplog.text.replace(
        "conv2d, elementwise_add", "conv2d")) == said


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("spoil, said", [
    (lambda path, patch: patch.setattr(first_run, "run_apart", lambda *args, **kwargs: Ran(
        failure="the process was killed by SIGSEGV")), "killed by SIGSEGV"),
    (lambda path, patch: (path.parent.parent / "out").write_text("x"), "is a file"),
    (lambda path, patch: path.write_text(path.read_text() + "Evaluation: {evaluator: no_such:f}\n"),
     "no module named 'no_such'"),
    (lambda path, patch: path.write_text(path.read_text() + "Evaluation: {evaluator: "
                                         "'tests.post.test_examine:batches'}\n"),
     "cannot be called with Evaluation.evaluator_args {}: too many positional arguments; its "
     "signature is batches()"),
    (lambda path, patch: path.write_text(path.read_text() + "Evaluation: {data: {loader: "
                                         "'tests.post.test_examine:batches', loader_args: {n: 1}}}"
                                         "\n"),
     "Evaluation.data.loader_args {'n': 1}: got an unexpected keyword argument 'n'"),
    (lambda path, patch: path.write_text(path.read_text().replace("none", "fast")),
     "Data.num_samples: 8 are too few: one training step draws MRECG.batch_size = 32"),
])
def test_what_stops_a_run_stops_these(config, capsys, monkeypatch, command, spoil, said):
    spoil(config, monkeypatch)
    assert cli.main([*COMMANDS[command], str(config)]) == 2
    assert said in capsys.readouterr().err
