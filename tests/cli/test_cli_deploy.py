# SPDX-License-Identifier: Apache-2.0
"""The command line of deployment: where it takes its samples from, and what it refuses."""
import argparse
import contextlib
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

import paddle
from paddle_mrecg.cli import main as cli
from paddle_mrecg.cli.deploy import _calibration, _samples_by_name
from paddle_mrecg.config import Config
from paddle_mrecg.config.io import load_config, save_config
from paddle_mrecg.data.hooks import refuse_foreign_hooks
from paddle_mrecg.deploy.check.runtimes import run_inference
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.post.job import quant_post_mrecg

from tests.tiny import tiny_graph, tiny_quantized, tiny_samples


def test_check_takes_fewer_samples_than_a_training_step(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for k in range(6):
        Image.fromarray(np.full((8, 8, 3), 40 * k, np.uint8)).save(images / f"{k}.png")
    config = Config()
    config.data.image_dir, config.data.input_shape = str(images), [3, 8, 8]
    config.mrecg.batch_size = 64
    save_config(config, str(tmp_path / "resolved_config.yaml"))
    samples = _calibration(argparse.Namespace(model_dir=str(tmp_path), num_samples=4,
                                              trust_hooks=False), tiny_graph())
    assert [v.shape for v in samples.values()] == [(4, 3, 8, 8)]


def test_images_that_are_elsewhere_are_looked_for_where_the_job_ran(tmp_path, capsys):
    received(tmp_path / "result", "Data: {image_dir: photos, input_shape: [3, 8, 8]}")
    assert cli.main(["check", str(tmp_path / "result")]) == 2
    error = capsys.readouterr().err
    assert "from 'photos', which is not there" in error and "job was started" in error


def received(folder, section):
    """A result as others send it, whose settings name code that lies with it."""
    folder.mkdir()
    save_program(tiny_quantized(), str(folder / "model"))
    (folder / "bait.py").write_text("open('run', 'w').close()\ndef load():\n    return []\n")
    (folder / "resolved_config.yaml").write_text(section)
    return folder


@pytest.mark.parametrize("hook", ["os:system", "bait:load"])
def test_check_runs_no_code_of_the_result(hook, tmp_path, monkeypatch, capsys):
    folder = received(tmp_path / "received", f"Data: {{loader: '{hook}'}}")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["check", "."]) == 2
    error = capsys.readouterr().err
    assert hook in error and "--inputs" in error and "--trust-hooks" in error
    assert not (folder / "run").exists()
    if hook == "bait:load":
        assert cli.main(["check", ".", "--trust-hooks"]) == 2
        assert "empty" in capsys.readouterr().err and (folder / "run").exists()


@pytest.mark.parametrize("command", ["quant", "plan"])
@pytest.mark.parametrize("setting", ["Data: {{loader: '{}'}}", "Evaluation: {{evaluator: '{}'}}",
                                     "Evaluation: {{data: {{loader: '{}'}}}}"])
def test_a_recipe_with_a_model_runs_no_code(command, setting, tmp_path, monkeypatch, capsys):
    folder = received(tmp_path / "received", "Global: {model_dir: .}\n"
                      + setting.format("bait:load"))
    monkeypatch.chdir(folder)
    assert cli.main([command, "--config", "resolved_config.yaml"]) == 2
    assert "--trust-hooks" in capsys.readouterr().err and not (folder / "run").exists()
    with pytest.raises(ConfigError, match="bait:load"):
        quant_post_mrecg(config="resolved_config.yaml")
    assert not (folder / "run").exists()


@pytest.mark.parametrize("here, recipe, refused", [
    ("", "received/recipes/a/r.yaml", True), ("", "received/r.yaml", True),
    ("received", "recipes/a/r.yaml", True), ("mine", "../received/recipes/a/r.yaml", True),
    ("mine", "r.yaml", False), ("", "mine/recipes/r.yaml", False),
    ("mine/work", "../recipes/r.yaml", False)])
