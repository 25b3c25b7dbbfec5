# SPDX-License-Identifier: Apache-2.0
"""Training data and networks by name."""
import json

import numpy as np
import pytest
from PIL import Image

import paddle
from demo import sources
from demo.classification import cifar10
from demo.classification.training import data, networks
from paddle_mrecg.errors import ConfigError, DataError


def test_digits_come_along():
    sets = data.load("digits")
    assert (len(sets.train), len(sets.test), sets.num_classes) == (1437, 360, 10)
    assert sets.train.images.shape[1:] == (3, 32, 32) and sets.train.images.max() == 255
    assert not sets.view.mirror and set(sets.test.labels) == set(range(10))


def test_cifar_is_read_in_the_order_of_its_sheets(tmp_path):
    for number, name in enumerate(["test_batch", *(f"data_batch_{k}" for k in range(1, 6))]):
        Image.fromarray(np.full((2, 1024, 3), number, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "test_lables.json").write_text(json.dumps([0, 1]))
    (tmp_path / "train_lables.json").write_text(json.dumps(list(range(10))))
    sets = data.load("cifar10", str(tmp_path), num_train=5)
    images, labels = sets.train.take(np.arange(5))
    assert images[:, 0, 0, 0].tolist() == [1, 1, 2, 2, 3] and labels.tolist() == [0, 1, 2, 3, 4]
    assert len(sets.train) == 5 and sets.test.images.max() == 0
    with pytest.raises(DataError, match="10 training images"):
        data.load("cifar10", str(tmp_path), num_train=11)
    data._cifar10.cache_clear()


def test_absent_data_says_how_to_get_it(tmp_path):
    with pytest.raises(sources.Absent, match="cifar10.py"):
        data.load("cifar10", str(tmp_path))
    with pytest.raises(DataError, match="train/ and val/"):
        data.load(str(tmp_path / "nothing"))


@pytest.fixture
def folder(tmp_path):
    """Two classes of one colour each, of different sizes."""
    for part in ("train", "val"):
        for number, name in enumerate(("dark", "light")):
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(2):
                Image.new("RGB", (40 + 10 * k, 60),
                          (100 * number,) * 3).save(tmp_path / part / name / f"{k}.png")
    return tmp_path


def test_folders_are_classes(folder):
    sets = data.load(str(folder), image_size=28)
    images, labels = sets.train.take([0, 1, 2, 3])
    assert images.shape == (4, 3, 32, 32) and images.dtype == np.uint8
    assert labels.tolist() == [0, 0, 1, 1] and images[:, 0, 0, 0].tolist() == [0, 0, 100, 100]
    (folder / "val" / "light").rename(folder / "val" / "bright")
    with pytest.raises(DataError, match="same class folders"):
        data.load(str(folder))


def test_a_damaged_image_is_named(folder):
    (folder / "train" / "dark" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="0.png"):
        data.load(str(folder), image_size=28).train.take([0])


def test_the_sampler_draws_each_image_once_and_shares_them_out():
    for epoch in (0, 1):
        drawn = []
        for rank in (0, 1):
            sampler = data.EpochSampler(20, 4, seed=5, epoch_images=18, share=(rank, 2))
            sampler.set_epoch(epoch)
            assert len(list(sampler)) == len(sampler) == 2
            drawn.append([i for batch in sampler for i in batch])
        assert len(set(drawn[0] + drawn[1])) == 16
    other = data.EpochSampler(20, 4, seed=5, epoch_images=18)
    assert list(other) != (other.set_epoch(1), list(other))[1]


def test_the_sampler_for_scores_leaves_nothing_out():
    shares = [[i for batch in data.EpochSampler(7, 2, share=(rank, 2)) for i in batch]
              for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(7))
    with pytest.raises(DataError, match="lower --batch_size"):
        data.EpochSampler(7, 8, seed=0)


def test_random_cuts_are_shifts_and_mirrors():
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (64, 3, 4, 4)).astype(np.uint8)
    kinds = set()
    for image, cut in zip(images, data.varied(images, data.View(4, 1, mirror=True), rng)):
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
        kinds |= {(y, x, mirror) for y in range(3) for x in range(3) for mirror in (1, -1)
                  if np.array_equal(padded[:, y:y + 4, x:x + 4][:, :, ::mirror], cut)}
    assert len(kinds) == 18  # three rows, three columns, mirrored or not: all occur
    middle = data.varied(images, data.View(4, 0, mirror=False), rng)
    assert np.array_equal(middle, images)


def test_pixels_are_normalised_as_the_evaluation_does():
    images = np.arange(2 * 3 * 16, dtype=np.uint8).reshape(2, 3, 4, 4)
    view = data.View(32, 4, True)
    assert np.allclose(data.normalise(images, view), cifar10.normalise(images), atol=1e-6)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_do_not_depend_on_workers(num_workers):
    sets = data.load("digits")
    sampler = data.EpochSampler(len(sets.train), 16, seed=1, epoch_images=64)
    expected = [data.Collate(sets.train, sets.view, sampler, seed=1)(batch) for batch in sampler]
    loaded = list(data.batches(sets.train, sets.view, sampler, 1, num_workers))
    assert all(np.array_equal(e[0], g[0].numpy()) and np.array_equal(e[1], g[1].numpy())
               for e, g in zip(expected, loaded))


def test_networks_of_paddle_and_ours_by_name():
    assert ({"resnet18", "mobilenet_v2", "cifar_mobilenet_v2", "cifar_resnet20"}
            <= set(networks.names()))
    with pytest.raises(ConfigError, match="mobilenet_v2"):
        networks.build("mobilnet_v2", 10)
    with pytest.raises(ConfigError, match="no scale"):
        networks.build("resnet18", 10, scale=0.5)


@pytest.mark.parametrize("name", ["cifar_mobilenet_v2", "cifar_mobilenet_v3_small"])
def test_mobile_networks_are_paddles_with_two_halvings_less(name):
    paddle.seed(0)
    network = networks.build(name, 7, scale=0.25)
    original = networks.build(name.replace("cifar_", ""), 7, scale=0.25)
    assert ({n: t.shape for n, t in network.state_dict().items()}
            == {n: t.shape for n, t in original.state_dict().items()})
    halvings = [[layer for layer in net.sublayers()
                 if isinstance(layer, paddle.nn.Conv2D) and layer._stride[0] == 2]
                for net in (network, original)]
    assert len(halvings[0]) == len(halvings[1]) - 2
    deepest = max((layer for layer in network.sublayers()
                   if isinstance(layer, paddle.nn.Conv2D) and layer._groups > 1),
                  key=lambda layer: layer._groups)
    assert (deepest.weight.numpy().std()
            == pytest.approx((2.0 / np.prod(deepest.weight.shape[1:])) ** 0.5, rel=0.1))
    network.eval()
    assert network(paddle.zeros([1, 3, 32, 32])).shape == [1, 7]
