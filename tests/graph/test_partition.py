# SPDX-License-Identifier: Apache-2.0
"""Modules of published networks are the published ones; running units one by
one is running the network.
"""
import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F
import pytest

from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.from_layer import graph_from_layer
from paddle_mrecg.graph.graph import weight_name
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.ops import run_ops
from paddle_mrecg.graph.partition import join, modules_of
from paddle_mrecg.graph.probe import probe


class Block(nn.Layer):
    """RegNetX's residual bottleneck."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2D(cin, cout, 1), nn.ReLU(),
                                   nn.Conv2D(cout, cout, 3, stride, 1, groups=2), nn.ReLU(),
                                   nn.Conv2D(cout, cout, 1))
        self.shortcut = (nn.Conv2D(cin, cout, 1, stride) if stride > 1 or cin != cout
                         else nn.Identity())

    def forward(self, x):
        return F.relu(self.convs(x) + self.shortcut(x))


def regnet():
    """RegNetX-600M's depths, narrow."""
    layers, width = [nn.Sequential(nn.Conv2D(3, 4, 3, 2, 1), nn.ReLU())], 4
    for depth, out in ((1, 4), (3, 6), (5, 8), (7, 10)):
        for k in range(depth):
            layers.append(Block(width, out, 2 if k == 0 else 1))
            width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(width, 4))


class Pyramid(nn.Layer):
    """Four levels, top-down path, one head per level."""

    def __init__(self):
        super().__init__()
        self.down = nn.LayerList([nn.Conv2D(c, 4, 3, 2, 1) for c in (3, 4, 4, 4)])
        self.lateral = nn.LayerList([nn.Conv2D(4, 4, 1) for _ in range(4)])
        self.smooth = nn.LayerList([nn.Conv2D(4, 4, 3, padding=1) for _ in range(4)])
        self.heads = nn.LayerList([nn.Conv2D(4, 2, 1) for _ in range(4)])

    def forward(self, x):
        levels = []
        for conv in self.down:
            x = F.relu(conv(x))
            levels.append(x)
        top, outputs = None, []
        for level, lateral, smooth, head in list(zip(levels, self.lateral, self.smooth,
                                                     self.heads))[::-1]:
            sideways = lateral(level)
            top = sideways if top is None else sideways + F.interpolate(top, scale_factor=2)
            outputs.append(F.sigmoid(head(F.relu(smooth(top)))))
        return outputs


def read(layer, side=32):
    graph = fold(graph_from_layer(layer,
                                  [paddle.static.InputSpec([None, 3, side, side], "float32", "x")]))
    return (graph,
            {"x": np.random.default_rng(0).standard_normal((3, 3, side, side)).astype("float32")})


def cut(graph, feed, granularity="block"):
    found = probe(graph, feed)
    return found, modules_of(graph, found, lambda op: weight_name(op, graph) is not None,
                             granularity)


def blocks(layer, modules, depth):
    """For each module, the parts of the layer (first ``depth`` parts of the
    structured names) that it holds.
    """
    names = {p.name: ".".join(key.split(".")[:depth]) for key, p in layer.named_parameters()}
    return [sorted({names[w] for w in m.weights}) for m in modules]


def check_tiling(graph, found, modules):
    """Quantized ops are in exactly one module; inputs come from graph inputs or earlier
    outputs; all are per sample.
    """
    assert modules[0].start == 0
    assert all(a.stop == b.start for a, b in zip(modules, modules[1:]))
    inside = [weight_name(op, graph) for m in modules for op in graph.ops[m.start:m.stop]
              if weight_name(op, graph)]
    everywhere = [weight_name(op, graph) for op in graph.ops if weight_name(op, graph)]
    assert sorted(inside) == sorted(everywhere)
    available = set(graph.inputs)
    for m in modules:
        assert m.weights and m.outputs and set(m.inputs) <= available
        assert all(found.kind[n] == "sample" for n in m.inputs + m.outputs)
        available |= set(m.outputs)


def check_replay(graph, found, feed, units):
    """Units run one after the other, each from its inputs only, give the
    network's values bit by bit.
    """
    samples = {n: paddle.to_tensor(v[:2]) for n, v in feed.items()}
    params = {n: paddle.to_tensor(v) for n, v in graph.params.items()}
    reached = [op for op in graph.ops if op not in found.unreached]
    live = [op for op in reached if not found.is_constant(op)]
    constants = {n: paddle.to_tensor(v) for n, v in found.constants.items()}
    with paddle.no_grad():
        whole = run_ops(live, dict(params, **constants, **samples))
        stream = dict(samples)
        for unit in units:
            inside = [op for op in unit.ops(graph) if not found.is_constant(op)]
            values = run_ops(inside,
                             dict(params, **constants, **{n: stream[n] for n in unit.inputs}))
            stream.update({n: values[n] for n in unit.outputs})
        tail = [op for op in live if op not in set(graph.ops[:units[-1].stop])]
        values = run_ops(tail, dict(params, **constants, **stream))
    for name in set(stream) | {n for op in tail for n in op.output_names} & set(values):
        assert np.array_equal(whole[name].numpy(), values[name].numpy()), name