def test_a_recipe_below_a_model_came_with_it(here, recipe, refused, tmp_path, monkeypatch):
    """What lies above both the recipe and the working directory is the user's own."""
    received(tmp_path / "received", "")
    (tmp_path / "mine" / "work").mkdir(parents=True)
    (tmp_path / "mine" / "work" / "own.pdmodel").touch()
    monkeypatch.chdir(tmp_path / here)
    path = pathlib.Path(recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("Data: {loader: 'bait:load'}")
    with pytest.raises(ConfigError, match="bait:load") if refused else contextlib.nullcontext():
        refuse_foreign_hooks(load_config(path), path)


def test_runtimes_import_nothing_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    outcome = run_inference(tiny_quantized(), tiny_samples(2))
    assert not outcome.failure and not (tmp_path / "run").exists()


@pytest.mark.parametrize("arrays, words", [
    (dict(image=np.array([None])), "holds an array of Python objects, which would be unpickled"),
    (dict(image=np.float32(1)), "is float32 of shape ()"), (dict(image=np.array(["a"])), "is <U1")],
                         ids=["object", "0-d", "text"])
def test_inputs_that_are_not_numbers_are_one_sentence(arrays, words, tmp_path, capsys):
    folder = received(tmp_path / "received", "")
    np.savez(tmp_path / "x.npz", **arrays)
    capsys.readouterr()
    assert cli.main(["check", str(folder), "--inputs", str(tmp_path / "x.npz")]) == 2
    printed = capsys.readouterr().err
    assert "x.npz" in printed and words in printed and printed.count("\n") == 1


def saved(path, **arrays):
    np.savez(path, **arrays)


IMAGE = tiny_samples(2)["image"]
UNFIT = {
    "missing": (lambda path: None, "does not exist: check its name"),
    "folder": (lambda path: path.mkdir(), "is a folder: give a .npz or .npy file"),
    "text": (lambda path: path.write_text("1 2 3"), "save it with numpy.savez"),
    "damaged": (lambda path: path.write_bytes(b"PK\3\4" + bytes(40)), "save it with numpy.savez"),
    "empty": (lambda path: saved(path, image=IMAGE[:0]), "holds no sample"),
    "NaN": (lambda path: saved(path, image=np.full_like(IMAGE, np.nan)), "holds NaN or infinity"),
    "size": (lambda path: saved(path, image=IMAGE[..., :5]), "has shape [2, 3, 8, 5]"),
    "uint8": (lambda path: saved(path, image=IMAGE.astype(np.uint8)),
              "is uint8, the model wants float32: scale and normalise pixels to floats"),
    "name": (lambda path: saved(path, x=IMAGE), "name the values as the inputs"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_unfit_inputs_are_one_sentence_with_what_the_model_wants(kind, tmp_path, capsys):
    write, words = UNFIT[kind]
    folder, path = received(tmp_path / "received", ""), tmp_path / "x.npz"
    write(path)
    capsys.readouterr()
    assert cli.main(["check", str(folder), "--inputs", str(path), "--runtimes", "inference"]) == 2
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1
    assert printed.endswith("; the model wants image: float32 [N, 3, 8, 8]\n")


def test_inputs_by_name_without_one_and_as_a_single_array(tmp_path):
    np.savez(tmp_path / "named.npz", image=IMAGE)
    np.savez(tmp_path / "numbered.npz", IMAGE)
    np.save(tmp_path / "single.npy", IMAGE)
    for name in ("named.npz", "numbered.npz", "single.npy"):
        args = argparse.Namespace(inputs=str(tmp_path / name), num_samples=1)
        found = _samples_by_name(args, tiny_graph())
        assert list(found) == ["image"] and np.array_equal(found["image"], IMAGE[:1])


@pytest.mark.parametrize("command", [["export", "--target", "inference"], ["check"]])
def test_a_missing_model_is_one_sentence_and_exit_code_2(command, tmp_path, capsys):
    assert cli.main([*command, str(tmp_path / "nothing")]) == 2
    printed = capsys.readouterr()
    assert "nothing" in printed.err and "Traceback" not in printed.err + printed.out


@pytest.mark.parametrize("words",
                         ["export --target onnx model {}", "export model {} --target onnx",
                          "check model {} --json",
                          "lite-env {}", "lite-env --dir place {}"])
def test_a_setting_that_nothing_would_read_is_refused(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words.format("QuantPost.weight_bits=3").split())
    message = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == 2
    assert (f"{words.split()[0]} reads no settings, so 'QuantPost.weight_bits=3' has no "
            "effect: leave it out" in message)


@pytest.mark.parametrize("stem", ["inference", "model"])
def test_a_float_program_of_paddle_3_becomes_a_pdmodel(stem, tmp_path, capsys):
    """Under the name that it had: scripts look for it."""
    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.Sigmoid())
    net.eval()
    paddle.jit.save(net, str(tmp_path / "float" / stem),
                    [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")])
    assert (cli.main(["export", "--target", "inference", str(tmp_path / "float"), "--output",
                      str(tmp_path / "out")]) == 0)
    x = np.ones((2, 3, 8, 8), np.float32)
    np.testing.assert_allclose(Predictor(str(tmp_path / "out" / stem))(x)[0],
                               net(paddle.to_tensor(x)).numpy(), atol=1e-6)
    assert (cli.main(["export", "--target", "onnx", str(tmp_path / "float"), "--output",
                      str(tmp_path / "onnx")]) == 2)
    assert "is not quantized" in capsys.readouterr().err


@pytest.mark.parametrize("words, lists", [
    (["export", "--target", "lite", "--lite_targets", "x86", "o/unet"], ["x86"]),
    (["export", "--lite_targets", "x86", "arm", "o/unet", "--target", "lite"], ["x86", "arm"]),
    (["export", "o/unet", "--target", "lite", "--lite_targets", "arm,x86"], ["arm", "x86"]),
    (["export", "--target", "lite", "--lite_targets=arm,x86", "o/unet"], ["arm", "x86"]),
    (["export", "--target", "lite", "--lite_targets", "arm,", "x86", "o/unet"], ["arm", "x86"]),
    (["export", "--target", "lite", "o/unet"], ["arm", "x86"]),
    (["check", "--runtimes", "lite", "inference", "o/unet"], ["lite", "inference"]),
    (["check", "o/unet", "--runtimes", "inference", "lite", "--json"], ["inference", "lite"])])
def test_a_list_of_names_leaves_the_model_alone(words, lists):
    args = cli._parse_words(words)
    assert args.model_dir == "o/unet"
    assert list(args.lite_targets if words[0] == "export" else args.runtimes) == lists


@pytest.mark.parametrize("words", [["x68", "o/unet"], ["x68"], ["arm,x68", "o/unet"]])
def test_a_name_that_is_not_in_the_list_is_refused(capsys, words):
    with pytest.raises(SystemExit) as caught:
        cli._parse_words(["export", "--target", "lite", "--lite_targets", *words])
    assert caught.value.code == 2
    assert "there is no 'x68', only arm, x86. Did you mean 'x86'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli._parse_words(["check", "o/unet", "--runtimes"])
    assert "--runtimes: expected one argument" in capsys.readouterr().err


def test_the_words_of_a_hosts_script_are_left_alone():
    words = ["run", "train.py", "--runtimes", "lite", "inference"]
    assert cli._parse_words(words).arguments == words[2:]
