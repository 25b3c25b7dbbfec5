# SPDX-License-Identifier: Apache-2.0
"""Rows of a layer times its matrix are the layer's output, whatever the op."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.errors import UnsupportedOpError
from paddle_mrecg.graph.graph import WEIGHT_SLOTS, Op, channel_axis
from paddle_mrecg.graph.ops import run_op
from paddle_mrecg.post.layer_rows import (Positions, gram_of, layer_rows, sampled_rows,
                                          solved_positions)
from paddle_mrecg.post.solve import solve
from paddle_mrecg.grids.affine import QuantSpec, dequantize, quantize
from paddle_mrecg.grids.observers import weight_encoding

PLAIN = dict(strides=[1, 1], paddings=[0, 0], dilations=[1, 1], groups=1,
             padding_algorithm="EXPLICIT", data_format="NCHW")
CASES = {  # type, attributes, shape of the input without samples, shape of the weight
    "1x1": ("conv2d", {}, (6, 5, 7), (8, 6, 1, 1)),
    "3x3": ("conv2d", dict(paddings=[1, 1]), (4, 6, 5), (8, 4, 3, 3)),
    "stride and four paddings": ("conv2d", dict(strides=[2, 1], paddings=[0, 1, 2, 0]), (4, 9, 8),
                                 (5, 4, 3, 2)),
    "dilation": ("conv2d", dict(dilations=[2, 3], paddings=[2, 1]), (3, 9, 10), (4, 3, 3, 3)),
    "groups": ("conv2d", dict(groups=3, paddings=[1, 1]), (6, 6, 6), (9, 2, 3, 3)),
    "SAME": ("conv2d", dict(padding_algorithm="SAME", strides=[2, 2], dilations=[2, 2]), (4, 7, 8),
             (5, 4, 3, 3)),
    "VALID": ("conv2d", dict(padding_algorithm="VALID", paddings=[1, 1]), (4, 7, 8), (5, 4, 3, 3)),
    "NHWC": ("conv2d", dict(data_format="NHWC", paddings=[1, 0]), (6, 7, 4), (5, 4, 3, 3)),
    "depthwise": ("depthwise_conv2d", dict(groups=6, paddings=[2, 2], strides=[2, 2]), (6, 8, 8),
                  (6, 1, 5, 5)),
    "depthwise multiplier": ("depthwise_conv2d", dict(groups=3, paddings=[1, 1]), (3, 5, 5),
                             (6, 1, 3, 3)),
    "transpose": ("conv2d_transpose", dict(strides=[2, 2]), (6, 4, 5), (6, 3, 2, 2)),
    "transpose, overlapping": ("conv2d_transpose", dict(strides=[2, 1], paddings=[1, 0, 0, 1],
                                                        dilations=[1, 2]),
                               (4, 5, 6), (4, 5, 4, 3)),
    "transpose, groups": ("conv2d_transpose", dict(strides=[2, 2], groups=2, paddings=[1, 1],
                                                   output_padding=[1, 1]),
                          (4, 4, 4), (4, 3, 3, 3)),
    "transpose, SAME": ("conv2d_transpose", dict(strides=[2, 2], padding_algorithm="SAME"),
                        (4, 5, 5), (4, 3, 3, 3)),
    "mul": ("mul", dict(x_num_col_dims=1, y_num_col_dims=1), (3, 2, 2), (12, 5)),
    "mul of sequences": ("mul", dict(x_num_col_dims=2, y_num_col_dims=1), (7, 6), (6, 5)),
    "matmul": ("matmul", dict(transpose_Y=True, alpha=0.5), (7, 6), (4, 6)),
    "matmul_v2": ("matmul_v2", {}, (6,), (6, 5)),
    "matmul_v2 of 4 axes": ("matmul_v2", dict(trans_y=True), (2, 3, 6), (5, 6)),
}
SAMPLES = 5


def layer(name, seed=0):
    """Op, weight, input and output of a case."""
    kind, attrs, shape, weight_shape = CASES[name]
    rng = np.random.default_rng(seed)
    source, slot, result = WEIGHT_SLOTS[kind]
    attrs = {**PLAIN, **attrs} if "conv" in kind else attrs
    op = Op(kind, {source: ["x"], slot: ["w"]}, {result: ["y"]}, attrs)
    x = rng.standard_normal((SAMPLES,) + shape).astype(np.float32) + np.float32(0.5)
    weight = rng.standard_normal(weight_shape).astype(np.float32)
    return op, weight, x, run(op, weight, x)


def run(op, weight, x):
    return run_op(op, {"x": paddle.to_tensor(x), "w": paddle.to_tensor(weight)})["y"].numpy()


def chunks(x, y, size=2):
    return [(x[k:k + size], y[k:k + size]) for k in range(0, len(x), size)]


@pytest.mark.parametrize("name", CASES)
def test_rows_times_matrix_is_the_output(name):
    op, weight, x, y = layer(name)
    layout = layer_rows(op, weight)
    matrix = layout.matrix(weight)
    assert matrix.shape == (layout.groups, layout.rows, layout.columns)
    assert np.array_equal(layout.weight(matrix), weight)
    seen = 0
    for rows, wanted in sampled_rows(layout, chunks(x, y), SAMPLES, seed=0):
        assert rows.dtype == wanted.dtype == np.float32
        assert np.allclose(rows @ matrix, wanted, atol=1e-4)
        seen += rows.shape[1]
    assert seen == y.size // (layout.groups * layout.columns), "all positions, for there are few"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("per_channel,symmetric", [(True, True), (False, False)])
def test_solved_codes_run_as_predicted(name, per_channel, symmetric):
    """Every op with solved weights and bias has the error that the solve expects."""
    op, weight, x, y = layer(name)
    layout = layer_rows(op, weight)
    spec = QuantSpec(3, symmetric, symmetric, axis=channel_axis(op) if per_channel else None)
    encoding = weight_encoding(weight, spec)
    gram = gram_of(layout, weight, sampled_rows(layout, chunks(x, y), SAMPLES, seed=0))
    solution = solve(gram, layout.grid(encoding), damping=0.01)
    assert np.array_equal(layout.weight(solution.nearest.codes), quantize(weight, encoding))
    result = run(op, dequantize(layout.weight(solution.codes), encoding), x)
    bias = layout.channels(solution.bias)
    last = op.attrs.get("data_format") == "NHWC" or "conv" not in op.type
    result = result + (bias if last else bias[:, None, None])
    error = np.square((result - y) / layout.alpha, dtype=np.float64).sum() / (y.size / bias.size)
    assert np.isclose(error, solution.error.sum(), rtol=1e-3)
    assert error < solution.nearest.error.sum()


def test_a_sample_of_positions_is_drawn_once_and_by_the_seed():
    op, weight, x, y = layer("3x3")
    layout = layer_rows(op, weight)

    def drawn(seed, size):
        rows = [r for r, _ in sampled_rows(layout, chunks(x, y, size), SAMPLES, seed, limit=40)]
        return np.concatenate(rows, axis=1)
    first = drawn(3, 2)
    assert first.shape[1] == 40
    assert np.array_equal(first, drawn(3, 5)), "chunks do not matter"
    assert not np.array_equal(first, drawn(4, 2))
    assert len(np.unique(first[0], axis=0)) == 40, "without replacement"


def test_few_inputs_need_few_positions():
    """A filter of one channel has a system of its own, so that each position costs one per channel.
    """
    assert [solved_positions(d) for d in (9, 25, 48, 64, 1024)] == [8192, 8192, 12288, 16384, 16384]
    op, weight, _, _ = layer("depthwise")
    layout = layer_rows(op, weight)
    drawn = Positions(layout, 100, seed=0).next((100, layout.groups * layout.columns, 10, 10))
    assert sum(len(index) for index in drawn) == solved_positions(layout.rows) == 8192


def test_input_rows_may_be_quantized_on_the_way():
    op, weight, x, y = layer("3x3")
    layout = layer_rows(op, weight)
    rows = sampled_rows(layout, chunks(x, y), SAMPLES, 0)
    coarse = gram_of(layout, weight, rows, quantize=np.rint)
    same = gram_of(layout, weight, sampled_rows(layout, chunks(np.rint(x), y), SAMPLES, 0))
    assert np.allclose(coarse.xx, same.xx) and np.allclose(coarse.xe, same.xe)


def test_rows_that_are_quantized_are_not_scaled_before():
    op, weight, x, y = layer("matmul")
    assert op.attrs["alpha"] == 0.5
    layout = layer_rows(op, weight)
    rows, wanted = next(iter(sampled_rows(layout, [(x, y)], SAMPLES, 0)))
    assert np.array_equal(np.unique(rows), np.unique(x))
    assert np.allclose(wanted, 2 * y.reshape(wanted.shape))


@pytest.mark.parametrize("kind,attrs,shape", [("matmul_v2", dict(trans_x=True), (4, 4)),
                                              ("matmul_v2", {}, (2, 4, 4)),
                                              ("softmax", {}, (4, 4))])
def test_other_ops_are_refused(kind, attrs, shape):
    with pytest.raises(UnsupportedOpError, match=kind):
        op = Op(kind, {"X": ["x"], "Y": ["w"]}, {"Out": ["y"]}, attrs)
        layer_rows(op, np.zeros(shape, np.float32))
