# SPDX-License-Identifier: Apache-2.0
"""The training loop: what is resumed equals what ran through, bit for bit; seeds, averages and
schedules do what they say.
"""
import numpy as np
import pytest

import paddle
from demo.classification.training import checkpoint, loop, networks
from demo.classification.training.data import DataSets, ImageArrays, View, calibration
from demo.classification.training.ema import WeightAverage
from demo.classification.training.schedule import Recipe, learning_rate
from paddle_mrecg.errors import ConfigError, DataError, ModelError, OutputError
from paddle_mrecg.aware.job import quant_aware_prepare

W2A2 = dict(QuantAware=dict(target="simulation", weight_bits=2, activation_bits=2),
            BinRegularization=dict(schedule="S2"))

FROZEN = dict(QuantAware=dict(target="simulation", weight_bits=2, activation_bits=8),
              Freezing=dict(threshold=0.02, end=0.02, momentum=0.015))


def images(count, seed):
    """Two classes that a mean tells apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return ImageArrays((rng.integers(0, 156, (count, 3, 8, 8))
                        + 100 * labels[:, None, None, None]).astype(np.uint8), labels)


DATA = DataSets(images(48, 0), images(24, 1), 2, View(8, 1, mirror=True))


def network():
    """With everything that has a state: batch norm, and dropout's generator."""
    return paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3, padding=1), paddle.nn.BatchNorm2D(4),
                                paddle.nn.ReLU(),
                                paddle.nn.Conv2D(4, 4, 3, padding=1),
                                paddle.nn.AdaptiveAvgPool2D(1), paddle.nn.Flatten(),
                                paddle.nn.Dropout(0.3), paddle.nn.Linear(4, 2))


def trainer(save_dir=None, config=None, watch=None, **settings):
    recipe = Recipe(**dict(dict(epochs=3, batch_size=8, lr=0.05), **settings))
    with networks.same_names():
        paddle.seed(recipe.seed)
        model, penalty = network(), None
        if config is not None:
            model, penalty = quant_aware_prepare(model, config, calibration=calibration(DATA))
        return loop.Trainer(model, DATA, recipe, penalty, str(save_dir) if save_dir else None,
                            watch)


def weights(run):
    return {name: tensor.numpy() for name, tensor in run.network.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def scores(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


class Killed(Exception):
    """Stands for a kill: nothing of the loop catches it."""


@pytest.mark.parametrize("config", [None, W2A2, FROZEN], ids=["float", "bins", "freezing"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, config):
    settings = dict(config=config, warmup_epochs=1, label_smoothing=0.1, ema_decay=0.9,
                    epoch_images=40)
    whole = trainer(tmp_path / "whole", **settings)
    whole.fit(visualdl=False)
    epochs = []

    def killed_in_the_last_epoch(_):
        epochs.append(1)
        if len(epochs) == 3:
            raise Killed
        return {}
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", watch=killed_in_the_last_epoch, **settings).fit(visualdl=False)
    paddle.seed(99)  # a new process has another state of the generator
    rest = trainer(tmp_path / "cut", **settings)
    rest.fit(resume=True, visualdl=False)
    assert equal(weights(whole), weights(rest))
    assert scores(whole.rows) == scores(rest.rows) and whole.best == rest.best
    assert (tmp_path / "cut" / loop.CURVES).read_text().count('"epoch"') == 3


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = trainer(tmp_path)
    first.fit(visualdl=False)
    again = trainer(tmp_path)
    again.fit(resume=True, visualdl=False)
    assert equal(weights(first), weights(again))


def test_seeds_decide_everything():
    runs = [trainer(seed=seed, epochs=1) for seed in (3, 3, 4)]
    rows = [scores(run.fit()) for run in runs]
    assert equal(weights(runs[0]), weights(runs[1])) and rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_it_learns_and_keeps_the_best_weights(tmp_path):
    run = trainer(tmp_path, epochs=8, lr=0.1)
    rows = run.fit(visualdl=False)
    assert rows[-1]["train_top1"] > 80 and run.best == max(row["test_top1"] for row in rows) > 80
    other = trainer()
    checkpoint.load_weights(other.network, tmp_path / loop.BEST)
    assert other.evaluate() == run.best


def test_an_existing_run_is_neither_overwritten_nor_mixed_with_another(tmp_path):
    trainer(tmp_path, epochs=1).fit(visualdl=False)
    with pytest.raises(OutputError, match="--resume"):
        trainer(tmp_path, epochs=1).fit()
    with pytest.raises(ConfigError, match="lr was 0.05, is 0.1"):
        trainer(tmp_path, epochs=1, lr=0.1).fit(resume=True)


def test_divergence_is_said_with_its_cure():
    with pytest.raises(ModelError, match="lower --lr"):
        trainer(lr=1e30).fit()


def test_the_watch_goes_into_the_rows_and_the_last_epoch_scores_all_images():
    seen = []
    run = trainer(watch=lambda _: dict(extra=7.0), epochs=2, epoch_test_images=4)
    run.evaluate = lambda limit=None: seen.append(limit) or 50.0
    assert [row["extra"] for row in run.fit()] == [7.0, 7.0]
    assert seen == [4, None]


def test_evaluate_counts_every_image_once():
    run = trainer()
    run.network = lambda x: paddle.to_tensor(np.tile([1.0, 0.0],
                                                     (x.shape[0], 1)).astype(np.float32))
    assert run.evaluate() == pytest.approx(50.0)


def test_learning_rate_rises_to_its_peak_and_falls_to_nought():
    rate, rates = learning_rate(Recipe(epochs=4, lr=0.2, warmup_epochs=1), epoch_steps=10), []
    for _ in range(40):
        rates.append(rate.get_lr())
        rate.step()
    assert (rates[:3] == pytest.approx([0.0, 0.02, 0.04])
            and max(rates) == pytest.approx(0.2) == pytest.approx(rates[10]))
    assert rates[25] == pytest.approx(0.1) and rate.get_lr() == pytest.approx(0.0, abs=1e-9)


def test_recipes_name_every_mistake_at_once():
    with pytest.raises(ConfigError) as error:
        Recipe(epochs=0, lr=-1.0)
    assert {p.split()[0] for p in error.value.problems} >= {"epochs", "lr"}


def test_average_of_weights():
    layer = paddle.nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(np.zeros([1, 1], np.float32))
    average = WeightAverage(layer, 0.5)
    # young averages forget faster
    for value, expected in ((1.0, 9 / 11), (2.0, 3 / 12 * 9 / 11 + 9 / 12 * 2.0)):
        layer.weight.set_value(np.full([1, 1], value, np.float32))
        average.update()
        with average.applied():
            assert layer.weight.item() == pytest.approx(expected)
        assert layer.weight.item() == value


def test_foreign_checkpoints_are_refused(tmp_path):
    (tmp_path / "text.pdparams").write_text("not a checkpoint")
    with pytest.raises(DataError, match="cannot be read"):
        checkpoint.load(tmp_path / "text.pdparams")
    with pytest.raises(DataError, match="does not exist"):
        checkpoint.load(tmp_path / "absent.pdparams")
    checkpoint.save(paddle.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pdparams")
    with pytest.raises(DataError, match="of another network"):
        checkpoint.load_weights(network(), tmp_path / "linear.pdparams")
