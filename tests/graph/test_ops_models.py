# SPDX-License-Identifier: Apache-2.0
"""Every tensor of real models equals the Executor's."""
import numpy as np
import paddle
import pytest

from paddle_mrecg.graph.from_layer import graph_from_layer
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.ops import SUPPORTED, run_ops
from tests.executor import executor_outputs

TOLERANCE = 1e-4  # of the tensor's largest value
VISION = {  # name: side of the input
    "resnet18": 64, "resnet50": 64, "mobilenet_v1": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64, "shufflenet_v2_x0_5": 64, "shufflenet_v2_swish": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64, "densenet121": 64, "googlenet": 224}


def compare(graph, feed, left_out=()):
    """Run ``graph`` both ways and compare all that the table produces; only
    ``left_out`` may be missing from it.
    """
    assert {op.type for op in graph.ops} - SUPPORTED == set(left_out)
    ops = [op for op in graph.ops if op.type in SUPPORTED]
    values = {name: paddle.to_tensor(array) for name, array in {**graph.params, **feed}.items()}
    with paddle.no_grad():
        run_ops(ops, values)
    names = [name for op in ops for name in op.output_names]
    assert names and all(name in values for name in names)
    for name, expected in zip(names, executor_outputs(graph, feed, names)):
        actual = values[name].numpy()
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), name
        if expected.size:
            worst = np.abs(actual.astype("float64") - expected).max()
            assert worst <= TOLERANCE * max(np.abs(expected).max(), 1e-30), name
    return [values[name].numpy() for name in graph.outputs if name in values]


@pytest.mark.parametrize("name", ["ocr_cls", "ocr_det", "ocr_rec", "lcnet_v2", "picodet"])
def test_registry_model(registry_model, name):
    prefix, feed = registry_model(name)
    compare(load_graph(prefix), feed, {"multiclass_nms3"} if name == "picodet" else ())


@pytest.mark.slow
@pytest.mark.parametrize("name", VISION)
def test_vision_model(name):
    paddle.seed(0)
    layer = getattr(paddle.vision.models, name)(pretrained=False)
    side = VISION[name]
    graph = graph_from_layer(layer,
                             [paddle.static.InputSpec([-1, 3, side, side], "float32", "image")])
    image = np.random.RandomState(0).uniform(-1, 1, (2, 3, side, side)).astype("float32")
    outputs = compare(graph, {"image": image})
    layer.eval()
    with paddle.no_grad():
        expected = layer(paddle.to_tensor(image))
    expected = expected if isinstance(expected, (list, tuple)) else [expected]
    assert len(outputs) == len(expected)
    for output, tensor in zip(outputs, expected):
        np.testing.assert_allclose(output, tensor.numpy(),
                                   atol=TOLERANCE * float(tensor.abs().max()))


def test_layer_of_many_constructs(small_graph, small_feed):
    compare(small_graph, small_feed)