def test_mobilenet_v2_has_the_published_modules():
    layer = paddle.vision.models.mobilenet_v2(scale=0.5, num_classes=4)
    graph, feed = read(layer)
    _, modules = cut(graph, feed)
    parts = blocks(layer, modules, 2)
    assert parts[0] == ["features.0", "features.1"]
    assert parts[1:17] == [[f"features.{k}"] for k in range(2, 18)]
    assert parts[17] == ["classifier.1", "features.18"]
    published = [(0, 0), (1, 1), (2, 3), (4, 4), (5, 6), (7, 7), (8, 10), (11, 13), (14, 14),
                 (15, 16), (17, 17)]
    assert all(len(u.inputs) == len(u.outputs) == 1 for u in join(graph, modules, published))


@pytest.mark.parametrize("name, depths", [("resnet18", (2, 2, 2, 2)), ("resnet50", (3, 4, 6, 3))])
def test_resnets_have_the_published_modules(name, depths):
    layer = getattr(paddle.vision.models, name)(num_classes=4)
    graph, feed = read(layer)
    found, modules = cut(graph, feed)
    check_tiling(graph, found, modules)
    residual = [[f"layer{stage + 1}.{k}"] for stage, depth in enumerate(depths)
                for k in range(depth)]
    assert blocks(layer, modules, 2) == [["conv1.weight"]] + residual + [["fc.weight"]]


def test_regnet_has_the_published_modules():
    layer = regnet()
    graph, feed = read(layer)
    _, modules = cut(graph, feed)
    assert blocks(layer, modules, 1) == [[str(k)] for k in range(17)] + [["19"]]


@pytest.mark.parametrize("granularity", ["block", "layer"])
def test_pyramid_is_cut_where_several_activations_live(granularity):
    graph, feed = read(Pyramid())
    found, modules = cut(graph, feed, granularity)
    check_tiling(graph, found, modules)
    assert max(m.depth for m in modules) <= (3 if granularity == "block" else 1)
    assert max(len(m.inputs) for m in modules) >= 2
    # heads are judged before their sigmoid
    assert all(op.type == "sigmoid" for op in graph.ops[modules[-1].stop:])
    check_replay(graph, found, feed, join(graph, modules, [(k, k) for k in range(len(modules))]))


def test_every_partition_of_a_pyramid_replays_exactly():
    graph, feed = read(Pyramid())
    found, modules = cut(graph, feed)
    rng = np.random.default_rng(0)
    for _ in range(20):
        ends = sorted({len(modules) - 1, *rng.choice(len(modules), 3)})
        groups = [(a + 1, b) for a, b in zip([-1] + ends, ends)]
        check_replay(graph, found, feed, join(graph, modules, groups))


@pytest.mark.parametrize("name, size",
                         [("ocr_cls", 13), ("ocr_rec", 17), ("ocr_det", 22), ("lcnet_v2", 13),
                          ("picodet", 35)])
def test_real_models_are_tiled_and_replay_exactly(registry_model, name, size):
    prefix, feed = registry_model(name)
    graph = fold(load_graph(prefix))
    for granularity in ("layer", "block"):
        found, modules = cut(graph, feed, granularity)
        check_tiling(graph, found, modules)
    assert len(modules) == size
    assert max(m.depth for m in modules) <= 10
    check_replay(graph, found, feed, join(graph, modules, [(k, k) for k in range(len(modules))]))
    pairs = [(k, min(k + 1, len(modules) - 1)) for k in range(0, len(modules), 2)]
    check_replay(graph, found, feed, join(graph, modules, pairs))


def test_squeeze_and_excitation_belongs_to_the_layer_it_scales():
    layer = paddle.vision.models.mobilenet_v3_small(num_classes=4)
    graph, feed = read(layer, side=64)
    _, modules = cut(graph, feed)
    assert len(modules) == 12
    assert all(len(parts) == 1 for parts in blocks(layer, modules, 2)[1:-1])


def test_shapes_asked_early_do_not_widen_cuts():
    class Late(nn.Layer):
        def __init__(self):
            super().__init__()
            self.layers = nn.LayerList([nn.Conv2D(3, 3, 3, padding=1) for _ in range(6)])

        def forward(self, x):
            batch = paddle.shape(x)[0]
            for conv in self.layers:
                x = F.relu(conv(x))
            return x.reshape([batch, -1])

    graph, feed = read(Late(), side=8)
    found, modules = cut(graph, feed)
    assert [m.depth for m in modules] == [3, 3]
    check_tiling(graph, found, modules)


def test_results_without_a_batch_axis_are_not_targets():
    class TimeMajor(nn.Layer):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2D(3, 4, 3, padding=1), nn.Linear(4, 5)

        def forward(self, x):
            x = F.relu(self.first(x)).flatten(2).transpose([2, 0, 1])
            return self.last(x)

    graph, feed = read(TimeMajor(), side=4)
    found, modules = cut(graph, feed)
    assert [m.depth for m in modules] == [1]  # the last layer stays at nearest rounding


def test_unsupported_ops_lie_in_no_module():
    graph, feed = read(regnet())
    place = next(k for k, op in enumerate(graph.ops) if op.type == "pool2d")
    graph.ops[place].type = "an_op_of_the_future"
    found, modules = cut(graph, feed)
    assert len(modules) == 17  # all but the last layer, which reads what cannot be computed
    assert modules[-1].stop == place and modules[-1].outputs == [graph.ops[place].input("X")]
    assert set(graph.ops[place:]) == set(found.unreached)


def test_groups_must_tile():
    graph, feed = read(regnet())
    _, modules = cut(graph, feed)
    with pytest.raises(ValueError, match="tile"):
        join(graph, modules, [(0, 3), (3, len(modules) - 1)])
