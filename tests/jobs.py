# SPDX-License-Identifier: Apache-2.0
"""Small whole jobs on the tiny network: settings, data, and the model as files."""
import os

import pytest

from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.post.job import quant_post_mrecg

from .tiny import tiny_graph, tiny_samples

PROGRAM = ("model.pdmodel", "model.pdiparams")
BITS = dict(weight_bits=3, first_layer_weight_bits=3)
TRAINING = dict(num_iters=20, batch_size=16, rounding_lr=0.1, round_weight_relative=3.0)


def settings(sections=None, **mrecg):
    """Sections of a job that takes a second."""
    base = dict(Global=dict(visualdl=False), QuantPost=dict(BITS), MRECG=dict(TRAINING, **mrecg))
    for name, values in (sections or {}).items():
        base.setdefault(name, {}).update(values)
    return base


def batches(count=48):
    return [{"image": tiny_samples(count)["image"][k:k + 16]} for k in range(0, count, 16)]


def content(folder, names=PROGRAM + ("encodings.json",)):
    """The bytes of the files that must not depend on time or place."""
    result = []
    for name in names:
        with open(os.path.join(str(folder), name), "rb") as file:
            result.append(file.read())
    return result


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """The tiny graph as an exported model."""
    folder = tmp_path_factory.mktemp("float")
    save_program(tiny_graph(), str(folder / "inference"))
    return str(folder)


@pytest.fixture(scope="module")
def reference(model_dir, tmp_path_factory):
    """Bytes of a run with joined units and QDrop."""
    folder = str(tmp_path_factory.mktemp("reference") / "out")
    quant_post_mrecg(model_dir, batches(), settings(), folder)
    return content(folder)
