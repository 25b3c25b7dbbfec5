# SPDX-License-Identifier: Apache-2.0
"""``paddle-mrecg validate``: what settings and models rule out, said before anything runs."""
from pathlib import Path

import pytest
import yaml
from PIL import Image

from paddle_mrecg.cli import main as cli
from paddle_mrecg.graph.graph import TensorInfo
from paddle_mrecg.graph.writer import save_program

from tests.cli.test_cli import ROOT, config_file, jobs, run  # noqa: F401
from tests.tiny import tiny_graph


def test_validate_says_what_memory_the_job_will_hold(capsys, tmp_path):
    save_program(tiny_graph(), str(tmp_path / "model"))
    (tmp_path / "c.yaml").write_text(f"Global: {{model_dir: {tmp_path}}}\n"
                                     "Data: {loader: 'absent:code', num_samples: 64}\n"
                                     "MRECG: {batch_size: 16}\n")
    code, out, _ = run(capsys, "validate", str(tmp_path / "c.yaml"))
    assert code == 0 and "memory: about" in out and "the machine has" in out
    free = tiny_graph()
    free.tensors["image"] = TensorInfo("image", (-1, 3, -1, -1))
    save_program(free, str(tmp_path / "model"))
    code, out, _ = run(capsys, "validate", str(tmp_path / "c.yaml"))
    assert code == 0 and "memory is not known: " in out and "Data.input_shape" in out


def test_validate_refuses_a_model_that_no_data_would_make_fit(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text(f"Global: {{model_dir: {tmp_path}}}\n")
    double = tiny_graph()
    double.params = {name: value.astype("float64") for name, value in double.params.items()}
    save_program(double, str(tmp_path / "model"))
    code, out, err = run(capsys, "validate", str(tmp_path / "c.yaml"))
    assert (code, out) == (2, "") and "the parameters are float64" in err
    save_program(tiny_graph(), str(tmp_path / "model"))
    code, out, err = run(capsys, "validate", str(tmp_path / "c.yaml"), "QuantPost.skip=[nothing]")
    assert (code, out) == (2, "") and "matches no weight" in err
    (tmp_path / "model.pdiparams").write_bytes(b"damaged")
    code, out, err = run(capsys, "validate", str(tmp_path / "c.yaml"))
    assert (code, out) == (2, "") and "pdiparams" in err


def test_validate(capsys, config_file, tmp_path):
    resolved = tmp_path / "new" / "r.yaml"
    code, out, _ = run(capsys, "validate", config_file, "MRECG.preset=fast", "--resolved",
                       str(resolved))
    assert (code, out) == (0, f"{config_file}: valid\n")
    assert yaml.safe_load(resolved.read_text(encoding="utf-8"))["MRECG"]["num_iters"] == 60
    assert run(capsys, "validate", str(resolved))[0] == 0
    assert run(capsys, "validate", config_file, "MRECG.preset=quick")[0] == 2
    assert run(capsys, "validate", str(tmp_path / "absent.yaml"))[0] == 2


@pytest.mark.parametrize("settings, said", [
    (["Global.save_dir={folder}/model"], "is the directory of the float model"),
    (["Global.save_dir={folder}/model", "Global.model_dir={folder}/model/inference"],
     "is the directory of the float model"),
    (["Global.save_dir={folder}/c.yaml"], "is a file"),
    (["Data.num_samples=16"], "Data.num_samples: 16 are too few: one training step draws "
     "MRECG.batch_size = 256"),
    (["Data.num_samples=16", "Data.views=3"], "Data.num_samples: 16 in 3 views each are too few")])
def test_validate_refuses_what_the_settings_alone_rule_out(capsys, tmp_path, settings, said):
    (tmp_path / "model").mkdir()
    save_program(tiny_graph(), str(tmp_path / "model" / "inference"))
    (tmp_path / "c.yaml").write_text(f"Global: {{model_dir: {tmp_path}/model}}\n"
                                     "Data: {loader: 'absent:code'}\n")
    words = [text.format(folder=tmp_path) for text in settings]
    code, out, err = run(capsys, "validate", str(tmp_path / "c.yaml"), *words)
    assert (code, out) == (2, "") and said in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml", "model"]


def test_validate_counts_the_images_that_are_there(capsys, tmp_path):
    (tmp_path / "images").mkdir()
    for k in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{k}.jpg")
    (tmp_path / "c.yaml").write_text(f"Data: {{image_dir: {tmp_path}/images, num_samples: 64}}\n"
                                     "MRECG: {batch_size: 4}\n")
    code, out, err = run(capsys, "validate", str(tmp_path / "c.yaml"))
    assert (code, out) == (2, "") and "Data.image_dir: 3 samples are too few: one training" in err
    assert run(capsys, "validate", str(tmp_path / "c.yaml"), "Data.views=2")[0] == 0


def test_few_samples_are_enough_where_no_step_draws_them(capsys, config_file, jobs):
    for more in (["MRECG.preset=none"], ["Data.views=16"], ["MRECG.batch_size=16"]):
        for argv in (["validate", config_file], ["quant", "--config", config_file]):
            assert run(capsys, *argv, "Data.num_samples=16", *more)[0] == 0
    code, _, err = run(capsys, "quant", "--config", config_file, "Data.num_samples=16")
    assert code == 2 and "too few" in err and jobs.config.mrecg.batch_size == 16


def test_sections_of_both_jobs_are_those_of_a_host_and_are_checked_apart(capsys, tmp_path):
    """The YAML of demo/hosts/README.md."""
    readme = Path(ROOT, "demo", "hosts", "README.md").read_text(encoding="utf-8")
    path = tmp_path / "host.yml"
    path.write_text(readme.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    assert cli.main(["validate", str(path), "BinRegularization.lambda=0.1"]) == 0
    assert "valid, with sections of both jobs" in capsys.readouterr().out
    assert cli.main(["validate", str(path), "BinRegularization.lamda=1", "MRECG.presett=fast"]) == 2
    printed = capsys.readouterr().err
    assert "Did you mean 'lambda'?" in printed and "Did you mean 'preset'?" in printed
    assert cli.main(["validate", str(path), "--resolved", str(tmp_path / "r.yml")]) == 2


def test_validate_says_what_a_script_has_to_fill_in(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("", encoding="utf-8")
    code, out, _ = run(capsys, "validate", str(tmp_path / "c.yaml"))
    assert code == 0 and "Global.model_dir" in out and "Data: set image_dir" in out
