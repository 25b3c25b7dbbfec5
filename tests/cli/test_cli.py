# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, one sentence on stderr, help that teaches."""
import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

from paddle_mrecg import __version__, compat
from paddle_mrecg.cli import main as cli
from paddle_mrecg.errors import DataError, MrecgError



ROOT = str(Path(__file__).resolve().parents[2])


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"Global": {"model_dir": "m", "save_dir": str(tmp_path / "out")},
                                    "Data": {"loader": "a:b"}}), encoding="utf-8")
    return str(path)


@pytest.fixture
def jobs(monkeypatch):
    """The two jobs replaced by recorders."""
    called = types.SimpleNamespace(config=None, interrupted=False, error=None, agrees=True)

    def quant_post_mrecg(config):
        called.config = config
        if called.error:
            raise called.error
        return types.SimpleNamespace(interrupted=called.interrupted,
                                     report=types.SimpleNamespace(agrees=called.agrees),
                                     save_dir=config.global_.save_dir)

    def plan_post(config):
        called.config = config
        return types.SimpleNamespace(to_dict=lambda: {"units": [1]}, table=lambda: "the table")

    module = types.ModuleType("paddle_mrecg.post.job")
    module.quant_post_mrecg, module.plan_post = quant_post_mrecg, plan_post
    monkeypatch.setitem(sys.modules, "paddle_mrecg.post.job", module)
    return called


def run(capsys, *argv):
    code = cli.main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def exit_code(capsys, *argv):
    with pytest.raises(SystemExit) as caught:
        cli.main(list(argv))
    captured = capsys.readouterr()
    return caught.value.code, captured.out + captured.err


def test_overrides_may_stand_anywhere(capsys, config_file, jobs):
    for argv in (["--config", config_file, "Global.seed=3", "MRECG.num_iters=5"],
                 ["Global.seed=3", "--config", config_file, "MRECG.num_iters=5"],
                 ["Global.seed=3", "MRECG.num_iters=5", "--config", config_file]):
        assert run(capsys, "quant", *argv)[0] == 0
        assert (jobs.config.global_.seed, jobs.config.mrecg.num_iters) == (3, 5)


def test_an_error_of_the_user_is_one_sentence_and_exit_code_2(capsys, config_file, jobs):
    jobs.error = DataError("the data is empty: give some")
    assert (run(capsys, "quant", "--config", config_file) == (2, "", "paddle-mrecg: the data is "
                                                              "empty: give some\n"))


def test_an_error_of_ours_keeps_its_traceback(config_file, jobs):
    jobs.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        cli.main(["quant", "--config", config_file])


def test_a_program_that_differs_is_exit_code_1(capsys, config_file, jobs):
    assert run(capsys, "quant", "--config", config_file)[0] == 0
    jobs.agrees = False
    assert run(capsys, "quant", "--config", config_file)[0] == 1


def test_ctrl_c_says_what_is_kept(capsys, config_file, jobs):
    jobs.interrupted = True
    code, _, err = run(capsys, "quant", "--config", config_file)
    assert code == 130 and "usable program" in err and "Global.resume=true" in err
    jobs.error = KeyboardInterrupt()
    assert (run(capsys, "quant", "--config", config_file) == (130, "", "paddle-mrecg: interrupted; "
                                                              "no result was written\n"))


def test_config_mistakes_are_listed_before_paddle_is_imported(tmp_path):
    (tmp_path / "c.yaml").write_text("MRECG: {topk: 1}\nGlobal: {sed: 1}\n", encoding="utf-8")
    code = ("import sys; from paddle_mrecg.cli.main import main; code = main(['quant', '--config', "
            "'c.yaml'])\nassert 'paddle' not in sys.modules; sys.exit(code)")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                            text=True,
                            env=dict(os.environ,
                                     PYTHONPATH=ROOT))
    assert result.returncode == 2
    assert (result.stderr.splitlines()[0] == "paddle-mrecg: 2 problems:"
            and "Did you mean 'top_k'?" in result.stderr)


@pytest.mark.parametrize("command", ["quant", "plan"])
def test_model_and_data_must_be_named(capsys, tmp_path, jobs, command):
    (tmp_path / "c.yaml").write_text("Evaluation: {data: {image_dir: x}}\n", encoding="utf-8")
    code, _, err = run(capsys, command, "--config", str(tmp_path / "c.yaml"))
    assert (code == 2
            and all(w in err
                    for w in ("Global.model_dir", "Data: set image_dir",
                              "Evaluation.data.label_file")))


