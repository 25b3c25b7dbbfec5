# SPDX-License-Identifier: Apache-2.0
"""PaddleSlim's post-training settings in our words."""
import inspect

import pytest

from paddle_mrecg.config.io import load_config
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.slim.post_static import PLACES, READERS
from paddle_mrecg.config.dialect.post import POST, accept_ptq_config, our_keywords, post_sections
from paddleslim.auto_compression.strategy_config import QuantPost
from paddleslim.quant.quanter import quant_post_static
from paddleslim.quant.reconstruction_quantization import quant_recon_static


@pytest.mark.host
@pytest.mark.parametrize("function", [quant_post_static, quant_recon_static])
def test_every_argument_of_paddleslim_has_a_translation(function):
    names = set(inspect.signature(getattr(function, "__wrapped__", function)).parameters)
    assert (names - set(POST) - set(PLACES) - set(READERS) == {"round_type"} & names
            | {"recon_level"} & names)


@pytest.mark.host
def test_every_key_of_acts_section_has_a_translation():
    names = set(inspect.signature(QuantPost.__init__).parameters) - {"self"}
    assert names - set(POST) - set(READERS) <= {"recon_level", "skip_tensor_list"}


def test_no_keyword_of_ours_means_two_things():
    ours = our_keywords()
    assert not set(ours) & (set(PLACES) | set(READERS))
    for name in set(ours) & set(POST):
        assert (POST[name].section, POST[name].key) == ours[name]
    assert ({("MRECG", "batch_size"), ("MRECG", "top_k"), ("QuantPost", "skip"),
             ("Global", "target")} <= set(ours.values()))


def test_values():
    sections = post_sections(dict(algo="hist", hist_percent=0.999, weight_quantize_type="abs_max",
                                  drop_prob=0.25, lr=0.1,
                                  weight_bits=4, mrecg_batch_size=32, optimize_model=True))
    assert sections == dict(QuantPost=dict(activation_observer="percentile", percentile=0.999,
                                           weight_per_channel=False,
                                           weight_bits=4),
                            MRECG=dict(keep_prob=0.75, rounding_lr=0.1, batch_size=32))


def test_a_config_dict_of_paddleslim_is_accepted_next_to_sections():
    config = load_config(accept_ptq_config({"weight_bits": 4, "quantize_op_types": ["conv2d"],
                                            "window_size": 10000,
                                            "MRECG": {"preset": "fast"}}))
    assert (config.quant_post.weight_bits == 4
            and config.quant_post.quantizable_op_type == ["conv2d"])
    assert config.mrecg.num_iters == 60


@pytest.mark.parametrize("config", [None, {}, {"MRECG": {}}, "file.yaml"])
def test_everything_else_passes_unchanged(config):
    assert accept_ptq_config(config) is config


def test_mistakes():
    with pytest.raises(ConfigError) as caught:
        accept_ptq_config({"weight_bits": 4, "activation_bit": 8, "algo": "kl",
                           "QuantPost": {"weight_bits": 3}})
    assert caught.value.problems == [
        "weight_bits: QuantPost.weight_bits is given too and differs; keep one",
        "activation_bit: unknown key. Did you mean 'activation_bits'?",
        "algo: must be one of KL, hist, mse, abs_max, min_max; got 'kl'. Did you mean 'KL'?"]
