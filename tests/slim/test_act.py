# SPDX-License-Identifier: Apache-2.0
"""AutoCompression: our sections in its YAML, with distillation and the rest."""
import copy

import numpy as np
import pytest
import yaml

import paddle
import paddle_mrecg
from paddle_mrecg.compat import old_ir
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.slim.modes import optimizer_ops
from paddle_mrecg.slim.static_bins import PREFIX
from paddle_mrecg.slim.static_pact import PACT_SUFFIX
from paddleslim.auto_compression import AutoCompression
from tests.slim_nets import images

PADDLE_2 = paddle.__version__ < "3"
NAMES = dict(model_filename="model.pdmodel", params_filename="model.pdiparams")
POST = {"Global": {"seed": 0, "visualdl": False},
        "QuantPost": {"weight_bits": 4, "batch_nums": 2, "quantize_op_types": ["conv2d"]},
        "MRECG": {"preset": "fast", "num_iters": 5, "batch_size": 8}}
TRAINING = {"QuantAware": {"weight_bits": 4, "onnx_format": True, "quantize_op_types": ["conv2d"]},
            "Distillation": {"loss": "l2", "alpha": 1.0},
            "TrainConfig": {"epochs": 1, "eval_iter": 100, "learning_rate": 0.01,
                            "optimizer_builder": {"optimizer": {"type": "SGD"}}},
            "BinRegularization": {"lambda": 0.5}, "SymmetricPACT": {"init": "abs_max"}}


def loader():
    for k in range(3):
        yield {"x": images(8, seed=k)}


@pytest.fixture
def dynamic_afterwards():
    """AutoCompression switches to static mode for good."""
    yield
    paddle.disable_static()


def test_mrecg_from_yaml(float_dir, tmp_path, registered):
    path = tmp_path / "act.yaml"
    path.write_text(yaml.safe_dump(POST))
    scores = []

    def evaluate(executor, program, feeds, fetches):
        scores.append(executor.run(program, feed={feeds[0]: images(4)}, fetch_list=fetches)[0])
        return 0.5

    act = AutoCompression(float_dir, loader, **NAMES, save_dir=str(tmp_path / "out"),
                          config=str(path), eval_callback=evaluate)
    result = act.compress()
    # two convolutions: first and last
    assert sorted(w["bits"] for w in result.report.weights.values()) == [8, 8]
    np.testing.assert_allclose(Predictor(str(tmp_path / "out" / "model"))(images(4))[0], scores[0],
                               atol=1e-5)
    assert result.report.samples["calibration"] == 16 and paddle.in_dynamic_mode()


@pytest.mark.skipif(not PADDLE_2, reason="PaddleSlim's AutoCompression cannot train on Paddle 3")
def test_distillation_with_bin_regularization_and_symmetric_pact(float_dir, tmp_path, registered,
                                                                 dynamic_afterwards, monkeypatch):
    monkeypatch.chdir(tmp_path)
    act = AutoCompression(float_dir, loader, **NAMES, save_dir=str(tmp_path / "out"),
                          config=TRAINING)
    seen = []
    original = type(act)._start_train

    def start(self, info, *rest):
        program = getattr(info.program, "_program", None) or info.program
        seen.append(program)
        return original(self, info, *rest)

    monkeypatch.setattr(type(act), "_start_train", start)
    act.compress()
    trained = [op.input("Param")[0] for op in optimizer_ops(seen[0])]
    assert sum(name.endswith(PACT_SUFFIX) for name in trained) == 2
    assert sum(op.input("Grad")[0].startswith(PREFIX) for op in optimizer_ops(seen[0])) == 2
    assert Predictor(str(tmp_path / "out" / "model"))(images(4))[0].shape == (4, 4)


@pytest.mark.skipif(PADDLE_2, reason="it runs on Paddle 2")
def test_training_on_paddle_3_is_one_clear_sentence(float_dir, tmp_path, registered):
    with pytest.raises(ConfigError,
                       match="cannot train on Paddle 3.*use Paddle 2.6.2, or train with"):
        AutoCompression(float_dir, loader, **NAMES, save_dir=str(tmp_path / "out"),
                        config=dict(TRAINING))


@pytest.mark.parametrize("config, message", [
    (dict(POST, QuantPots={}), "QuantPots: unknown section. Did you mean 'QuantPost'?"),
    (dict(POST, MRECG={"topk": 1}), "topk: unknown key. Did you mean 'top_k'?"),
    (dict(POST, Distillation={}), "MRECG: is a post-training strategy"),
    ({"BinRegularization": {}}, "give the sections QuantAware and Distillation too"),
    (dict(TRAINING, SymmetricPACT={"inti": "abs_max"}), "Did you mean 'init'"),
    (dict(TRAINING, QuantAware={"use_pact": True}), "leave one of them out"),
])
def test_mistakes_are_errors(config, message, float_dir, tmp_path, registered):
    with pytest.raises(ConfigError) as caught:
        AutoCompression(float_dir, loader, **NAMES, save_dir=str(tmp_path / "out"), config=config)
    assert message in str(caught.value)


@pytest.mark.host
def test_paddleslim_drops_unknown_sections_silently():
    """The reason for reading our sections before PaddleSlim sees them."""
    from paddleslim.auto_compression.config_helpers import extract_strategy_config
    assert extract_strategy_config({"QuantAwre": {}, "MRECG": {}}) is None


@pytest.mark.host
@pytest.mark.skipif(not PADDLE_2, reason="PaddleSlim's AutoCompression cannot train on Paddle 3")
def test_other_configs_are_bit_identical(float_dir, tmp_path, dynamic_afterwards, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(folder):
        with paddle.utils.unique_name.guard(), paddle.static.scope_guard(paddle.static.Scope()), \
                old_ir():
            config = copy.deepcopy({k: v for k, v in TRAINING.items()
                                    if k not in ("BinRegularization", "SymmetricPACT")})
            AutoCompression(float_dir, loader, **NAMES, save_dir=str(folder),
                            config=config).compress()
        return (folder / "model.pdiparams").read_bytes()

    without = run(tmp_path / "without")
    paddle_mrecg.register()
    try:
        assert run(tmp_path / "with") == without
    finally:
        paddle_mrecg.unregister()


def test_a_missing_argument_is_told_in_paddleslims_words():
    def told():
        with pytest.raises(TypeError) as caught:
            AutoCompression(save_dir="x")
        return str(caught.value)

    without = told()
    paddle_mrecg.register()
    try:
        assert told() == without and "__init__() missing" in without
    finally:
        paddle_mrecg.unregister()
