# SPDX-License-Identifier: Apache-2.0
"""Whatever factors the classes of channels get, a graph computes the same; and classes are as free
as they can be.
"""
import numpy as np
import paddle
import pytest

from paddle_mrecg.graph.graph import Op
from paddle_mrecg.graph.homogeneous import channel_classes
from paddle_mrecg.graph.ops import run_ops
from tests.tiny import CONV, graph_of

RANDOM = np.random.default_rng(0)
SAMPLES = {"x": RANDOM.standard_normal((3, 4, 6, 6)).astype(np.float32)}


def draw(*shape):
    return (RANDOM.standard_normal(shape) + 0.1).astype(np.float32)


def conv(source, weight, out, kind="conv2d", bias=None, **attrs):
    slots = {"Input": [source], "Filter": [weight], **({"Bias": [bias]} if bias else {})}
    return Op(kind, slots, {"Output": [out]}, dict(CONV, **attrs))


def op(kind, out, slot="Out", attrs=None, **inputs):
    return Op(kind, {k: v if isinstance(v, list) else [v] for k, v in inputs.items()},
              {slot: out if isinstance(out, list) else [out]}, attrs or {})


def add(x, y, out, **attrs):
    return op("elementwise_add", out, X=x, Y=y, attrs=dict(dict(axis=-1), **attrs))


def between(*ops, first=None, last=None, **params):
    """conv a -> bias -> ``ops`` from "t" to "u" -> depthwise conv b; ends at a softmax."""
    weights = dict(a=first if first is not None else draw(4, 4, 3, 3), a_bias=draw(4),
                   b=last if last is not None else draw(4, 1, 3, 3))
    every = [conv("x", "a", "a_out"), add("a_out", "a_bias", "t", axis=1), *ops,
             conv("u", "b", "b_out", "depthwise_conv2d", groups=len(weights["b"])),
             op("softmax", "end", X="b_out", attrs=dict(axis=1))]
    return graph_of(every, {**weights, **params}, SAMPLES, ["end"])


def values(graph):
    given = {n: paddle.to_tensor(v) for n, v in (*graph.params.items(), *SAMPLES.items())}
    with paddle.no_grad():
        found = run_ops(graph.ops, given)
    return {n: v.numpy() for n, v in found.items() if n not in graph.params}


def assert_exact(graph, seed=1):
    """Random factors leave the outputs alone, and multiply each channel by that of its class."""
    classes = channel_classes(graph)
    factors = np.exp2(np.random.default_rng(seed).uniform(-4, 4, len(classes)))
    factors[0] = 1.0
    want = values(graph)
    classes.apply(factors)
    got = values(graph)
    for name in want:
        channels = classes.channels(name)
        expected = want[name]
        if channels is not None:
            expected = expected * channels.spread(factors[classes.of(name)])
        difference = np.abs(got[name] - expected).max(initial=0)
        assert difference <= 1e-5 * np.abs(expected).max(initial=1e-30), (name, difference)
    return classes


def free(classes, name):
    found = classes.of(name)
    return found is not None and bool(found.all())


UNARY = {
    "relu": op("relu", "u", X="t"),
    "leaky": op("leaky_relu", "u", X="t", attrs=dict(alpha=0.1)),
    "abs": op("abs", "u", X="t"),
    "scale": op("scale", "u", X="t", attrs=dict(scale=-3.0, bias=0.0, bias_after_scale=True)),
    "prelu": op("prelu", "u", X="t", Alpha="slopes", attrs=dict(mode="channel",
                                                               data_format="NCHW")),
    "max_pool": op("pool2d", "u", X="t", attrs=dict(pooling_type="max", ksize=[3, 3],
                                                    strides=[2, 2], paddings=[1, 1])),
    "avg_pool": op("pool2d", "u", X="t", attrs=dict(pooling_type="avg", ksize=[3, 3],
                                                    strides=[1, 1], paddings=[1, 1],
                                                    exclusive=False)),
    "nearest": op("nearest_interp_v2", "u", X="t", attrs=dict(scale=[2.0, 2.0],
                                                              align_corners=False)),
    "bilinear": op("bilinear_interp_v2", "u", X="t", attrs=dict(out_h=9, out_w=9, align_mode=0,
                                                                align_corners=False)),
    "pad": op("pad2d", "u", X="t", attrs=dict(paddings=[1, 0, 2, 1], mode="constant",
                                              pad_value=0.0)),
    "pad_edge": op("pad2d", "u", X="t", attrs=dict(paddings=[1, 0, 2, 1], mode="edge",
                                                   pad_value=3.0)),
    "times_number": op("elementwise_mul", "u", X="t", Y="number", attrs=dict(axis=-1)),
    "times_map": op("elementwise_mul", "u", X="t", Y="map", attrs=dict(axis=-1)),
    "plus_map": add("t", "maps", "u"),
    "minus_channels": op("elementwise_sub", "u", X="t", Y="slopes", attrs=dict(axis=1)),
}
CONSTANTS = dict(slopes=draw(4), number=draw(1), map=draw(6, 6), maps=draw(4, 6, 6))


