# SPDX-License-Identifier: Apache-2.0
"""What `validate` says about bin regularization in a recipe of AutoCompression."""
import numpy as np
import pytest
import yaml

from paddle_mrecg import load_graph
from paddle_mrecg.cli import main as cli
from paddle_mrecg.slim.act_efolds import efold_lines

STEPS, RATE, LAMBDA = 1000, 0.01, 0.5


def recipe(float_dir, optimizer=None, rate=RATE, **train):
    return {"Global": {"model_dir": float_dir},
            "QuantAware": {"weight_bits": 3, "quantize_op_types": ["conv2d"]},
            "Distillation": {}, "BinRegularization": {"lambda": LAMBDA},
            "TrainConfig": {"train_iter": STEPS, "learning_rate": rate, **train,
                            "optimizer_builder": {"optimizer": optimizer or {"type": "SGD"}}}}


def expected(float_dir):
    """By hand, for plain SGD: 2 lambda rate steps over the mean number of weights of a bin."""
    graph, found = load_graph(float_dir), {}
    for op in graph.ops:
        if op.type == "conv2d":
            weight = graph.params[op.input("Filter")]
            step = np.abs(weight).reshape(len(weight), -1).max(1).reshape(-1, 1, 1, 1) / 3
            bins = len(set(np.round(weight / step).ravel().tolist()))
            found[op.input("Filter")] = 2 * LAMBDA * RATE * STEPS * bins / weight.size
    return found


def predicted(lines):
    return {line.split(" in ")[1].split(" (")[0]: float(line.split(" ")[0])
            for line in lines if " e-folds in " in line}


def test_efolds_are_predicted_layer_by_layer(float_dir):
    wanted = expected(float_dir)
    assert len(wanted) == 2
    found = predicted(efold_lines(recipe(float_dir)))
    assert found == pytest.approx(wanted, rel=0.05)  # two digits are printed
    faster = predicted(efold_lines(recipe(float_dir, {"type": "Momentum", "momentum": 0.9})))
    assert faster == pytest.approx({name: 10 * n for name, n in wanted.items()}, rel=0.06)
    falling = predicted(efold_lines(recipe(float_dir, rate={
        "type": "PiecewiseDecay", "boundaries": [STEPS // 2], "values": [RATE, 0.0]})))
    assert falling == pytest.approx({name: n / 2 for name, n in wanted.items()}, rel=0.06)


def test_a_pull_that_hardly_acts_is_a_warning(float_dir):
    assert "warning" not in efold_lines(recipe(float_dir, train_iter=10 * STEPS))[-1]
    assert "hardly act in 2 of 2 layers" in efold_lines(recipe(float_dir, train_iter=1))[-1]


@pytest.mark.parametrize("change, word", [
    (dict(train_iter=None), "give TrainConfig.train_iter"),
    (dict(optimizer={"type": "Adam"}), "cannot be planned for Adam"),
    (dict(optimizer={"type": "Adamant"}), "no optimizer of TrainConfig")])
def test_what_cannot_be_predicted_says_why(float_dir, change, word):
    line, = efold_lines(recipe(float_dir, **change))
    assert "not predicted" in line and word in line


def test_the_command_line_predicts(float_dir, tmp_path, capsys):
    path = tmp_path / "act.yaml"
    path.write_text(yaml.safe_dump(recipe(str(float_dir))), encoding="utf-8")
    assert cli.main(["validate", str(path)]) == 0
    assert capsys.readouterr().out.count(" e-folds in ") == 2
