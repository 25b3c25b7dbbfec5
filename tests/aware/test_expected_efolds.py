# SPDX-License-Identifier: Apache-2.0
"""What `validate` says about bin regularization before the user's own training."""
import numpy as np
import paddle
import pytest
import yaml
from paddle import nn

from paddle_mrecg import quant_aware_prepare
from paddle_mrecg.cli import main as cli

SETTINGS = {"QuantAware": {"weight_bits": 3}, "BinRegularization": {"lambda": 0.5}}
STEPS, RATE = 1000, 0.01


@pytest.fixture
def network():
    paddle.seed(0)
    return nn.Sequential(nn.Conv2D(3, 8, 3), nn.ReLU(), nn.Conv2D(8, 8, 3), nn.ReLU(),
                         nn.Flatten(), nn.Linear(8 * 16, 4))


@pytest.fixture
def validate(network, tmp_path, capsys):
    """Words of the command line behind the file -> exit code, and what was printed."""
    network.eval()
    paddle.jit.save(network, str(tmp_path / "model"),
                    input_spec=[paddle.static.InputSpec([None, 3, 8, 8], "float32")])

    def run(*words, settings=SETTINGS, place=str(tmp_path)):
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        words = [place if word == "HERE" else str(word) for word in words]
        return cli.main(["validate", str(path), *words]), capsys.readouterr()
    return run


def predicted(text):
    """e-folds by the number of weights, which tells the layers apart."""
    return {int(line.split("(")[1].split()[0]): float(line.split()[0])
            for line in text.splitlines() if " e-folds in " in line}


def test_the_command_line_predicts_what_the_training_will_log(validate, network):
    plan = ("--float_model", "HERE", "--train_iter", STEPS, "--learning_rate", RATE)
    code, printed = validate(*plan)
    assert code == 0
    network.train()
    model, penalty = quant_aware_prepare(network, SETTINGS, calibration=[np.float32(
        np.random.default_rng(0).normal(size=(4, 3, 8, 8)))])
    penalty.plan(paddle.optimizer.Momentum(RATE, 0.9, model.parameters()), STEPS)
    penalty.on_epoch(STEPS - 1, STEPS)  # predictions are those of the steps made so far
    logged = {row["weights"]: row["predicted_efolds"] for row in penalty.statistics()}
    assert len(logged) == 3
    assert predicted(printed.out) == pytest.approx(logged, rel=0.06)  # two digits are printed
    slower = predicted(validate(*plan, "--momentum", 0)[1].out)
    assert slower == pytest.approx({count: n / 10 for count, n in logged.items()}, rel=0.07)


def test_a_wanted_number_is_met_and_a_weak_pull_is_a_warning(validate):
    plan = ("--float_model", "HERE", "--learning_rate", RATE, "--train_iter")
    wanted = dict(SETTINGS, BinRegularization={"efolds": 2.0, "schedule": "S1"})
    assert set(predicted(validate(*plan, STEPS, settings=wanted)[1].out).values()) == {2.0}
    assert "hardly act in 3 of 3 layers" in validate(*plan, 1)[1].out


@pytest.mark.parametrize("words, settings, said", [
    (["--train_iter", 5], SETTINGS, "without --float_model and --learning_rate"),
    (["--float_model", "HERE", "--train_iter", 5, "--learning_rate", 1],
     {"QuantPost": {"weight_bits": 4}}, "settings of post-training"),
    (["--float_model", "HERE", "--train_iter", 5, "--learning_rate", 1],
     {"QuantAware": {}}, "add the section BinRegularization"),
    (["--float_model", "HERE", "--train_iter", 5, "--learning_rate", -1], SETTINGS,
     "must be positive"),
    (["--float_model", "HERE", "--train_iter", 0, "--learning_rate", 1], SETTINGS,
     "must be at least 1"),
    (["--float_model", "HERE", "--train_iter", 5, "--learning_rate", 1],
     dict(SETTINGS, BinRegularization={"schedule": "S3"}), "schedule S1, and for S2"),
])
def test_what_cannot_be_predicted_is_one_sentence(validate, words, settings, said):
    code, printed = validate(*words, settings=settings)
    assert code == 2 and said in printed.err and "Traceback" not in printed.err
