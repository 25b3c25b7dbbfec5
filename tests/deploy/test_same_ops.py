# SPDX-License-Identifier: Apache-2.0
"""What Paddle Lite knows under another name or reads another way is written as it understands it;
what it cannot read is refused before a file that computes something else is written.
"""
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddle_mrecg.deploy.check.runtimes import run_lite
from paddle_mrecg.deploy.lite.convert import convert
from paddle_mrecg.deploy.lite.ops import lite_note, missing_ops
from paddle_mrecg.deploy.forms import expand_by_shape, wrong_forms
from paddle_mrecg.deploy.lite.same_ops import merge_reduced_axes, rename_ops
from paddle_mrecg.deploy.rewrites import turn_paddings
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.load import load_graph

from tests.lite import lite_tools

X = np.random.RandomState(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
AMOUNTS = [1, 2, 3, 0]  # left, right, top, bottom
NAMES = {
    "silu": F.silu,
    "bmm": lambda y: paddle.bmm(y.flatten(2), y.flatten(2).transpose([0, 2, 1])),
    "channel_shuffle": lambda y: F.channel_shuffle(y, 4),
    "brelu": lambda y: F.hardtanh(y, -0.5, 1.5),
}
PADDINGS = {
    "constant": lambda y: F.pad(y, AMOUNTS),
    "value": lambda y: F.pad(y, AMOUNTS, value=0.5),
    "square": lambda y: F.pad(y, [1, 2, 1, 2], value=0.5),
    **{mode: lambda y, mode=mode: F.pad(y, AMOUNTS, mode) for mode in
       ("reflect", "replicate", "circular")},
}
UNBOUND = {
    "unbind": lambda y: y.transpose([1, 0, 2, 3]).unbind(0)[2],
    "unbind behind": lambda y: paddle.concat(y.reshape([0, 2, 4, 6, 6]).unbind(-3)[::-1], 1),
    "query, key, value": lambda y: _attention(
        y.reshape([0, 2, 4, 36]).transpose([1, 0, 3, 2]).unbind(0)),
}
POWERS = {f"power {k}": lambda y, k=k: paddle.pow(F.relu(y) if k < 1 else y, k)
          for k in (0.5, 2.0, 3.0)}
REDUCED = {
    "groups": lambda y: y.reshape([0, 2, 4, 6, 6]).sum(1),
    "pixels": lambda y: y.reshape([0, 2, 4, 6, 6]).mean([3, 4], keepdim=True),
    "last": lambda y: y.reshape([0, 2, 4, 6, 6]).max(-1),
}
EXPANDED = {"expand_as": lambda y: y.mean(1, keepdim=True).expand_as(y)}
BARE = {"layer norm": lambda y: F.layer_norm(y, [6, 6])}
ALL = {**NAMES, **EXPANDED, **BARE, **PADDINGS, **UNBOUND, **POWERS, **REDUCED}


def _attention(parts):
    query, key = parts
    return paddle.matmul(F.softmax(paddle.matmul(query, key, transpose_y=True), -1), key)


class Ahead(paddle.nn.Layer):
    """A function behind a convolution."""

    def __init__(self, function, layout="NCHW"):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 8, 3, data_format=layout)
        self.function = function

    def forward(self, x):
        return self.function(self.conv(x))


def exported(layer, folder, shape=(None, 3, 8, 8)):
    layer.eval()
    paddle.jit.save(layer, str(folder / "net"),
                    input_spec=[paddle.static.InputSpec(list(shape), "float32", "x")])
    return load_graph(str(folder / "net"))


@pytest.mark.parametrize("name", ALL)
def test_lite_computes_what_paddle_computes(name, tmp_path):
    tools = lite_tools()
    layer = Ahead(ALL[name])
    graph = exported(layer, tmp_path)
    assert lite_note(graph) == [] and convert(graph, tools, "arm").data
    ran = run_lite(graph, {"x": X})
    assert not ran.failure
    found, = ran.outputs.values()
    np.testing.assert_allclose(found, layer(paddle.to_tensor(X)).numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_ops_are_renamed_and_not_missed(name, tmp_path):
    graph = exported(Ahead(NAMES[name]), tmp_path)
    assert name in {op.type for op in graph.ops} and not missing_ops(graph, "arm")
    changed = graph.copy()
    assert f"1 op written otherwise: {name} as " in rename_ops(changed)
    assert name not in {op.type for op in changed.ops} and not rename_ops(changed)


@pytest.mark.parametrize("mode, amounts", [
    ("constant", [[3, 0, 1, 2, 0, 0]]), ("reflect", [[3, 0, 1, 2, 0, 0]]),
    ("replicate", [[1, 2, 0, 0, 0, 0], [0, 0, 3, 0, 0, 0]]), ("square", [[1, 2, 1, 2, 0, 0]])])
def test_paddings_of_images_are_turned_for_the_pass_that_turns_them(mode, amounts, tmp_path):
    graph = exported(Ahead(PADDINGS[mode]), tmp_path)
    assert bool(turn_paddings(graph)) == (mode != "square")
    assert [op.attrs["paddings"] for op in graph.ops if op.type == "pad3d"] == amounts


def test_paddings_that_the_pass_does_not_see_stay(tmp_path):
    graph = exported(Ahead(lambda y: F.pad(y.unsqueeze(2), [*AMOUNTS, 0, 0], data_format="NCDHW")),
                     tmp_path)
    assert not turn_paddings(graph)


def test_a_size_that_only_the_other_tensor_has_stays(tmp_path):
    graph = exported(Ahead(lambda y: paddle.ones([1, 8, 6, 6]).expand_as(y)), tmp_path)
    assert "expand_as_v2" in {op.type for op in graph.ops} and not expand_by_shape(graph)


@pytest.mark.parametrize("function", [
    lambda y: y.mean([2, 3]), lambda y: y.reshape([0, 2, 4, 6, 6]).mean([1, 3]),
    lambda y: y.reshape([0, 2, 4, 6, 6]).mean([0, 1]), lambda y: y.reshape([0, 2, 4, 6, 6]).sum()])
def test_reductions_that_cannot_be_merged_stay(function, tmp_path):
    assert not merge_reduced_axes(exported(Ahead(function), tmp_path))


def test_channels_last_inside_is_said_before_the_work_and_never_written(tmp_path):
    graph = exported(Ahead(F.relu, "NHWC"), tmp_path, (None, 8, 8, 3))
    assert wrong_forms(graph) == ["conv2d with data_format NHWC"]
    note, = lite_note(graph)
    assert "no kernel for conv2d with data_format NHWC: express it" in note
    with pytest.raises(ModelError, match="conv2d with data_format NHWC: express it"):
        convert(graph, None, "arm")
