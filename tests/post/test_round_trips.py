# SPDX-License-Identifier: Apache-2.0
"""A training step never waits for its device: nothing is read back to the host in it.

There is no GPU here. So tensors are told that they are not on the host, which takes every path that
a GPU takes, and every way of reading one is counted.
"""
import numpy as np
import paddle
import pytest

from paddle_mrecg.config import MRECG
from paddle_mrecg.grids.fake_quantize import power_of_two
from paddle_mrecg.post import step_batches

from tests.tiny import tiny_job

READS = ("numpy", "item", "tolist", "__float__", "__int__", "__bool__", "__index__", "__array__")


@pytest.fixture
def reads(monkeypatch):
    """The reads so far, by name, of tensors that claim to be on a device."""
    found = []

    def counted(name, plain):
        def read(self, *args, **kwargs):
            found.append(name)
            return plain(self, *args, **kwargs)
        return read

    tensor = type(paddle.zeros([1]))
    for name in READS:
        monkeypatch.setattr(tensor, name, counted(name, getattr(tensor, name)))
    monkeypatch.setattr(type(paddle.zeros([1]).place), "is_cpu_place", lambda self: False)
    monkeypatch.setattr(step_batches, "device_room", lambda: 1 << 40)
    return found


@pytest.mark.parametrize("settings", [
    dict(keep_prob=1.0, round_weight_relative=30.0),
    dict(keep_prob=0.5, inner_weight=1.0),
    dict(keep_prob=0.5, activation_clip="symmetric_pact")], ids=["fast", "qdrop", "pact"])
@pytest.mark.parametrize("target", ["paddle_lite", "simulation"])
def test_more_steps_read_nothing_more(settings, target, reads):
    """What is read at a unit's start, once at the end of warm-up and at its end may stay."""
    counts = []
    for iters in (10, 20):
        job = tiny_job(target=target, weight_bits=3, activation_bits=4)
        trainer = job.trainer(MRECG(batch_size=8, scale_lr=1e-3, **settings), job.units((0, 2))[0])
        del reads[:]
        trainer.train(iters)
        counts.append(len(reads))
    assert counts[0] == counts[1], f"{counts[1] - counts[0]} reads in ten steps: {set(reads)}"


def test_reads_are_counted(reads):
    float(paddle.ones([1])), paddle.ones([1]).item(), paddle.ones([1]).numpy()
    assert len(reads) >= 3


def test_powers_of_two_are_exact_and_made_on_the_device(reads):
    exponents = np.arange(-140, 140).astype(np.float32)
    powers = power_of_two(paddle.to_tensor(exponents))
    assert not reads
    expected = np.exp2(np.clip(exponents, -126, 127).astype(np.float64)).astype(np.float32)
    assert np.array_equal(np.asarray(powers), expected)
