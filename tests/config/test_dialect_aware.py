# SPDX-License-Identifier: Apache-2.0
"""PaddleSlim's training settings in our words."""
import pytest

from paddle_mrecg.config.io import load_training_config
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.aware.job import quant_aware_prepare
from paddle_mrecg.config.dialect.aware import (AWARE, accept_qat_config, dict_names_ours,
                                               training_sections)
from paddle_mrecg.aware.layers import quantized_layers
from paddleslim.dygraph.quant import qat

from tests.slim_nets import TinyNet


@pytest.mark.host
def test_every_key_of_paddleslim_has_a_translation():
    assert set(qat._quant_config_default) == set(AWARE)


@pytest.mark.host
def test_no_value_of_ours_is_one_of_paddleslims():
    assert not dict_names_ours(qat._quant_config_default)
    for name in qat.WEIGHT_QUANTIZATION_TYPES:
        assert not dict_names_ours({"weight_quantize_type": name, "activation_quantize_type": name})
    assert (qat.BUILT_IN_PREPROCESS_TYPES == ["PACT"]
            and not dict_names_ours({"activation_preprocess_type": "PACT"}))


def test_paddleslims_defaults_hold_where_nothing_is_given():
    config = load_training_config(training_sections({"bin_regularization": {}})).quant_aware
    assert (config.weight_bits, config.activation_bits) == (8, 8)
    assert ((config.weight_quanter, config.weight_per_channel, config.activation_quanter)
            == ("abs_max", True, "abs_max"))
    assert config.quantizable_layer_type == ["Conv2D", "Linear"]


def test_our_keys_stand_next_to_paddleslims():
    config = load_training_config(training_sections(dict(
        weight_quantize_type="lsq", weight_bits=2, activation_bits=4, target="simulation",
        skip=["fc"],
        activation_preprocess_type="SymmetricPACT", bin_regularization={"lambda": 0.1},
        symmetric_pact={"decay": 0.0})))
    assert (config.quant_aware.target, config.quant_aware.skip,
            config.quant_aware.weight_per_channel) == (
        "simulation", ["fc"], False)
    assert config.quant_aware.activation_quanter == "symmetric_pact"
    assert (config.bin_regularization.lambda_, config.symmetric_pact.decay) == (0.1, 0.0)


def test_quant_aware_prepare_takes_paddleslims_dict():
    config = dict(qat._quant_config_default, weight_bits=4, activation_preprocess_type="PACT",
                  moving_rate=0.9)
    model, penalty = quant_aware_prepare(TinyNet(), config)
    kinds = {(type(layer.weight_quanter).__name__, type(layer.activation_quanter).__name__)
             for _, layer in quantized_layers(model)}
    assert kinds == {("AbsMaxQuanter", "SymmetricPACTQuanter")}
    assert sorted(layer.weight_quanter.bits for _, layer in quantized_layers(model)) == [4, 8, 8]


def test_all_mistakes_come_at_once():
    with pytest.raises(ConfigError) as caught:
        accept_qat_config({"weight_bit": 4, "dtype": "uint8", "weight_preprocess_type": "PACT"})
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("config", [None, {}, {"QuantAware": {}}, "file.yaml"])
def test_everything_else_passes_unchanged(config):
    assert accept_qat_config(config) is config
