# SPDX-License-Identifier: Apache-2.0
"""Settings of quant-aware training: loading, mistakes, conflicts, and what unset ones mean."""
import pytest

from paddle_mrecg.cli.main import main
from paddle_mrecg.config import Config
from paddle_mrecg.config.io import config_to_dict, load_any_config, load_training_config
from paddle_mrecg.config.aware import resolved
from paddle_mrecg.errors import ConfigError


def problems_of(source, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_training_config(source, overrides)
    return caught.value.problems


def test_defaults_and_optional_sections():
    config = load_training_config()
    assert config.bin_regularization is None and config.symmetric_pact is None
    settings = resolved(config.quant_aware)
    assert (settings.weight_quanter, settings.activation_quanter) == ("lsq", "lsq")
    assert (settings.first_layer_weight_bits, settings.last_layer_activation_bits) == (8, 8)
    assert settings.bias_bits is None and not settings.fold_batch_norm
    # an empty section is given
    assert load_training_config({"BinRegularization": None}).bin_regularization.lambda_ == 0.5


def test_hardware_friendly_decides_what_is_unset():
    source = {"QuantAware": {"hardware_friendly": True, "weight_bits": 3, "activation_bits": 4,
                             "target": "simulation"}}
    settings = resolved(load_training_config(source).quant_aware)
    assert (settings.weight_quanter, settings.activation_quanter) == ("tqt", "tqt")
    assert (settings.first_layer_weight_bits, settings.last_layer_activation_bits) == (3, 4)
    assert ((settings.bias_bits, settings.fold_batch_norm, settings.quantize_additions)
            == (8, True, True))


def test_a_saved_config_loads_again(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("QuantAware: {weight_bits: 2, overrides: [{pattern: 'fc', weight_bits: 8}]}\n"
                    "BinRegularization: {lambda: 0.1}\n", encoding="utf-8")
    config = load_training_config(str(path), ["QuantAware.scale_lr=0.5"])
    assert config.quant_aware.scale_lr == 0.5 and config.bin_regularization.lambda_ == 0.1
    assert load_training_config(config_to_dict(config)) == config == load_training_config(config)


SIMULATION = {"target": "simulation"}


@pytest.mark.parametrize("source, words", [
    ({"QuantAwre": {}}, ["unknown section", "Did you mean 'QuantAware'?"]),
    ({"QuantAware": {"weigth_bits": 3}}, ["QuantAware.weigth_bits", "Did you mean 'weight_bits'?"]),
    ({"QuantAware": {"fuse_conv_bn": True}},
     ["PaddleSlim's 'fuse_conv_bn' is QuantAware.fold_batch_norm here."]),
    ({"QuantAware": {"decay": 0.1}}, ["belongs in section SymmetricPACT"]),
    ({"QuantAware": {"weight_quanter": "lsqq"}}, ["Did you mean 'lsq'?"]),
    ({"QuantAware": {"weight_bits": 1}}, ["between 2 and 8"]),
    ({"QuantAware": {"activation_bits": 4}}, ["Paddle Lite", "target: simulation"]),
    ({"QuantAware": {"activation_bits": 16}}, ["32 for float"]),
    ({"QuantAware": {"quantizable_layer_type": ["Conv3D"]}}, ["Did you mean 'Conv2D'?"]),
    ({"QuantAware": {"overrides": [{"pattern": "a"}]}}, ["changes nothing"]),
    ({"QuantAware": {"activation_quanter": "lsq_plus"}},
     ["offset", "no zero point", "activation_offset: false"]),
    ({"QuantAware": dict(SIMULATION, activation_quanter="lsq_plus", activation_init="lsq")},
     ["no offset to start from"]),
    ({"QuantAware": {"activation_offset": False}}, ["activation_offset", "has no effect"]),
    ({"QuantAware": {"weight_quanter": "abs_max", "activation_quanter": "lsq",
                     "weight_init": "lsq"}}, ["has no effect"]),
    ({"QuantAware": {"activation_quanter": "symmetric_pact", "activation_init": "lsq"}},
     ["has no effect"]),
    ({"QuantAware": {"weight_quanter": "abs_max", "scale_lr": 0.1}}, ["scale_lr", "neither"]),
    ({"QuantAware": {"hardware_friendly": True, "weight_quanter": "lsq",
                     "activation_quanter": "tqt"}}, ["power-of-two"]),
    ({"QuantAware": {"hardware_friendly": True, "fold_batch_norm": False}},
     ["contradicts hardware_friendly"]),
    ({"SymmetricPACT": {}, "QuantAware": {"activation_quanter": "lsq"}},
     ["has no effect with activation_quanter lsq"]),
    ({"QuantAware": {"activation_quanter": "symmetric_pact"}, "SymmetricPACT": {"percentile": 0.9}},
     ["init: percentile"]),
    ({"QuantAware": {"fold_batch_norm": True}, "BinRegularization": {"schedule": "S3"}},
     ["S3", "fold_batch_norm: false"]),
    ({"BinRegularization": {"schedule": "S1", "start": 30}},
     ["start", "has no effect with schedule S1"]),
])
def test_one_mistake_gives_one_problem_that_names_it(source, words):
    problems = problems_of(source)
    assert len(problems) == 1, problems
    for word in words:
        assert word in problems[0]


def test_the_command_line_tells_the_jobs_apart_by_their_sections(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("QuantAware: {weight_bits: 3}\n", encoding="utf-8")
    assert main(["validate", str(path), "--resolved", str(tmp_path / "all.yaml")]) == 0
    assert load_any_config(str(tmp_path / "all.yaml")) == load_training_config(str(path))
    assert main(["validate", str(path), "QuantAware.wieght_bits=3"]) == 2
    assert "Did you mean 'weight_bits'?" in capsys.readouterr().err
    assert isinstance(load_any_config({"QuantPost": {"weight_bits": 3}}), Config)


def test_all_mistakes_come_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("QuantAware:\n  weight_bits: 9\nSymetricPACT: "
                    "{}\nBinRegularization: {lamda: 1}\n", encoding="utf-8")
    problems = problems_of(str(path))
    assert len(problems) == 3
    for words in (("weight_bits", "line 2"), ("SymetricPACT", "line 3"),
                  ("lamda", "line 4", "'lambda'")):
        assert any(all(w in p for w in words) for p in problems), (words, problems)


def test_the_section_of_symmetric_pact_is_its_switch():
    assert (load_training_config({"SymmetricPACT": None}).quant_aware.activation_quanter
            == "symmetric_pact")
    assert load_training_config({}).quant_aware.activation_quanter is None


@pytest.mark.parametrize("bits, init", [(8, "abs_max"), (4, "percentile"), (2, "percentile")])
def test_where_clips_start_depends_on_the_bits(bits, init):
    sections = {"QuantAware": {"activation_bits": bits, "activation_quanter": "symmetric_pact",
                               "target": "simulation"}}
    assert load_training_config(sections).symmetric_pact.init == init
    assert (load_training_config({**sections,
                                  "SymmetricPACT": {"init": "abs_max"}}).symmetric_pact.init
            == "abs_max")
