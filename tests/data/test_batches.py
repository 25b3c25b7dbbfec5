# SPDX-License-Identifier: Apache-2.0
"""Loaders of every kind give the same samples; unfit ones are refused in one sentence."""
import types

import numpy as np
import paddle
import pytest

from paddle_mrecg.config.io import load_config
from paddle_mrecg.data import as_feed, calibration_samples, collect_samples
from paddle_mrecg.errors import DataError
from paddle_mrecg.graph.graph import TensorInfo

ONE = [TensorInfo("x", (-1, 3, 4, 4))]
TWO = ONE + [TensorInfo("scale", (-1, 2))]
X = np.random.RandomState(0).rand(5, 3, 4, 4).astype("float32")
S = np.arange(10, dtype="float32").reshape(5, 2)
LABELS = np.arange(5)


class Images(paddle.io.Dataset):
    def __getitem__(self, k):
        return X[k], LABELS[k]

    def __len__(self):
        return len(X)


ONE_INPUT = {
    "list of arrays": lambda: [X[:2], X[2:]],
    "generator": lambda: (x for x in (X[:2], X[2:])),
    "one array": lambda: X,
    "one dict": lambda: {"x": X},
    "tensors": lambda: [paddle.to_tensor(X[:2]), paddle.to_tensor(X[2:])],
    "lists": lambda: [[X[:2]], [X[2:]]],
    "with labels": lambda: [(X[:2], LABELS[:2]), (X[2:], LABELS[2:])],
    "dicts with more": lambda: [{"label": LABELS, "x": paddle.to_tensor(X)}],
    "float64": lambda: [X.astype("float64")],
    "nested lists": lambda: [[X.tolist()]],
    "reader function": lambda: lambda: iter([X[:2], X[2:]]),
    "DataLoader": lambda: paddle.io.DataLoader(Images(), batch_size=2),
    "dict in a list": lambda: [[{"x": paddle.to_tensor(X)}]],
}


@pytest.mark.parametrize("kind", ONE_INPUT)
def test_all_kinds_of_loaders_are_the_same(kind):
    samples = collect_samples(ONE_INPUT[kind](), ONE, 100)
    assert samples["x"].dtype == np.float32 and np.array_equal(samples["x"], X)


@pytest.mark.parametrize("loader",
                         [[[X, S]], [(paddle.to_tensor(X), S, LABELS)], [{"scale": S, "x": X}],
                          {"x": X, "scale": S}])
def test_several_inputs_by_order_or_by_name(loader):
    samples = collect_samples(loader, TWO, 100)
    assert np.array_equal(samples["x"], X) and np.array_equal(samples["scale"], S)


def test_no_more_is_read_than_needed():
    def endless():
        while True:
            yield X
    assert len(collect_samples(endless(), ONE, 12)["x"]) == 12


def test_integer_inputs_take_integers():
    info = [TensorInfo("ids", (-1, 2), "int64")]
    assert collect_samples([np.ones((1, 2), "int32")], info, 9)["ids"].dtype == np.int64
    with pytest.raises(DataError, match="pass whole numbers"):
        collect_samples([np.ones((1, 2), "float32")], info, 9)


def spoiled(value):
    x = X.copy()
    x[3, 1, 2, 0] = value
    return x


@pytest.mark.parametrize("loader, words", [
    ([], "is empty"),
    (iter(()), "is empty"),
    ([X[:0]], "batch 0 of input 'x' holds no sample"),
    ([X, spoiled(np.nan)], "batch 1 of input 'x' holds NaN or infinity, first in sample 3"),
    ([spoiled(np.inf)], "NaN or infinity"),
    ([spoiled(1.0).astype("float64") * 1e300], "NaN or infinity, first in sample 0"),
    ([np.array(["a"])], r"is <U1 of shape \(1,\): numbers with samples along the first axis"),
    ([np.float32(1)], r"is float32 of shape \(\): numbers with samples along the first axis"),
    ([X[:, :, :3]], r"has shape \[5, 3, 3, 4\], the model wants \[N, 3, 4, 4\]"),
    ([X.transpose(0, 2, 3, 1)], "check layout"),
    ([X[0]], r"has shape \[3, 4, 4\]"),
    ([(X * 255).astype("uint8")], "is uint8, the model wants float32: scale and normalise"),
    ([np.array([None])], "cannot be made one array"),
    ([[[[1.0], [1.0, 2.0]]]], "cannot be made one array"),
    ([{"image": X}], "a batch has image, the model's inputs are x"),
    (5, "data_loader is an int"),
    ("images", "data_loader is a str"),
    (None, "data_loader is a NoneType"),
])
def test_unfit_data_is_refused(loader, words):
    with pytest.raises(DataError, match=words):
        collect_samples(loader, ONE, 100)


def test_too_few_inputs_and_unequal_ones():
    with pytest.raises(DataError, match=r"has 1 value, the model has 2 inputs \(x, scale\)"):
        collect_samples([X], TWO, 100)
    with pytest.raises(DataError, match=r"inputs of \[4, 5\] samples"):
        collect_samples([[X, S[:4]]], TWO, 100)


def test_free_sizes_must_agree():
    free = [TensorInfo("x", (-1, 3, -1, -1))]
    with pytest.raises(DataError, match=r"sample 5 .* \[3, 2, 4\], the first one \[3, 4, 4\]"):
        collect_samples([X, X[:, :, :2]], free, 100)


def test_feeds_keep_only_the_inputs():
    assert list(as_feed({"a": 1.0, "x": X}, ["x"])) == ["x"]


GRAPH = types.SimpleNamespace(inputs=["x"], tensors={"x": ONE[0]})


def test_too_few_calibration_samples_for_a_step():
    config = load_config({"MRECG": {"batch_size": 6}})
    with pytest.raises(DataError,
                       match="5 calibration samples are too few: .* MRECG.batch_size = 6; let the "
                             "loader yield more, raise"):
        calibration_samples(GRAPH, [X], config)
    config.mrecg.num_iters = 0  # nothing is trained: any number will do
    assert len(calibration_samples(GRAPH, [X], config)["x"]) == 5


def test_num_samples_limits_calibration():
    config = load_config({"MRECG": {"batch_size": 2}, "Data": {"num_samples": 3}})
    assert np.array_equal(calibration_samples(GRAPH, [X], config)["x"], X[:3])
