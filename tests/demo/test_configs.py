# SPDX-License-Identifier: Apache-2.0
"""Every shipped config is valid, says how it is run, and is named after what it holds."""
import importlib
import re
from pathlib import Path

import pytest
import yaml

from demo.slim.act import read_recipe
from paddle_mrecg.config.io import load_config, load_training_config
from paddle_mrecg.slim.act_recipe import is_recipe

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SECTIONS = {p: yaml.safe_load(p.read_text(encoding="utf-8")) for p in CONFIGS}
ACT = [p for p in CONFIGS if is_recipe(SECTIONS[p])]
TRAINING = [p for p in CONFIGS if "QuantAware" in SECTIONS[p] and p not in ACT]
POST = [p for p in CONFIGS if p not in (*TRAINING, *ACT)]


def test_there_are_configs():
    assert (
        len(POST) >= 8
        and len(TRAINING) >= 8
        and ACT == sorted((ROOT / "configs" / "slim").glob("*.yaml")) != []
    )


@pytest.mark.parametrize("path", ACT, ids=lambda p: p.stem)
def test_recipe_of_autocompression_is_valid_and_named_after_what_it_does(path):
    recipe = read_recipe(str(path))
    strategy, weight_bits, activation_bits = re.search(
        r"_act_(mrecg|bin_reg_pact)_w(\d)a(\d)$", path.stem
    ).groups()
    quantization = recipe["QuantPost" if strategy == "mrecg" else "QuantAware"]
    assert (quantization["weight_bits"], quantization["activation_bits"]) == (
        int(weight_bits),
        int(activation_bits),
    )
    assert ("MRECG" in recipe) == (strategy == "mrecg")
    assert ({"Distillation", "BinRegularization", "SymmetricPACT"} <= set(recipe)) == (
        strategy == "bin_reg_pact"
    )
    assert list(recipe)[0] == "Global"


@pytest.mark.parametrize("path", TRAINING, ids=lambda p: p.stem)
def test_training_config_is_valid_and_named_after_what_it_does(path):
    config = load_training_config(path)
    strategy, weight_bits, activation_bits = re.search(
        r"_(lsq|bin_reg_pact|bin_reg|pact)_w(\d)a(\d)$", path.stem
    ).groups()
    assert (config.quant_aware.weight_bits, config.quant_aware.activation_bits) == (
        int(weight_bits),
        int(activation_bits),
    )
    assert config.quant_aware.target == ("paddle_lite" if activation_bits == "8" else "simulation")
    assert (config.bin_regularization is not None) == ("bin_reg" in strategy)
    assert (config.quant_aware.activation_quanter == "symmetric_pact") == ("pact" in strategy)


@pytest.mark.parametrize("path", POST, ids=lambda p: p.stem)
def test_config_is_valid_and_named_after_its_bits(path):
    config = load_config(path)
    weight_bits, activation_bits = re.search(r"_w(\d)a(\d+)$", path.stem).groups()
    assert config.quant_post.weight_bits == int(weight_bits)
    assert config.quant_post.activation_bits == int(activation_bits)
    assert config.global_.target == ("paddle_lite" if activation_bits == "8" else "simulation")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_header_names_its_own_file_an_existing_script_and_a_result(path):
    header = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))[0]
    assert str(path.relative_to(ROOT)) in header
    usage = header.split("# result:")[0]  # what stands behind it is written by update_results.py
    script, = re.findall(r"python (demo/(?!sources)\S+\.py)", usage)
    assert (ROOT / script).exists()
    assert re.search(r"^# result: \S+", header, re.MULTILINE)


@pytest.mark.parametrize("path", [*POST, *ACT], ids=lambda p: p.stem)
def test_hooks_of_the_config_exist(path):
    if path in ACT:
        hooks = [SECTIONS[path]["Global"][key] for key in ("loader", "evaluator")]
    else:
        config = load_config(path)
        hooks = filter(None, (config.data.loader, config.evaluation.evaluator))
    for hook in hooks:
        module, _, name = hook.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
