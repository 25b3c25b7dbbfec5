# SPDX-License-Identifier: Apache-2.0
"""Masks: the right rate, different every time, the same for the same seed."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.config import MRECG
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.post.drop import DropMask, StepMasks, chosen_keep_prob, mix

from tests.tiny import tiny_job


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_rate(keep):
    values = DropMask(keep).draw([300, 400]).numpy()
    assert set(np.unique(values)) <= {0.0, 1.0}
    assert abs(values.mean() - keep) < 0.01


def test_successive_masks_are_independent():
    mask = DropMask(0.5, seed=3)
    draws = [mask.draw([64, 100]).numpy().ravel() for _ in range(20)]
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 0.06  # 4.8 standard deviations of 6400 fair bits


def test_every_element_is_kept_at_the_same_rate():
    mask = DropMask(0.5, pool=10000)
    mean = np.mean([mask.draw([50]).numpy() for _ in range(400)], axis=0)
    assert mean.min() > 0.38 and mean.max() < 0.62


def test_seed_repeats():
    first, second, other = DropMask(0.5, 7), DropMask(0.5, 7), DropMask(0.5, 8)
    for shape in ([10, 20], [7], [10, 20]):
        drawn = first.draw(shape).numpy()
        assert np.array_equal(drawn, second.draw(shape).numpy())
        assert not np.array_equal(drawn, other.draw(shape).numpy())


def test_masks_larger_than_the_pool():
    values = DropMask(0.3, pool=1000).draw([77, 91]).numpy()
    assert values.shape == (77, 91) and abs(values.mean() - 0.3) < 0.05
    assert not np.array_equal(values.ravel()[:1000], values.ravel()[1000:2000])


def test_a_pool_that_grew_keeps_drawing_different_masks():
    mask = DropMask(0.5, pool=1000)
    first, second, small = (mask.draw(shape).numpy().ravel()
                            for shape in ([80, 100], [80, 100], [10]))
    assert 0.4 < np.mean(first == second) < 0.6 and small.size == 10


def test_mix_takes_each_element_from_one_side():
    mask = DropMask(0.25, seed=1)
    a, b = paddle.full([100, 100], 3.0), paddle.full([100, 100], -1.0)
    a.stop_gradient = b.stop_gradient = False
    mixed = mix(a, b, mask.draw(a.shape))
    mixed.sum().backward()
    taken = mixed.numpy() == 3.0
    assert np.array_equal(a.grad.numpy(), taken) and np.array_equal(b.grad.numpy(), ~taken)
    assert abs(taken.mean() - 0.25) < 0.02


@pytest.mark.parametrize("keep", [-0.1, 1.1])
def test_bad_probability(keep):
    with pytest.raises(ConfigError, match="keep_prob"):
        DropMask(keep)


def test_readers_of_one_tensor_share_its_mask_and_steps_do_not():
    source = DropMask(0.5, seed=2)
    masks = StepMasks(source)
    first, again, other = (masks.of(n, [40, 50]).numpy() for n in ("a", "a", "b"))
    assert np.array_equal(first, again)
    assert 0.4 < np.mean(first == other) < 0.6
    assert 0.4 < np.mean(first == StepMasks(source).of("a", [40, 50]).numpy()) < 0.6


@pytest.mark.parametrize("bits, keep_prob, drops", [(4, None, True), (8, None, False),
                                                    (8, 0.5, True), (4, 1.0, False)])
def test_unset_dropping_follows_the_bits_of_the_activations(bits, keep_prob, drops):
    job = tiny_job(weight_bits=2, activation_bits=bits)
    trainer = job.trainer(MRECG(keep_prob=keep_prob), job.units((0, 2))[0])
    assert bool(trainer.drop) == drops and (not drops or trainer.drop.keep_prob == 0.5)


def test_float_activations_are_not_low_bits():
    assert chosen_keep_prob(None, []) == chosen_keep_prob(None, [32, 8]) == 1.0
    assert chosen_keep_prob(None, [8, 4]) == 0.5 and chosen_keep_prob(0.0, [8]) == 0.0