def used(ops):
    return {n: CONSTANTS[n] for o in ops for n in o.input_names if n in CONSTANTS}


@pytest.mark.parametrize("name", UNARY)
def test_passes(name):
    graph = between(UNARY[name], **used([UNARY[name]]))
    assert free(assert_exact(graph), "u")


STOPS = {
    "relu6": op("relu6", "u", X="t"),
    "hard_swish": op("hard_swish", "u", X="t"),
    "sigmoid": op("sigmoid", "u", X="t"),
    "scale_bias": op("scale", "u", X="t", attrs=dict(scale=1.0, bias=2.0, bias_after_scale=True)),
    "clip": op("clip", "u", X="t", attrs=dict(min=0.0, max=1.0)),
    "pad_value": op("pad2d", "u", X="t", attrs=dict(paddings=[1, 1, 1, 1], mode="constant",
                                                    pad_value=1.0)),
    "plus_number": add("t", "number", "u"),
    "over_channels": op("softmax", "u", X="t", attrs=dict(axis=1)),
    "square": op("elementwise_mul", "u", X="t", Y="t", attrs=dict(axis=-1)),
}


@pytest.mark.parametrize("name", STOPS)
def test_stops(name):
    graph = between(STOPS[name], **used([STOPS[name]]))
    classes = assert_exact(graph)
    assert not free(classes, "t") and not free(classes, "u")
    assert free(classes, "a_out") == free(classes, "t")


def test_constants_per_channel_change_the_factors():
    for kind in ("elementwise_mul", "elementwise_div"):
        graph = between(op("relu6", "s", X="t"), op(kind, "u", X="s", Y="slopes",
                                                    attrs=dict(axis=1)), slopes=CONSTANTS["slopes"])
        classes = assert_exact(graph)
        assert free(classes, "u") and not free(classes, "s")


def test_gate_is_fixed_and_its_feature_is_free():
    """Squeeze and excitation: pool, convolution, gate; the product carries the feature's factor."""
    gate = [op("pool2d", "pooled", X="s", attrs=dict(pooling_type="avg", ksize=[1, 1],
                                                     adaptive=True)),
            conv("pooled", "g", "g_out", paddings=[0, 0]), op("sigmoid", "gate", X="g_out")]
    for x, y in (("s", "gate"), ("gate", "s")):
        product = op("elementwise_mul", "u", X=x, Y=y, attrs=dict(axis=-1))
        classes = assert_exact(between(op("relu", "s", X="t"), *gate, product, g=draw(4, 4, 1, 1)))
        assert free(classes, "u") and free(classes, "s") and not free(classes, "gate")


def test_product_of_two_features_lets_one_carry():
    ops = [op("relu", "s", X="t"), conv("s", "c", "other"),
           op("elementwise_mul", "u", X="s", Y="other", attrs=dict(axis=-1))]
    classes = assert_exact(between(*ops, c=draw(4, 4, 3, 3)))
    assert free(classes, "u") and not free(classes, "other")


def test_shortcut_ties_both_sides():
    ops = [op("relu", "s", X="t"), conv("s", "c", "c_out"),
           add("c_out", "c_bias", "branch", axis=1), add("branch", "s", "joined"),
           op("relu", "u", X="joined")]
    classes = assert_exact(between(*ops, c=draw(4, 4, 3, 3), c_bias=draw(4)))
    assert free(classes, "u")
    np.testing.assert_array_equal(classes.of("s"), classes.of("branch"))


def test_shortcut_from_the_input_is_fixed():
    classes = assert_exact(between(add("t", "x", "u")))
    assert not free(classes, "u") and not free(classes, "t")


def test_other_readers():
    """A dense reader gives back what it gets; one behind a sigmoid keeps the tensor as it is."""
    dense = [op("relu", "u", X="t"), conv("u", "c", "c_out")]
    end = [op("sigmoid", "other", X="c_out")]
    assert free(assert_exact(between(*dense, *end, c=draw(2, 4, 3, 3))), "u")
    assert not free(assert_exact(between(*dense[:1], op("sigmoid", "other", X="u"))), "u")