def test_plan_is_printed_and_saved_next_to_the_result(capsys, config_file, jobs, tmp_path):
    code, out, _ = run(capsys, "plan", "--config", config_file)
    assert code == 0 and out.startswith("the table\n")
    assert json.loads((tmp_path / "out.plan.json").read_text(encoding="utf-8")) == {"units": [1]}
    assert not (tmp_path / "out").exists()  # a later `quant` finds nothing foreign in its way
    assert (run(capsys, "plan", "--config", config_file, "--output",
                str(tmp_path / "new" / "p.json"))[0] == 0)
    assert (tmp_path / "new" / "p.json").exists()


def test_plan_that_cannot_be_saved(capsys, config_file, jobs, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, _, err = run(capsys, "plan", "--config", config_file, "--output",
                       str(tmp_path / "file" / "p.json"))
    assert code == 2 and "--output" in err and "cannot be written" in err
    for argv, option in ((["plan", "--config", config_file, "--output"], "--output"),
                         (["validate", config_file, "--resolved"], "--resolved")):
        code, _, err = run(capsys, *argv, str(tmp_path))
        assert code == 2 and err == (f"paddle-mrecg: {option} '{tmp_path}' is a folder: name a "
                                     "file\n")
    assert jobs.config is None


def test_settings_are_listed(capsys):
    code, out, _ = run(capsys, "config", "MRECG")
    assert code == 0 and "  top_k: unset" in out and "weight_bits" not in out and "fast: " in out
    assert run(capsys, "config", "--markdown")[1].startswith("### Global\n")
    assert exit_code(capsys, "config", "MRCEG")[0] == 2


@pytest.mark.parametrize("argv", [[], ["quants"], ["quant", "--config"], ["validate"],
                                  ["quant", "--config", "a", "--sed=1"]])
def test_wrong_usage_is_exit_code_2(capsys, argv):
    assert exit_code(capsys, *argv)[0] == 2


def test_a_stray_word_is_not_an_override(capsys, config_file, jobs):
    code, _, err = run(capsys, "quant", "--config", config_file, "seed")
    assert code == 2 and "Section.key=value" in err


def test_version(capsys):
    assert exit_code(capsys, "--version") == (0, f"paddle-mrecg {__version__}\n")


def test_help_teaches_commands_that_parse(capsys):
    """Every example in every help text is a valid command line."""
    seen = 0
    for argv in ([], ["quant"], ["plan"], ["validate"], ["config"]):
        code, text = exit_code(capsys, *argv, "--help")
        assert code == 0 and "examples:" in text
        for line in re.findall(r"^ +paddle-mrecg (.*?)(?: {2,}#.*)?$", text, re.M):
            words = shlex.split(line, comments=True)
            assert words[0] == (argv or words)[0]
            cli._parse_words(words)
            seen += 1
    assert seen >= 12


@pytest.mark.parametrize("command", ["quant", "plan", "analyze", "auto"])
def test_the_usage_line_shows_both_ways(capsys, command):
    assert exit_code(capsys, command, "--help")[1].startswith(
        f"usage: paddle-mrecg {command} (--config FILE | MODEL_DIR IMAGES) [Section.key=value ...]")


def test_the_example_config_of_the_help_text_is_valid(capsys, tmp_path):
    text = cli.DESCRIPTION.split("<<'END'\n")[1].split("  END")[0]
    (tmp_path / "my.yaml").write_text("\n".join(line[2:] for line in text.splitlines()),
                                      encoding="utf-8")
    assert (run(capsys, "validate", str(tmp_path / "my.yaml"))[:2]
            == (0, f"{tmp_path / 'my.yaml'}: valid\n"))


def test_module_is_the_same_command(tmp_path):
    result = subprocess.run([sys.executable, "-m", "paddle_mrecg", "validate",
                             str(tmp_path / "absent.yaml")],
                            capture_output=True, text=True,
                            cwd=ROOT)
    assert (result.returncode == 2 and "cannot be read" in result.stderr
            and result.stderr.count("\n") == 1)


def test_a_missing_paddle_names_the_cure(tmp_path):
    (tmp_path / "paddle.py").write_text("import not_installed_here\n", encoding="utf-8")
    code = (f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from paddle_mrecg.compat import "
            "import_paddle; import_paddle()")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            cwd=ROOT)
    assert "no module named 'not_installed_here'" in result.stderr


def test_held_back_noise_comes_out_with_an_exception(capfd):
    with compat._held_back_stderr():
        os.write(2, b"noise")
    with pytest.raises(MrecgError), compat._held_back_stderr():
        os.write(2, b"the reason")
        raise MrecgError("x")
    assert capfd.readouterr().err == "the reason"
