# SPDX-License-Identifier: Apache-2.0
"""A residual network of five quantizable ops, built by hand: small enough
to reconstruct in a second.
"""
import dataclasses

import numpy as np
import paddle

from paddle_mrecg.post import calibrate
from paddle_mrecg.config import MRECG, QuantPost
from paddle_mrecg.post.program import qdq_graph
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.ops import run_ops
from paddle_mrecg.graph.partition import join, modules_of
from paddle_mrecg.graph.probe import probe
from paddle_mrecg.post.network_state import NetworkState
from paddle_mrecg.post.reconstruct import UnitTrainer
from paddle_mrecg.post.scheme import build_scheme
from paddle_mrecg.post.streams import ActivationStore
from paddle_mrecg.post.walk import Network, Walker

CONV = dict(strides=[1, 1], paddings=[1, 1], dilations=[1, 1], groups=1,
            padding_algorithm="EXPLICIT",
            data_format="NCHW")


def tiny_graph(seed=0, channels=6, classes=4, size=8):
    """image -> conv a -> [conv b, conv c, add] -> conv d (stride 2) -> pool -> fc -> softmax."""
    rng = np.random.default_rng(seed)
    graph = Graph([], {}, {}, ["image"], ["probability"])

    def tensor(name, shape):
        graph.tensors[name] = TensorInfo(name, shape)
        return name

    def param(name, *shape):
        graph.params[name] = (rng.standard_normal(shape)
                              / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)
        return tensor(name, shape)

    def conv(name, source, cin, cout, side, stride=1):
        tensor(name + ".conv",
               (-1, cout, side, side)), tensor(name + ".sum", (-1, cout, side, side))
        graph.ops.append(Op("conv2d",
                            {"Input": [source], "Filter": [param(name + ".w", cout, cin, 3, 3)]},
                            {"Output": [name + ".conv"]}, dict(CONV, strides=[stride, stride])))
        graph.ops.append(Op("elementwise_add",
                            {"X": [name + ".conv"], "Y": [param(name + ".b", cout)]},
                            {"Out": [name + ".sum"]}, {"axis": 1}))
        return name + ".sum"

    def simple(kind, name, inputs, shape, **attrs):
        graph.ops.append(Op(kind, inputs, {"Out": [tensor(name, shape)]}, attrs))
        return name

    tensor("image", (-1, 3, size, size))
    full = (-1, channels, size, size)
    a = simple("relu", "a.relu", {"X": [conv("a", "image", 3, channels, size)]}, full)
    b = simple("relu", "b.relu", {"X": [conv("b", a, channels, channels, size)]}, full)
    joined = simple("elementwise_add", "c.add",
                    {"X": [conv("c", b, channels, channels, size)], "Y": [a]}, full, axis=-1)
    c = simple("relu", "c.relu", {"X": [joined]}, full)
    half = (-1, channels, size // 2, size // 2)
    d = simple("relu", "d.relu", {"X": [conv("d", c, channels, channels, size // 2, stride=2)]},
               half)
    pooled = simple("pool2d", "pool", {"X": [d]}, (-1, channels, 1, 1), pooling_type="avg",
                    ksize=[1, 1], adaptive=True,
                    strides=[1, 1], paddings=[0, 0], global_pooling=False, exclusive=True,
                    ceil_mode=False,
                    padding_algorithm="EXPLICIT", data_format="NCHW")
    flat = simple("flatten_contiguous_range", "flat", {"X": [pooled]}, (-1, channels), start_axis=1,
                  stop_axis=3)
    scores = simple("matmul_v2", "fc", {"X": [flat], "Y": [param("fc.w", channels, classes)]},
                    (-1, classes),
                    trans_x=False, trans_y=False)
    simple("softmax", "probability", {"X": [scores]}, (-1, classes), axis=-1)
    return graph


def tiny_samples(count=48, size=8, seed=1):
    """Smooth random images, so that neighbouring pixels agree as in photographs."""
    coarse = np.random.default_rng(seed).standard_normal((count, 3, size // 2,
                                                          size // 2)).astype(np.float32)
    return {"image": coarse.repeat(2, axis=2).repeat(2, axis=3)}


@dataclasses.dataclass
class TinyJob:
    """A graph that is calibrated and cut: what ``prepare`` returns, without files and readers."""

    network: Network
    state: NetworkState
    modules: list

    def units(self, *groups):
        """Units of the given inclusive module ranges; without any, each module is a unit."""
        return join(self.network.graph, self.modules,
                    groups or [(k, k) for k in range(len(self.modules))])

    def problem(self, unit, settings=None):
        """What a unit that reads the network's inputs is asked to reproduce, and its trainer."""
        problem, _ = Walker(self.network, self.state)._problem(unit, settings or MRECG())
        return problem

    def trainer(self, settings, unit=None, seed=0):
        """A trainer of ``unit`` (the first by default)."""
        problem = self.problem(unit or self.units()[0], settings)
        return UnitTrainer(problem, self.state, settings, self.network.graph.params, seed)


def tiny_job(graph=None, samples=None, target="simulation", granularity="block", seed=0,
             **quant_post):
    """A ``TinyJob`` on ``graph`` and ``samples`` (the tiny ones by default) with
    settings of ``QuantPost``.
    """
    graph, samples = graph or tiny_graph(), samples or tiny_samples()
    config = QuantPost(**quant_post)
    scheme = build_scheme(graph, config, target)
    found = probe(graph, {n: v[:3] for n, v in samples.items()})
    state = NetworkState.nearest(graph.params, calibrate.weight_encodings(graph, scheme, config),
                                 calibrate.activation_encodings(graph, scheme, samples, config))
    modules = modules_of(graph, found, scheme.is_quantized, granularity=granularity)
    network = Network(graph, scheme, [op for op in graph.ops if op not in found.unreached],
                      found.constants, samples,
                      ActivationStore(256), seed)
    return TinyJob(network, state, modules)


def graph_of(ops, params, samples, outputs):
    """A Graph from its ops; the shapes of the tensors come from running it on two samples."""
    tensors = {n: TensorInfo(n, v.shape) for n, v in params.items()}
    values = {n: paddle.to_tensor(v[:2]) for n, v in samples.items()}
    for name, value in run_ops(ops, dict(values,
                                         **{n: paddle.to_tensor(v)
                                            for n, v in params.items()})).items():
        if name not in params:
            tensors[name] = TensorInfo(name, (-1,) + tuple(value.shape[1:]))
    return Graph(ops, tensors, dict(params), list(samples), list(outputs))


# 4 bits everywhere: x86 saturates with more
SMALL_CODES = dict(first_layer_weight_bits=4, last_layer_weight_bits=4)


def tiny_quantized(**settings):
    """The QDQ graph of the tiny network, for Paddle Lite with 4-bit
    weights unless told otherwise.
    """
    job = tiny_job(**dict(dict(target="paddle_lite", weight_bits=4), **settings))
    return qdq_graph(job.network.graph, job.network.scheme, job.state)
