# SPDX-License-Identifier: Apache-2.0
"""Recipes of AutoCompression: told apart from our own configs, every mistake at once, the same
check on the command line.
"""
import pytest
import yaml

from paddle_mrecg.cli import main as cli
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.slim.act_recipe import (ACT_SECTIONS, ACT_OURS, is_recipe, load_recipe,
                                          post_arguments, training_keys)
from paddleslim.auto_compression import strategy_config

POST = {"Global": {"model_dir": "float", "seed": 3},
        "QuantPost": {"weight_bits": 4, "quantize_op_types": ["conv2d"]},
        "MRECG": {"preset": "fast"}}
TRAINING = {"QuantAware": {"weight_bits": 4}, "Distillation": None, "SymmetricPACT": None,
            "BinRegularization": {"lambda": 0.5},
            "TrainConfig": {"epochs": 1, "eval_iter": 10}}


def problems_of(source, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_recipe(source, overrides)
    return caught.value.problems


@pytest.fixture
def written(tmp_path):
    """A function that writes a recipe and returns its path."""
    def write(text):
        path = tmp_path / "act.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text), encoding="utf-8")
        return str(path)
    return write


@pytest.mark.host
def test_every_section_of_paddleslim_is_known():
    assert {*ACT_SECTIONS} == {*strategy_config.SUPPORTED_CONFIG, strategy_config.TRAIN_CONFIG_NAME}
    assert not set(ACT_OURS) & set(ACT_SECTIONS)


@pytest.mark.parametrize("sections, expected", [
    (POST, True), (TRAINING, True), ({"QuantPost": {"batch_nums": 4}, "MRECG": {}}, True),
    ({"Distillation": {}}, True),
    ({"QuantPost": {"weight_bits": 4}, "MRECG": {}}, False),
    (dict(POST, Data={"image_dir": "x"}), False),
    ({"QuantAware": {}, "BinRegularization": {}}, False), ({}, False),
    ({"QuantPost": ["batch_nums"]}, False),
])
def test_recipes_are_told_from_configs_of_our_own_jobs(sections, expected):
    assert is_recipe(sections) is expected


def test_what_autocompression_is_given():
    sections = load_recipe(POST,
                           ["MRECG.num_iters=7", "MRECG.batch_size=8", "QuantPost.batch_nums=2"])
    assert post_arguments(sections) == ({"batch_nums": 2}, dict(
        weight_bits=4, quantize_op_types=["conv2d"], preset="fast", num_iters=7, mrecg_batch_size=8,
        seed=3))
    sections = load_recipe(TRAINING)
    assert sections["Distillation"] == {} and TRAINING["Distillation"] is None
    assert training_keys(sections) == dict(activation_preprocess_type="SymmetricPACT",
                                           symmetric_pact={},
                                           bin_regularization={"lambda": 0.5})


def test_sections_of_the_script_around_it_pass():
    """PaddleOCR and PaddleClas hand over their whole file, data and metrics included, and
    read TrainConfig themselves.
    """
    theirs = {"Train": {"dataset": {}}, "Eval": {}, "PostProcess": {"name": "x"}, "Metric": {},
              "DataLoader": {}}
    assert (load_recipe({**POST, **theirs, "TrainConfig": {"learning_rate": 0.1}})["Train"]
            == {"dataset": {}})
    assert set(load_recipe({**TRAINING, **theirs})) == {*TRAINING, *theirs}


@pytest.mark.parametrize("source, words", [
    ({**TRAINING, "mrecg": {}}, ["mrecg: unknown section", "'MRECG'"]),
    (dict(POST, MRCEG={}), ["MRCEG: unknown section", "'MRECG'"]),
    (dict(POST, MRECG={"topk": 1}), ["MRECG.topk: unknown key", "'top_k'"]),
    (dict(POST, MRECG={"num_iters": -1}), ["MRECG.num_iters: must be at least 0"]),
    (dict(POST, MRECG={"weight_bits": 4}), ["MRECG.weight_bits: unknown key"]),
    (dict(POST, MRECG=[4]), ["MRECG: must be a mapping of keys, got a list"]),
    (dict(POST, QuantPost={"quantize_op_type": ["conv2d"]}),
     ["QuantPost.quantize_op_type: unknown key", "'quantize_op_types'"]),
    (dict(POST, QuantPost={"algo": "kl"}), ["QuantPost.algo: must be one of", "'KL'"]),
    (dict(POST, QuantPost={"epochs": 20}), ["QuantPost.epochs:", "set num_iters"]),
    (dict(POST, QuantPost={"activation_bits": 4}),
     ["QuantPost.activation_bits", "Global.target: simulation"]),
    (dict(POST, QuantPost={"recon_level": "layer-wise"}),
     ["QuantPost.recon_level: is another reconstruction"]),
    (dict(POST, Global={"sed": 1}), ["Global.sed", "'seed'"]),
    (dict(POST, Global={"seed": "one"}), ["Global.seed: must be a whole number"]),
    (dict(POST, Distillation={}), ["MRECG: is a post-training strategy", "Distillation"]),
    (dict(POST, HyperParameterOptimization={}),
     ["MRECG: is a post-training strategy", "HyperParameterOptimization"]),
    (dict(TRAINING, QuantAware={"weigth_bits": 4}),
     ["QuantAware.weigth_bits: unknown key", "'weight_bits'"]),
    (dict(TRAINING, TrainConfig={"epoch": 1}), ["TrainConfig.epoch: unknown key", "'epochs'"]),
    (dict(TRAINING, ChannelPrune={}), ["ChannelPrune.pruned_ratio: is needed"]),
    (dict(TRAINING, BinRegularization={"lamda": 1}),
     ["BinRegularization.lamda: unknown key", "'lambda'"]),
    (dict(TRAINING, BinRegularization={"schedule": "S2"}),
     ["BinRegularization: a static program knows no epochs"]),
    (dict(TRAINING, QuantPost={}, HyperParameterOptimization={}),
     ["PaddleSlim does not train next to"]),
    ({"BinRegularization": {}, "TrainConfig": {}}, ["BinRegularization: act while training"]),
])
def test_one_mistake_gives_one_problem_that_names_it(source, words):
    problems = problems_of(source)
    assert len(problems) == 1, problems
    assert all(word in problems[0] for word in words), problems


def test_all_mistakes_come_at_once_with_their_lines(written):
    path = written("Global: {sed: 0}\nQuantPost:\n  weight_bit: 4\n  algo: kl\nMRECG:\n  "
                   "num_iters: many\n  topk: 1\nMRCEG:\n")
    problems = problems_of(path)
    assert len(problems) == 6
    for words in (("sed", "line 1"), ("weight_bit", "line 3"), ("algo", "line 4"),
                  ("num_iters", "line 6"), ("topk", "line 7"),
                  ("MRCEG", "line 8")):
        assert any(all(word in problem for word in words) for problem in problems), (
            (words, problems))


def test_keys_of_the_users_script_pass_through():
    known = dict(input_name="x", batch_size=32, data_dir="images", model_filename="a.pdmodel",
                 reader_config="r.yml", img_size=224)
    assert load_recipe(dict(POST, Global=known))["Global"] == known


@pytest.mark.parametrize("sections",
                         [POST, TRAINING, {"QuantAware": {"use_pact": True}, "Distillation": {}}],
                         ids=["MRECG", "training", "PaddleSlim's own"])
def test_the_command_line_validates_recipes(sections, written, capsys):
    assert cli.main(["validate", written(sections)]) == 0
    assert "valid, for PaddleSlim's AutoCompression" in capsys.readouterr().out
    assert cli.main(["validate", written(dict(sections, Distilation={}))]) == 2
    assert "Did you mean 'Distillation'?" in capsys.readouterr().err


def test_a_recipe_without_a_mark_of_its_own_is_named_one(written, capsys):
    path = written({"QuantPost": {"weight_bits": 4}, "MRECG": {}, "Global": {"data_dir": "x"}})
    assert cli.main(["validate", path]) == 2 and "Global.data_dir" in capsys.readouterr().err
    assert cli.main(["validate", "--act", path]) == 0
    assert (cli.main(["validate", "--act", path, "MRECG.topk=1"]) == 2
            and "'top_k'" in capsys.readouterr().err)
    assert (cli.main(["validate", "--act", path, "--resolved", path + ".all"]) == 2
            and "leave it out" in capsys.readouterr().err)
