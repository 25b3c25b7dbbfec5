# SPDX-License-Identifier: Apache-2.0
"""Yolo-Fastest from darknet's files: the layers' meaning, the order of the weights, and
the real networks' scores.
"""
import numpy as np
import pytest

import paddle
from demo import sources
from demo.detection import detectors, models, yolo_fastest

LAYERS = """
[net]
width=4
height = 4
channels=2

[convolutional] # a comment
batch_normalize=1
filters=4
size=3
stride=2
pad=1
groups=2
activation=leaky

[dropout]
probability=.15

[shortcut]
from=-2
activation=linear

[maxpool]
stride=1
size=3

[upsample]
stride=2

[route]
layers=-1,-1

[route]
layers=3

[convolutional]
filters=6
size=1
stride=1
activation=linear

[yolo]
mask=1
anchors=10,20, 30,40
classes=1
scale_x_y=1.05
"""


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / "tiny.cfg"
    path.write_text(LAYERS, encoding="utf-8")
    return path


def write_weights(path, numbers, version=(0, 2)):
    seen = np.zeros(1, np.int64 if version[1] >= 2 else np.int32)
    path.write_bytes(np.array([*version, 0], np.int32).tobytes() + seen.tobytes()
                     + np.float32(numbers).tobytes())
    return path


def numbers():
    """Shift, scale, mean, variance of the first convolution, its kernel; shift
    and kernel of the second.
    """
    kernel = np.zeros((4, 1, 3, 3))
    kernel[:, :, 1, 1] = 1.0
    return np.concatenate([[1, 2, 3, 4], [2, 2, 2, 2], [0, 0, 0, 0],
                           np.full(4, 1 - yolo_fastest.EPSILON), kernel.ravel(),
                           np.zeros(6), np.arange(24)])


def test_layers_and_weights_mean_what_darknet_means(cfg, tmp_path):
    model = yolo_fastest.load_weights(yolo_fastest.YoloFastest(cfg),
                                      write_weights(tmp_path / "w", numbers()))
    assert model.input_shape == (2, 4, 4)
    image = np.zeros((1, 2, 4, 4), np.float32)
    # what a 3x3 at stride 2 with padding 1 has in its middle
    image[0, 0, ::2, ::2], image[0, 1, 0, 0] = -3.0, 5.0
    head, = model(paddle.to_tensor(image))
    # 2x + shift, a tenth of it below zero, doubled by the shortcut, the largest of the
    # 3x3 around (all four pixels)
    best = np.array([0.1 * (2 * -3 + 1), 0.1 * (2 * -3 + 2), 2 * 5 + 3, 2 * 5 + 4]) * 2
    assert head.shape == [1, 6, 2, 2]
    assert np.allclose(head.numpy()[0, :, 1, 1], np.arange(24).reshape(6, 4) @ best, rtol=1e-5)


def test_a_route_of_two_layers_joins_their_channels(tmp_path):
    path = tmp_path / "route.cfg"
    path.write_text(LAYERS.replace("layers=3", "layers=0,-4").replace("[upsample]\nstride=2",
                                                                      "[upsample]\nstride=1"),
                    encoding="utf-8")
    model = yolo_fastest.YoloFastest(path)
    assert model.sources[6] == (0, 2) and model.blocks[7].conv.weight.shape == [6, 8, 1, 1]


def test_a_route_takes_one_group_of_channels(tmp_path):
    """As darknet has it: of every source the part ``group_id`` of ``groups``."""
    path = tmp_path / "route.cfg"
    text = ("[net]\nchannels=6\nheight=2\nwidth=2\n[dropout]\n[route]\nlayers=-1\ngroups=2\n"
            "group_id=1\n[route]\nlayers=-1,0\ngroups=3\n[yolo]\n")
    path.write_text(text, encoding="utf-8")
    x = np.arange(24, dtype=np.float32).reshape(1, 6, 2, 2)
    head, = yolo_fastest.YoloFastest(path)(paddle.to_tensor(x))
    assert np.array_equal(head.numpy(), x[:, [3, 0, 1]])
    path.write_text(text.replace("groups=2", "groups=4"), encoding="utf-8")
    with pytest.raises(ValueError, match="no 4 equal groups"):
        yolo_fastest.YoloFastest(path)


@pytest.mark.parametrize("version", [(0, 1), (0, 2)])
def test_both_headers_of_weights_are_read(cfg, tmp_path, version):
    model = yolo_fastest.load_weights(yolo_fastest.YoloFastest(cfg),
                                      write_weights(tmp_path / "w", numbers(), version))
    assert model.blocks[0].bn.bias.numpy().tolist() == [1, 2, 3, 4]


def test_weights_of_another_network_are_refused(cfg, tmp_path):
    path = write_weights(tmp_path / "w", numbers()[:-1])
    with pytest.raises(ValueError, match="81 numbers, the network 82"):
        yolo_fastest.load_weights(yolo_fastest.YoloFastest(cfg), path)


def test_an_unknown_layer_is_named(tmp_path):
    path = tmp_path / "bad.cfg"
    path.write_text("[net]\nchannels=3\n[lstm]\noutput=4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"\[lstm\]"):
        yolo_fastest.YoloFastest(path)


def test_heads_take_the_anchors_of_their_mask(cfg):
    head, = yolo_fastest.read_heads(cfg)
    assert head.anchors.tolist() == [[30, 40]] and head.classes == 1 and head.scale_xy == 1.05


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.parametrize("name, precision, at_half",
                         [("yolo_fastest", 16.0, 36.6), ("yolo_fastest_xl", 22.7, 44.6),
                          ("picodet", 40.2, 56.0)])
def test_float_networks_score_as_elsewhere(name, precision, at_half, shared_data, tmp_path):
    """The figures were measured with other programs, PicoDet's with
    another filter for the resize.
    """
    pytest.importorskip("pycocotools")
    shared_data("coco128")
    from paddle_mrecg.deploy.predictor import Predictor
    from paddle_mrecg.graph.load import load_graph
    from paddle_mrecg.graph.writer import save_program
    try:
        save_program(load_graph(models.inference_model(name, str(tmp_path))),
                     str(tmp_path / "float"))
    except sources.Absent as error:
        pytest.skip(str(error))
    scores = detectors.evaluate(Predictor(str(tmp_path / "float")), name)
    allowed = 1.0 if name == "picodet" else 0.5
    assert (scores["mAP"] == pytest.approx(precision, abs=allowed)
            and scores["AP50"] == pytest.approx(at_half, abs=allowed))
