# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 reader and the two networks."""
import json

import numpy as np
import pytest
from PIL import Image

import paddle
from demo import sources
from demo.classification import cifar10, cifar_resnet, mobilenet_v1


@pytest.fixture
def sheets(tmp_path):
    """Three images per sheet; image k is k everywhere in its red channel."""
    pixels = np.zeros((3, 32 * 32, 3), np.uint8)
    pixels[:, :, 0] = np.arange(3)[:, None]
    for name in ("test_batch.png", "data_batch_1.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "test_lables.json").write_text(json.dumps([7, 8, 9]))
    cifar10.test_set.cache_clear()
    yield tmp_path
    cifar10.test_set.cache_clear()


def test_reads_one_image_per_row(sheets):
    images = cifar10.read_sheet(sheets / "test_batch.png")
    assert images.shape == (3, 3, 32, 32) and images[2, 0].min() == 2 and images[2, 1:].max() == 0


def test_normalises_and_limits(sheets):
    images, labels = cifar10.test_set(sheets, 2)
    assert labels.tolist() == [7, 8]
    assert images[1, 0, 0, 0] == pytest.approx((1 / 255 - 0.485) / 0.229, rel=1e-5)


def test_calibration_draws_by_seed(sheets):
    assert np.array_equal(cifar10.calibration_set(sheets, 3, 1),
                          cifar10.calibration_set(sheets, 3, 1))
    assert [len(b) for b in cifar10.calibration(str(sheets), 3, 0, batch_size=2)] == [2, 1]


def test_a_missing_sheet_says_where_to_look(tmp_path):
    with pytest.raises(sources.Absent, match="cifar10.py"):
        cifar10.read_sheet(tmp_path / "test_batch.png")


def test_shortcut_is_subsampling_and_zero_padding():
    block = cifar_resnet.BasicBlock(2, 4, stride=2)
    x = paddle.arange(2 * 16, dtype="float32").reshape([1, 2, 4, 4])
    kept = block.shortcut(x).numpy()
    assert np.array_equal(kept[:, 1:3], x.numpy()[:, :, ::2, ::2])
    assert not kept[:, [0, 3]].any()


def test_resnet20_has_its_published_size():
    model = cifar_resnet.CifarResNet(20)
    assert sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient) == 269722
    with pytest.raises(ValueError, match="depth 18"):
        cifar_resnet.CifarResNet(18)


def test_weights_reach_the_layer_they_are_named_after(tmp_path):
    source = cifar_resnet.CifarResNet(20)
    torch_names = {n.replace("_mean", "running_mean").replace("_variance", "running_var"): v.numpy()
                   for n, v in source.state_dict().items()}
    torch_names["linear.weight"] = torch_names["linear.weight"].T
    np.savez(tmp_path / "w.npz", **torch_names)
    source.eval()
    loaded = cifar_resnet.load_weights(cifar_resnet.CifarResNet(20), tmp_path / "w.npz")
    x = paddle.ones([1, 3, 32, 32])
    assert np.array_equal(source(x).numpy(), loaded(x).numpy())
    del torch_names["layer2.0.conv1.weight"]
    np.savez(tmp_path / "short.npz", **torch_names)
    with pytest.raises(KeyError, match="layer2.0.conv1.weight"):
        cifar_resnet.load_weights(cifar_resnet.CifarResNet(20), tmp_path / "short.npz")


def test_mobilenet_pads_like_tensorflow():
    model = mobilenet_v1.MobileNetV1(num_classes=5)
    assert model(paddle.zeros([1, 3, 32, 32])).shape == [1, 5]
    conv = mobilenet_v1._same_conv(1, 1, 2)
    conv.weight.set_value(np.ones([1, 1, 3, 3], np.float32))
    corner = conv(paddle.ones([1, 1, 4, 4])).numpy()[0, 0] - conv.bias.numpy()
    assert np.allclose(corner, [[9, 6], [6, 4]])  # nothing padded above and on the left


def test_a_mistake_on_the_command_line_is_a_sentence_and_exit_code_2(capsys, monkeypatch):
    from demo.classification import quant_post
    monkeypatch.setattr(quant_post, "need_data", lambda *_: None)  # the data are all there
    assert quant_post.main(["--model", "cifar_resnet20", "MRECG.num_itres=3"]) == 2
    assert "Did you mean 'num_iters'?" in capsys.readouterr().err
