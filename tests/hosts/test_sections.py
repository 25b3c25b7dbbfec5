# SPDX-License-Identifier: Apache-2.0
"""Our sections in a host's YAML file: what is found, and every mistake at
once before anything runs.
"""
import pytest

from paddle_mrecg.errors import ConfigError
from paddle_mrecg.hosts.host import call_of
from paddle_mrecg.hosts.sections import examine, host_sections
from tests.hosts.conftest import STUBS

CLAS = str(STUBS / "clas" / "tools" / "train.py")


@pytest.mark.parametrize("script, name",
                         [(CLAS, "PaddleClas"),
                          (str(STUBS / "det" / "tools" / "train.py"), "PaddleDetection"),
                          (str(STUBS / "ocr" / "deploy" / "slim" / "quantization" / "quant.py"),
                           "PaddleOCR")])
def test_hosts_are_recognised_by_their_package(script, name):
    assert call_of(script, []).name == name


def test_a_script_of_another_kind(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text("")
    config = tmp_path / "c.yml"
    config.write_text("BinRegularization: {}\n")
    call, strategies = examine(str(script), ["-c", str(config)])
    # the host does not tell it the epochs
    assert call.host is None and strategies.training.bin_regularization.schedule == "S1"
    assert examine(CLAS, ["-c", str(config)])[1].training.bin_regularization.schedule == "S2"


def test_options_in_all_their_forms(tmp_path):
    call = call_of(CLAS,
                   ["-c", "a", "--config=b", "--slim_config", "c", "-o", "A.b=1", "C.d=2", "--eval",
                    "x=1", "-o", "E.f=3"])
    for name in "abc":
        (tmp_path / name).write_text("")
    assert call.overrides() == ["A.b=1", "C.d=2", "E.f=3"]
    assert call.config_files() == []


def test_tags_and_base_files_of_hosts_are_read(tmp_path):
    (tmp_path / "base.yml").write_text("epoch: 3\nQuantAware: {weight_bits: "
                                       "4}\nSymmetricPACT: {}\n")
    path = tmp_path / "c.yml"
    path.write_text("_BASE_: ['base.yml', 'absent.yml']\nLearningRate: {schedulers: [!CosineDecay "
                    "{max_epochs: 3}]}\nx: !!python/object/apply:os.getcwd []\nQuantAware: "
                    "{weight_bits: 2}\n")
    found = host_sections(str(path))
    assert (found["QuantAware"] == {"weight_bits": 2} and found["SymmetricPACT"] == {}
            and found["x"] is None)
    _, strategies = examine(CLAS, ["-c", str(path)])
    assert strategies.training.quant_aware.activation_quanter == "symmetric_pact"
    assert strategies.training.quant_aware.penalty_mode == "injection"


def test_the_command_line_of_the_host_wins(tmp_path):
    path = tmp_path / "c.yml"
    path.write_text("QuantAware: {weight_bits: 4}\n")
    _, strategies = examine(CLAS,
                            ["-c", str(path), "-o", "QuantAware.weight_bits=2",
                             "BinRegularization.lambda=0.1", "epoch=3"])
    assert (strategies.training.quant_aware.weight_bits == 2
            and strategies.training.bin_regularization.lambda_ == 0.1)


def test_a_strategy_file_next_to_the_hosts(tmp_path):
    (tmp_path / "c.yml").write_text("Global: {epochs: 3}\n")
    (tmp_path / "s.yaml").write_text("Global: {target: simulation}\nQuantPost: {activation_bits: "
                                     "4}\nMRECG: {preset: fast}\n")
    _, strategies = examine(CLAS, ["-c", str(tmp_path / "c.yml")], str(tmp_path / "s.yaml"))
    assert strategies.training is None and strategies.post["Global"] == {"target": "simulation"}


MISTAKES = {
    "a misspelled section": ("BinRegularisation: {}", [], "unknown section BinRegularisation. Did "
                             "you mean 'BinRegularization'?"),
    "a misspelled key": ("BinRegularization: {lamda: 1}", [], "Did you mean 'lambda'?"),
    "a misspelled override": ("QuantAware: {}", ["-o", "QuantAwre.weight_bits=3"],
                              "the command line: unknown section QuantAwre"),
    "a value out of range": ("QuantAware: {weight_bits: 1}", [], "QuantAware.weight_bits"),
    "what the script decides": ("QuantPost: {}\nData: {image_dir: x}", [],
                                "Data.image_dir has no effect, the script decides it"),
    "a penalty in a loss": ("QuantAware: {penalty_mode: loss}", [],
                            "QuantAware.penalty_mode has no effect, penalties are injected"),
    "what needs calibration": ("QuantAware: {fold_batch_norm: true}", [],
                               "needs calibration data before training"),
    "a penalty in a loss that is never added": ("Dampening: {}", [], "is a term of the loss only"),
    "no YAML": ("a: [", [], "cannot be read"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_a_sentence_and_exit_code_2(name, host, capsys):
    text, arguments, message = MISTAKES[name]
    assert host("clas/train", {"c.yml": text}, "-c", "c.yml", *arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and ("c.yml" in printed or arguments) and "Traceback" not in printed


def test_all_mistakes_at_once(host, capsys):
    text = "BinRegularization: {lamda: 1}\nSymetricPACT: {}\nMRECG: {presett: fast}\n"
    assert (host("clas/train", {"c.yml": text, "s.yml": "BinRegularization: {}\n"}, "-c", "c.yml",
                 "--strategy=s.yml") == 2)
    printed = capsys.readouterr().err
    assert "stands in s.yml and in c.yml; keep one" in printed
    assert "Did you mean 'SymmetricPACT'?" in printed and "Did you mean 'preset'?" in printed


def test_check_runs_nothing(host, capsys):
    assert host("clas/train", {"c.yml": "QuantAware: {}\n"}, "--check", "-c", "c.yml") == 0
    assert ("section  QuantAware (c.yml)" in capsys.readouterr().out
            and not list(host.folder.glob("*.pdparams")))


@pytest.mark.parametrize("script, files, lines", [
    ("ocr/quant", {"c.yml": {"Global": {"save_model_dir": "a"}, "QuantAware": {},
                             "Architecture": {"Head": {"name": "DBHead"}}}},
     ["checkpoints in a", "b/inference.pdmodel", "DBHead's thresh runs in training only",
      "slim export is broken", "names them in its log"]),
    ("ocr/quant", {"c.yml": {"QuantAware": {}, "Architecture": {"Models": {"Student": {"Head": {
        "name": "MultiHead", "head_list": [{"CTCHead": {}}, {"SARHead": {}}]}}}}}},
     ["SARHead runs in training only"]),
    ("clas/train", {"c.yml": {"Global": {"output_dir": "a"}, "QuantAware": {}}},
     ["checkpoints in a", "inference_int8.pdmodel", "add `Slim: {quant: {name: pact}}`"]),
    ("det/train", {"c.yml": {"save_dir": "a", "QuantAware": {}}},
     ["checkpoints below a", "model.mrecg", "add `slim: QAT`"])])
def test_check_looks_ahead_to_the_export(script, files, lines, host, capsys):
    words = ["-o", "Global.save_inference_dir=b"] if script == "ocr/quant" else []
    assert host(script, files, "--check", "-c", "c.yml", *words) == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in lines)
    assert "CTCHead" not in printed


def test_a_script_that_is_not_there(capsys):
    from paddle_mrecg.cli import main as cli
    assert cli.main(["run", "tools/nothing.py"]) == 2
    assert "no script 'tools/nothing.py'" in capsys.readouterr().err


def test_a_recipe_of_autocompression_is_left_to_autocompression(tmp_path):
    """PaddleClas's script takes it with -c; its QuantAware is PaddleSlim's."""
    path = tmp_path / "c.yml"
    path.write_text("Distillation: {}\nQuantAware: {use_pact: true}\nTrainConfig: {epochs: "
                    "1}\nBinRegularization: {}\n")
    _, strategies = examine(CLAS, ["-c", str(path)])
    assert strategies.training is None and not strategies.sources


@pytest.mark.parametrize("call, taken", [("shape, quanter", "config"), ("quanter", "yaml_path"),
                                         ("None, {}, shape, quanter", None)])
def test_an_export_whose_quanter_stands_in_a_wrong_place_is_found(call, taken, tmp_path):
    from paddle_mrecg.hosts.paddleocr import taken_for_quanter
    defined = "def export_single_model(m, a, p, l, yaml_path, config, shape=None, quanter=None): 0"
    for path, text in (("ppocr/utils/export_model.py", defined),
                       ("deploy/slim/quantization/export_model.py",
                        f"export_single_model(m, a, p, l, {call})")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert taken_for_quanter(str(tmp_path)) == taken


def test_the_quanter_reaches_the_exporter_of_2_6():
    from paddle_mrecg.hosts import paddleocr

    class Quanter:
        save_quantized_model = None

    def export_single_model(model, arch, path, logger, input_shape=None, quanter=None):
        return input_shape, quanter
    quanter = Quanter()
    mended = paddleocr._mended(export_single_model)
    assert mended(0, 0, "p", 0, quanter) == (None, quanter)
    assert mended(0, 0, "p", 0, [3, 4], quanter) == ([3, 4], quanter)
    assert mended(0, 0, "p", 0) == (None, None)


def test_efolds_in_a_script_of_another_project_are_refused(tmp_path):
    (tmp_path / "train.py").write_text("", encoding="utf-8")
    path = tmp_path / "c.yml"
    path.write_text("BinRegularization: {efolds: 2}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="read only from scripts of PaddleOCR"):
        examine(str(tmp_path / "train.py"), ["-c", str(path)])
