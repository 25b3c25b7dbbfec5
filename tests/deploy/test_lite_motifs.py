# SPDX-License-Identifier: Apache-2.0
"""Small networks of int8 layers compute in Paddle Lite what was simulated, whatever stands between
two convolutions: its converter's passes over the graph are the same for x86 and ARM.
"""
import numpy as np
import pytest

import paddle
import paddle.nn.functional as F
from paddle.nn import BatchNorm2D, Conv2D, Conv2DTranspose
from paddle_mrecg.deploy.check import doctor
from paddle_mrecg.deploy.check.text import report_text
from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.from_layer import graph_from_layer

from tests.lite import lite_tools
from tests.tiny import SMALL_CODES, tiny_quantized

CHANNELS, SIZE = 32, 8  # multiples of 32 values, and 4-bit weights: nothing has to be float
ACTIVATIONS = dict(relu=F.relu, relu6=F.relu6, hard_swish=F.hardswish, swish=F.swish,
                   leaky_relu=lambda x: F.leaky_relu(x, 0.1), sigmoid=F.sigmoid)


def conv(size=3, **options):
    return Conv2D(CHANNELS, CHANNELS, size, padding=size // 2, **options)


MOTIFS = {  # name -> layers, and what is computed with them
    **{f"batch norm, {name}": ([conv(), BatchNorm2D(CHANNELS)],
                               lambda x, m, act=act: act(m[1](m[0](x))))
       for name, act in ACTIVATIONS.items()},
    "depthwise": ([conv(groups=CHANNELS), conv(1)],
                  lambda x, m: m[1](F.leaky_relu(m[0](x), 0.2))),
    "residual": ([conv(), conv(1)], lambda x, m: F.relu(m[0](x) + m[1](x) + x)),
    "squeeze": ([conv(1), conv(1)], lambda x, m: x * F.hardsigmoid(
        m[1](F.relu(m[0](F.adaptive_avg_pool2d(x, 1)))))),
    "scale": ([conv(), conv()], lambda x, m: m[1](F.relu6(m[0](x)) * -2.0 + 1.0)),
    "scale behind hard_swish": ([conv(groups=CHANNELS), conv(1)],
                                lambda x, m: m[1](F.hardswish(m[0](x)) * 2.0 + 1.0)),
    "transposed": ([Conv2DTranspose(CHANNELS, CHANNELS, 2, stride=2)],
                   lambda x, m: F.max_pool2d(m[0](x), 2)),
}


class Motif(paddle.nn.Layer):
    """Two convolutions with a motif between them."""

    def __init__(self, layers, compute):
        super().__init__()
        self.first, self.last = Conv2D(4, CHANNELS, 3, padding=1), conv(1)
        self.layers, self.compute = paddle.nn.LayerList(layers), compute

    def forward(self, image):
        return self.last(self.compute(F.relu(self.first(image)), self.layers))


# with 8 bits x86 computes in float, where opt fuses more
EIGHT_BITS = "scale", "scale behind hard_swish", "batch norm, leaky_relu", "residual"


@pytest.mark.parametrize("name, settings", [
    *((name, SMALL_CODES) for name in MOTIFS),
    *((name, dict(weight_bits=8)) for name in EIGHT_BITS)])
def test_a_motif_agrees(name, settings):
    lite_tools()
    paddle.seed(1)
    samples = {"image": np.random.default_rng(0).standard_normal((8, 4, SIZE, SIZE)).astype(
        np.float32)}
    net = Motif(*MOTIFS[name])
    net(paddle.to_tensor(samples["image"]))  # statistics
    net.eval()
    spec = [paddle.static.InputSpec([-1, 4, SIZE, SIZE], "float32", "image")]
    graph = tiny_quantized(graph=fold(graph_from_layer(net, spec)), samples=samples, **settings)
    report = doctor.check(graph, {"image": samples["image"][:2]}, ["lite"])
    found, = report.runtimes
    assert found.status in (doctor.AGREES, doctor.EDGE), report_text(report)
    assert all(row.int8 for row in report.lite_ops)