def test_output_of_the_graph_keeps_its_values():
    graph = between(op("relu", "u", X="t"))
    graph.outputs.append("u")
    assert not free(assert_exact(graph), "u")


def test_shared_parameters_stay():
    graph = between(op("relu", "s", X="t"), conv("s", "a", "u"))
    classes = assert_exact(graph)
    assert not free(classes, "t") and not free(classes, "s")


@pytest.mark.parametrize("kind, shape, attrs", [
    ("conv2d", (6, 2, 3, 3), dict(groups=2)), ("conv2d", (8, 4, 1, 3), dict(paddings=[0, 1])),
    ("depthwise_conv2d", (8, 1, 3, 3), dict(groups=4)),
    ("conv2d_transpose", (4, 3, 2, 2), dict(strides=[2, 2], paddings=[0, 0], groups=2)),
    ("conv2d_transpose", (4, 5, 3, 3), dict(strides=[2, 2])),
    ("depthwise_conv2d_transpose", (4, 1, 3, 3), dict(groups=4)),
])
def test_weights_of_all_layouts(kind, shape, attrs):
    count = shape[1] * attrs.get("groups", 1) if "transpose" in kind else shape[0]
    middle = [op("relu", "s", X="t"), conv("s", "c", "c_out", kind, bias="c_bias", **attrs),
              op("relu", "u", X="c_out")]
    graph = between(*middle, last=draw(count, 1, 3, 3), c=draw(*shape), c_bias=draw(count))
    classes = assert_exact(graph)
    assert free(classes, "s") and free(classes, "u")


def test_batch_norm_takes_up_and_gives_back():
    norm = op("batch_norm", "u", "Y", X="t", Mean="mean", Variance="variance", Scale="gain",
              Bias="offset", attrs=dict(is_test=True, epsilon=1e-3, data_layout="NCHW"))
    graph = between(norm, mean=draw(4), variance=np.square(draw(4)), gain=draw(4), offset=draw(4))
    classes = assert_exact(graph)
    assert free(classes, "t") and free(classes, "u")
    assert not set(classes.of("t")) & set(classes.of("u"))


def test_joined_and_cut_channels():
    ops = [op("relu", "s", X="t"), op("sigmoid", "gate", X="x"),
           op("concat", "joined", X=["s", "gate"], attrs=dict(axis=1)),
           op("split", ["left", "u"], X="joined", attrs=dict(axis=1, sections=[2, -1], num=0))]
    graph = between(*ops, last=draw(6, 1, 3, 3))
    graph.ops.append(op("sigmoid", "other", X="left"))
    classes = assert_exact(graph)
    found = classes.of("joined")
    assert found[2:4].all() and not found[:2].any() and not found[4:].any()


def test_classifier_behind_pooling():
    ops = [op("relu", "u", X="t"), op("reduce_mean", "mean", X="u",
                                     attrs=dict(dim=[2, 3], keep_dim=True)),
           op("flatten_contiguous_range", "flat", X="mean", attrs=dict(start_axis=1, stop_axis=-1)),
           op("matmul_v2", "hidden", X="flat", Y="w", attrs=dict(trans_x=False, trans_y=True)),
           add("hidden", "w_bias", "sum"), op("relu", "active", X="sum"),
           op("mul", "scores", X="active", Y="v", attrs=dict(x_num_col_dims=1, y_num_col_dims=1)),
           op("softmax", "other", X="scores", attrs=dict(axis=-1))]
    graph = between(*ops, w=draw(5, 4), w_bias=draw(5), v=draw(5, 3))
    classes = assert_exact(graph)
    assert free(classes, "flat") and free(classes, "active") and not free(classes, "scores")


def test_sequence_behind_a_map():
    """[N, C, H, W] to [N, HW, C] and through a product over the channels."""
    ops = [op("relu", "u", X="t"), op("flatten_contiguous_range", "rows", X="u",
                                     attrs=dict(start_axis=2, stop_axis=3)),
           op("transpose2", "turned", X="rows", attrs=dict(axis=[0, 2, 1])),
           op("matmul_v2", "scores", X="turned", Y="w", attrs=dict(trans_x=False, trans_y=False)),
           op("softmax", "other", X="scores", attrs=dict(axis=-1))]
    classes = assert_exact(between(*ops, w=draw(4, 3)))
    assert free(classes, "turned")
