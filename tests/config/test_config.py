# SPDX-License-Identifier: Apache-2.0
"""Configs: every mistake is named, all at once, with its cure; YAML, dict
and dataclass are the same.
"""
import dataclasses

import pytest
import yaml

from paddle_mrecg.config import MRECG, PRESETS, Config, Global, QuantPost
from paddle_mrecg.config.docs import markdown_tables, text_tables
from paddle_mrecg.config.io import (config_to_dict, load_any_config, load_config,
                                    missing_for_command, save_config)
from paddle_mrecg.config.schema import all_settings
from paddle_mrecg.config.aware import (BinRegularization, Dampening, Freezing,
                                       SymmetricPACTSettings,
                                       TrainingConfig)
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.slim.act_recipe import is_recipe, load_recipe

SIMULATION = {"target": "simulation"}


def problems_of(source=None, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return caught.value.problems


@pytest.mark.parametrize("source, words", [
    # names
    ({"MRCEG": {}}, ["MRCEG", "unknown section", "Did you mean 'MRECG'?"]),
    ({"MRECG": {"topk": 1}}, ["MRECG.topk", "unknown key", "Did you mean 'top_k'?"]),
    ({"Global": {"num_iters": 1}}, ["Global.num_iters", "belongs in section MRECG"]),
    ({"QuantPost": {"overrides": [{"patern": "x", "weight_bits": 4}]}},
     ["overrides[0].patern", "Did you mean 'pattern'?"]),
    ({"QuantPost": {"overrides": [{"name": "x", "weight_bits": 4}]}},
     ["overrides[0].name", "unknown key. There are pattern, weight_bits, activation_bits."]),
    ({"QuantPost": {"round_type": "round"}},
     ["unknown key. PaddleSlim's 'round_type' is QuantPost.rounding here."]),
    ({"QuantPost": {"algo": "KL"}}, ["PaddleSlim's 'algo' is QuantPost.activation_observer here."]),
    ({"QuantPost": {"epochs": 3}}, ["is not needed here: reconstruction counts optimizer steps"]),
    ({"QuantPost": {"window_size": 3}}, ["is not needed here: read by PaddleSlim only while"]),
    # types
    ({"MRECG": {"num_iters": "many"}}, ["must be a whole number, got 'many'"]),
    ({"MRECG": {"num_iters": 2.5}}, ["must be a whole number, got 2.5"]),
    ({"MRECG": {"num_iters": True}}, ["must be a whole number, got True"]),
    ({"MRECG": {"num_iters": None}}, ["must be a whole number or left out, got nothing"]),
    ({"MRECG": {"rounding_lr": float("nan")}}, ["must be a number"]),
    ({"MRECG": {"warm_start": "yes please"}}, ["must be true or false"]),
    ({"MRECG": ["a"]}, ["MRECG", "must be a mapping"]),
    ({"Data": {"mean": 0.5}}, ["must be a list"]),
    ({"Data": {"mean": [1, "a", 2]}}, ["Data.mean[1]", "must be a number"]),
    ({"Data": {"loader": "a:b", "loader_args": [1]}}, ["must be a mapping"]),
    ({"Global": {"save_dir": 3}}, ["must be text"]),
    ({"Global": {"save_dir": "a\0b"}}, ["must be text, got 'a\\x00b'"]),
    ({"Data": {"input_shape": [3, 2]}}, ["at least 3 entries"]),
    # ranges
    ({"QuantPost": {"weight_bits": 16}}, ["between 2 and 8, got 16"]),
    ({"MRECG": {"batch_size": 0}}, ["at least 1, got 0"]),
    ({"MRECG": {"granularity": "blok"}}, ["one of layer, block", "Did you mean 'block'?"]),
    ({"MRECG": {"preset": "quick"}}, ["one of adaround"]),
    ({"QuantPost": {"quantizable_op_type": ["conv3d"]}},
     ["quantizable_op_type[0]", "Did you mean 'conv2d'?"]),
    ({"QuantPost": {"quantizable_op_type": []}}, ["is empty"]),
    ({"QuantPost": {"activation_bits": 16}}, ["2 to 8, or 32"]),
    ({"Data": {"std": [1, 0, 1]}}, ["above 0"]),
    # what the target cannot run: the reason and the cure
    ({"QuantPost": {"activation_bits": 4}},
     ["clip at ±127", "would not be enforced", "Global.target: simulation"]),
    ({"QuantPost": {"last_layer_activation_bits": 4}}, ["last_layer_activation_bits", "±127"]),
    ({"QuantPost": {"overrides": [{"pattern": "x", "activation_bits": 4}]}},
     ["overrides[0].activation_bits", "±127"]),
    ({"QuantPost": {"weight_symmetric": False}},
     ["no zero point for weights", "Global.target: simulation"]),
    ({"QuantPost": {"activation_symmetric": False}},
     ["no zero point for activations", "Global.target: simulation"]),
    # contradictions
    ({"MRECG": {"granularity": "explicit"}}, ["MRECG.units", "needs the list of units"]),
    ({"MRECG": {"granularity": "explicit", "units": [[0, 1], [3, 3]]}},
     ["units[1]", "must start at module 2"]),
    ({"MRECG": {"granularity": "explicit", "units": [[0, 1], [1, 2]]}},
     ["units[1]", "must start at module 2"]),
    ({"MRECG": {"granularity": "explicit", "units": [[1, 0]]}}, ["[first module, last module]"]),
    ({"MRECG": {"beta_start": 2, "beta_end": 4}}, ["MRECG.beta_end", "must not exceed"]),
    ({"MRECG": {"granularity": "loss", "peak_partner": "predecessor"}},
     ["read only by loss_peaks"]),
    ({"MRECG": {"activation_clip": "symmetric_pact", "scale_lr": 0}}, ["would never learn"]),
    ({"Data": {"image_dir": "a", "loader": "m:f"}}, ["image_dir or loader, not both"]),
    ({"Data": {"layout": "GRAY", "mean": [0.5]}}, ["Data.std", "needs 1 value for layout GRAY"]),
    ({"Data": {"input_shape": [1, 8, 8]}}, ["1 channels, layout RGB has 3"]),
    ({"Evaluation": {"data": {}, "evaluator": "m:f"}}, ["not both"]),
    ({"Data": {"loader": "module.function"}}, ["must be module:function"]),
    ({"Evaluation": {"evaluator": "m:f()"}}, ["must be module:function"]),
    ({"QuantPost": {"overrides": [{"pattern": "x"}]}}, ["changes nothing"]),
    ({"QuantPost": {"overrides": [{"weight_bits": 4}]}}, ["needs a pattern"]),
    # settings without effect
    ({"MRECG": {"granularity": "block", "top_k": 3}},
     ["MRECG.top_k", "has no effect", "modcap and loss"]),
    ({"MRECG": {"stride_factor": 2}}, ["has no effect", "modcap"]),
    ({"MRECG": {"units": [[0, 1]]}}, ["has no effect", "explicit"]),
    ({"MRECG": {"preset": "qdrop", "first_pass_ratio": 0.5}},
     ["has no effect with MRECG.granularity block"]),
    ({"QuantPost": {"percentile": 0.99}}, ["has no effect", "observer 'percentile'"]),
    ({"Data": {"loader": "m:f", "crop": "pad"}}, ["Data.crop", "has no effect with loader"]),
    ({"Data": {"loader_args": {"a": 1}}}, ["has no effect without loader"]),
    ({"Data": {"crop": "pad", "resize_short": 8}}, ["resize_short", "has no effect with crop pad"]),
    ({"Evaluation": {"data": {"pad_value": 1.0}}}, ["Evaluation.data.pad_value", "has no effect"]),
    ({"Evaluation": {"evaluator_args": {"a": 1}}}, ["has no effect without Evaluation.evaluator"]),
    ({"Evaluation": {"label_offset": 1}}, ["has no effect without Evaluation.data"]),
    ({"Data": {"mirror": True}}, ["has no effect with views 1"]),
    ({"MRECG": {"preset": "fast", "round_weight": 0.1}},
     ["MRECG.round_weight", "set round_weight_relative to 0"]),
    ({"MRECG": {"preset": "fast", "warm_up": 0.0}},
     ["MRECG.warm_up", "measures gradients during warm-up"]),
    ({"Evaluation": {"data": {"image_dir": "x", "views": 2}}},
     ["is for calibration only; set Data.views"]),
])
def test_one_mistake_gives_one_problem_that_names_it(source, words):
    problems = problems_of(source)
    assert len(problems) == 1, problems
    for word in words:
        assert word in problems[0]


def test_all_mistakes_come_at_once_with_their_lines(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("Globl: {}\nMRECG:\n  granularity: block\n  top_k: 5\n  num_iters: x\n  "
                    "num_iters: 3\nQuantPost:\n  activation_bits: 4\n", encoding="utf-8")
    problems = problems_of(path, ["MRECG.sed=1", "seed"])
    assert len(problems) == 6
    for words in (("Globl", "line 1"), ("MRECG.top_k", "line 4"),
                  ("MRECG.num_iters", "given twice, in lines 5 and 6"),
                  ("QuantPost.activation_bits", "line 8"), ("MRECG.sed (command line)",),
                  ("seed (command line): an override is",)):
        assert any(all(w in p for w in words) for p in problems), (words, problems)


@pytest.mark.parametrize("word, start", [
    ("Global", "Global (command line): an override is Section.key=value, e.g. "
     "MRECG.num_iters=100."),
    ("Globl", "Globl (command line): an override is Section.key=value, e.g. MRECG.num_iters=100. "
     "Did you mean 'Global'?"),
    ("QuantPost.overrides=[{pattern:", "QuantPost.overrides (command line): value '[{pattern:' is "
     "not valid YAML"),
    ("QuantPost.overrides=[{patern: a, weight_bits: 4}]",
     "QuantPost.overrides[0].patern (command line): unknown key"),
    ("QuantPost.weight_bits.a=3", "QuantPost.weight_bits.a (command line): QuantPost.weight_bits "
     "is not a mapping")])
def test_mistakes_of_the_command_line_are_not_blamed_on_the_file(tmp_path, word, start):
    path = tmp_path / "c.yaml"
    path.write_text("Global: {seed: 1}\nQuantPost:\n  weight_bits: 4\n  overrides:\n"
                    "  - {patern: a, weight_bits: 4}\n", encoding="utf-8")
    found = [p for p in problems_of(path, [word]) if "line 5" not in p]
    assert len(found) == 1 and found[0].startswith(start)
    assert found[0].endswith("100.") == (word == "Global")


def test_a_bad_value_hides_no_other_problem_and_causes_none():
    problems = problems_of({"MRECG": {"granularity": "blok", "top_k": 3},
                            "Global": {"target": "lite"}, "QuantPost":
                            {"activation_bits": 4}})
    assert [p.split(":")[0] for p in problems] == ["Global.target", "MRECG.granularity"]


@pytest.mark.parametrize("text, words", [
    ("MRECG: [1", ["line 1", "not valid YAML"]),
    ("- a\n- b\n", ["must hold the sections"]),
    ("MRECG: !!python/object/apply:os.getcwd []\n", ["not valid YAML"]),
])
def test_a_file_that_is_not_a_config(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    for word in words:
        assert word in problems_of(str(path))[0]


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    assert "No such file" in problems_of(str(tmp_path / "absent.yaml"))[0]
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8 text" in problems_of(str(tmp_path / "b.yaml"))[0]
    assert "a config is a YAML file" in problems_of([1])[0]


def test_an_empty_file_and_empty_sections_are_the_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("MRECG:\n", encoding="utf-8")
    assert load_config(path) == load_config() == load_config({}) == Config()


def test_numbers_that_yaml_reads_as_text():
    mrecg = load_config(yaml.safe_load("MRECG: {rounding_lr: 1e-3, "
                                       "num_iters: 2e4, beta_end: 3}")).mrecg
    assert (mrecg.rounding_lr, mrecg.num_iters, mrecg.beta_end) == (1e-3, 20000, 3.0)
    assert isinstance(mrecg.num_iters, int) and isinstance(mrecg.beta_end, float)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_starts_and_explicit_keys_win(preset):
    config = load_config({"MRECG": {"preset": preset, "batch_size": 7}})
    expected = dict({f.name: getattr(MRECG(), f.name) for f in dataclasses.fields(MRECG)},
                    **PRESETS[preset])
    assert dataclasses.asdict(config.mrecg) == dict(expected, preset=preset, batch_size=7)
    assert config.mrecg == MRECG(preset=preset, batch_size=7)


@pytest.mark.parametrize("source", [
    {},
    {"MRECG": {"preset": "adaround", "granularity": "modcap", "top_k": 2, "rounding_lr": 1e-5}},
    {"Global": SIMULATION,
     "QuantPost": {"activation_bits": 2, "overrides": [{"pattern": "é*", "weight_bits": 3}]},
     "Evaluation": {"data": {"image_dir": "x", "label_file": "y"}, "label_offset": 1}},
    {"Data": {"loader": "a.b:c", "loader_args": {"n": [1, {"k": None}]}}},
])
@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_saved_config_loads_as_an_equal_one(tmp_path, source, preset):
    source = dict(source,
                  MRECG=dict(source.get("MRECG", {}), **({"preset": preset} if preset else {})))
    config = load_config(source)
    save_config(config, tmp_path / "c.yaml")
    assert (load_config(tmp_path / "c.yaml") == config == load_config(config_to_dict(config))
            == load_config(config))


def test_dataclasses_are_checked_and_copied():
    config = Config(global_=Global(target="simulation"), quant_post=QuantPost(activation_bits=4),
                    mrecg=MRECG(preset="fast"))
    loaded = load_config(config)
    assert loaded == config and loaded is not config and loaded.mrecg is not config.mrecg
    assert (loaded
            == load_config({"Global": SIMULATION, "QuantPost": {"activation_bits": 4},
                            "MRECG": {"preset": "fast"}}))
    config.quant_post.weight_bits = 40
    assert "between 2 and 8" in problems_of(config)[0]


def test_the_source_is_not_changed():
    source = {"MRECG": {"num_iters": 3}}
    load_config(source, ["MRECG.num_iters=4", "Data.num_samples=9"])
    assert source == {"MRECG": {"num_iters": 3}}


def test_overrides_win_and_reach_nested_values():
    config = load_config({"MRECG": {"num_iters": 3}},
                         ["MRECG.num_iters=4", "Evaluation.data.num_samples=5", "Data.loader=m:f",
                          "Data.loader_args.seed=7",
                          "QuantPost.skip=[a, 'b*']", "MRECG.rounding_lr=1e-2"])
    assert (config.mrecg.num_iters, config.evaluation.data.num_samples, config.data.loader_args,
            config.quant_post.skip,
            config.mrecg.rounding_lr) == (4, 5, {"seed": 7}, ["a", "b*"], 0.01)


@pytest.mark.parametrize("override, words", [
    ("num_iters=3", ["Section.key=value"]),
    ("MRECG.num_iters", ["Section.key=value"]),
    ("MRECG.num_iters=[1", ["not valid YAML"]),
    ("MRECG.num_iters.x=1", ["is not a mapping"]),
    ("MRCEG.num_iters=1", ["unknown section"]),
])
def test_bad_overrides(override, words):
    problem = problems_of({"MRECG": {"num_iters": 3}}, [override])[0]
    assert all(w in problem for w in words)


def test_a_preset_that_cannot_take_effect_any_more_is_refused():
    resolved = config_to_dict(load_config({}))
    assert "changes nothing" in problems_of(resolved, ["MRECG.preset=fast"])[0]
    assert "changes nothing" in problems_of(load_config({}), ["MRECG.preset=fast"])[0]
    assert load_config({"MRECG": {"num_iters": 7}}, ["MRECG.preset=fast"]).mrecg.batch_size == 32


def test_every_shipped_config_loads(repository):
    paths = sorted((repository / "configs").rglob("*.yaml"))
    assert paths, "no config found"
    for path in paths:
        recipe = is_recipe(yaml.safe_load(path.read_text(encoding="utf-8")))
        (load_recipe if recipe else load_any_config)(str(path))


def test_what_the_command_line_still_needs():
    assert [
        p.split(":")[0]
        for p in missing_for_command(load_config({"Evaluation": {"data": {"image_dir": "x"}}}))
    ] == ["Global.model_dir", "Data", "Evaluation.data.label_file"]
    assert not missing_for_command(load_config({"Global": {"model_dir": "m"},
                                                "Data": {"loader": "a:b"}}))


def test_tables_show_every_setting_with_its_default():
    rows = all_settings()
    markdown, text = markdown_tables(), text_tables()
    for row in rows:
        assert row.doc and f"| `{row.key}` | {row.type} |" in markdown and f"  {row.key}: " in text
    training = TrainingConfig(bin_regularization=BinRegularization(), dampening=Dampening(),
                              freezing=Freezing(),
                              symmetric_pact=SymmetricPACTSettings())
    assert (len(rows) == sum(len(v) for config in (Config(), training)
                             for v in config_to_dict(config).values()))
    assert "| `weight_bits` | int | `4` | 2 to 8 |" in markdown
    assert all(f"| `{name}` |" in markdown for name in PRESETS)
