# SPDX-License-Identifier: Apache-2.0
"""A model and a folder of images are enough; slips of the hand are named."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from paddle_mrecg.cli import main as cli
from paddle_mrecg.cli.first_use import CHECKED
from paddle_mrecg.config.io import load_config
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.writer import save_program
from tests.tiny import tiny_graph

PREPROCESS = {"PreProcess": {"transform_ops": [
    {"ResizeImage": {"size": [8, 8]}},
    {"NormalizeImage": dict(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4], scale="1.0/255.0")}]}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with an exported model that says how it wants its images, and images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    save_program(tiny_graph(), "net/inference")
    (tmp_path / "net" / "inference.yml").write_text(yaml.safe_dump(PREPROCESS), encoding="utf-8")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for k in range(6):
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(f"photos/{k}.png")
    return tmp_path


def run(capsys, *argv):
    code = cli.main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_quant_of_a_model_and_a_folder(capsys, place, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    code, _, err = run(capsys, "quant", "net", "photos", "Global.visualdl=false")
    result = place / "output" / "net_w8a8"
    assert code == 0 and "images as net/inference.yml says" in err
    assert "paddle-mrecg lite-env, then paddle-mrecg export --target lite output/net_w8a8" in err
    report = json.loads((result / "report.json").read_text(encoding="utf-8"))
    assert {w["bits"] for w in report["weights"].values()} == {8}
    used = load_config(str(result / "resolved_config.yaml"))
    assert used.data.mean == [0.4, 0.5, 0.6] and used.data.crop == "resize"
    assert used.global_.target == "paddle_lite" and used.mrecg.num_iters == 0


@pytest.fixture
def lite(monkeypatch):
    """Paddle Lite's tools, as if they were there; what was converted and compared."""
    def convert(graph, target, output):
        found.converted.append(output)
        if found.refused:
            raise ModelError(found.refused)
        return SimpleNamespace(files=["model.arm.nb"])

    def check(graph, samples, runtimes):
        found.compared.append({n: v.shape for n, v in samples.items()})
    found = SimpleNamespace(converted=[], compared=[], refused=None)
    for name, value in (("lite.env.find_lite", lambda: None), ("targets.export_model", convert),
                        ("check.doctor.check", check), ("check.text.report_text", str)):
        monkeypatch.setattr(f"paddle_mrecg.deploy.{name}", value)
    return found


def test_behind_a_first_run_with_training_fewer_samples_are_compared(capsys, place, lite):
    words = ["MRECG.preset=fast", "MRECG.num_iters=2", "MRECG.batch_size=6", "MRECG.train_above=0",
             "MRECG.train_network_above=0", "Global.visualdl=false"]
    code, out, err = run(capsys, "quant", "net", "photos", *words)
    assert code == 0 and "model.arm.nb" in out, err
    assert lite.compared == [{"image": (CHECKED, 3, 8, 8)}]


def test_a_result_that_paddle_lite_refuses_is_a_result(capsys, place, lite):
    lite.refused = "paddle_lite_opt failed: it has no kernel for silu"
    code, _, err = run(capsys, "quant", "net", "photos", "Global.visualdl=false")
    assert code == 0 and not lite.compared
    assert err.rstrip().endswith("the result is in output/net_w8a8; it was not converted for "
                                 "Paddle Lite: paddle_lite_opt failed: it has no kernel for silu")


def test_a_simulation_is_not_converted(capsys, place, lite):
    code, _, err = run(capsys, "quant", "net", "photos", "Global.visualdl=false",
                       "Global.target=simulation")
    assert code == 0 and not lite.converted, err


def test_init_writes_the_same_as_a_recipe_to_edit(capsys, place):
    code, out, _ = run(capsys, "init", "net", "photos", "my.yaml", "QuantPost.weight_bits=4")
    assert code == 0 and "paddle-mrecg quant --config my.yaml" in out
    config = load_config(str(place / "my.yaml"))
    assert config.quant_post.weight_bits == 4 and config.data.input_shape == [3, 8, 8]
    assert config.global_.save_dir == "output/net_w4a8"
    text = (place / "my.yaml").read_text(encoding="utf-8")
    assert "# Evaluation:" in text and "weight_bits: 4  # 2 to 8" in text
    code, _, err = run(capsys, "init", "net", "photos", "my.yaml")
    assert code == 2 and "exists" in err
    assert run(capsys, "init", "net", "photos")[0] == 0 and (place / "recipe.yaml").exists()


@pytest.mark.parametrize("words, count, observed", [
    (["Data.input_shape=[3,224,224]"], 64, 64), (["Data.input_shape=[3,640,640]"], 16, 16),
    ([], 64, 64), (["Data.input_shape=[3,640,640]", "Data.num_samples=200"], 200, 16)])
def test_large_images_are_fewer(capsys, place, words, count, observed):
    (place / "net" / "inference.yml").unlink()
    assert run(capsys, "init", "net", "photos", "Data.mean=[0,0,0]", "Data.std=[1,1,1]",
               *words)[0] == 0
    config = load_config(str(place / "recipe.yaml"))
    assert (config.data.num_samples, config.quant_post.num_observe) == (count, observed)


def test_a_model_that_says_nothing_is_asked_about(capsys, place):
    (place / "net" / "inference.yml").unlink()
    code, _, err = run(capsys, "quant", "net", "photos")
    assert code == 2 and err.startswith("paddle-mrecg: how does 'net' want its images?")
    assert "Data.mean" in err and not (place / "output").exists()
    code, _, _ = run(capsys, "init", "net", "photos", "Data.mean=[0,0,0]", "Data.std=[1,1,1]")
    assert code == 0 and load_config(str(place / "recipe.yaml")).data.mean == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("words, cure", [
    ([], "needed, got nothing: paddle-mrecg"), (["net"], "needed, got net"),
    (["my.yaml"], "needed, got my.yaml"), (["net", "photo"], "'photo' is not a folder"),
    (["absent/net", "photos"], "does not exist"),
    (["net", "photos", "QuantPost.weightbits=4"], "Did you mean 'weight_bits'?")])
def test_what_is_missing_is_one_sentence(capsys, place, words, cure):
    for command in ("quant", "init"):
        code, out, err = run(capsys, command, *words)
        assert (code, out) == (2, "") and cure in err, err


@pytest.mark.parametrize("argv, hint", [
    (["qunt"], "Did you mean 'quant'?"), (["analyse", "net"], "Did you mean 'analyze'?"),
    (["config", "QuantPst"], "Did you mean 'QuantPost'?")])
def test_slips_of_the_hand(capsys, argv, hint):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2 and hint in capsys.readouterr().err


def test_a_slip_in_a_value(capsys, place):
    (place / "c.yaml").write_text("MRECG: {granularity: loss-peaks}\n", encoding="utf-8")
    code, _, err = run(capsys, "validate", "c.yaml")
    assert code == 2 and "Did you mean 'loss_peaks'?" in err


@pytest.mark.parametrize("words, cure", [
    (["net"], "MODEL_DIR IMAGES, or --config FILE"), ([], "MODEL_DIR IMAGES, or --config FILE"),
    (["my.yaml"], "--config my.yaml")])
def test_init_is_not_told_of_an_option_that_it_lacks(capsys, place, words, cure):
    assert run(capsys, "quant", *words)[2].endswith(f": paddle-mrecg quant {cure}\n")
    assert run(capsys, "init", *words)[2].endswith(": paddle-mrecg init MODEL_DIR IMAGES [FILE]\n")
