# SPDX-License-Identifier: Apache-2.0
"""PP-OCR's preprocessing, the crop reader and the demo's accuracy."""
import numpy as np
import pytest
from PIL import Image

from demo import sources
from demo.ocr import crops


def flat(width, height, colour=(255, 0, 0)):
    return Image.new("RGB", (width, height), colour)


def test_keeps_the_ratio_and_pads_with_zero_on_the_right():
    pixels = crops.preprocess(flat(20, 24), (48, 192))  # twice as high: 40 wide
    assert pixels.shape == (3, 48, 192)
    assert np.all(pixels[:, :, 40:] == 0.0) and np.all(pixels[:, :, :40] != 0.0)


def test_channels_are_bgr_in_minus_one_to_one():
    pixels = crops.preprocess(flat(48, 48), (48, 192))[:, 0, 0]
    assert pixels.tolist() == [-1.0, -1.0, 1.0]


def test_a_wide_crop_is_squeezed_to_the_input_width():
    assert np.all(crops.preprocess(flat(2000, 48), (48, 192)) != 0.0)


def test_both_directions_alternate():
    image = flat(192, 48)
    image.putpixel((0, 0), (0, 0, 0))
    views, labels = crops.both_directions([image])
    assert labels.tolist() == [0, 1]
    assert views[0, 2, 0, 0] == -1.0 and views[1, 2, -1, -1] == -1.0


def test_reads_labelled_crops_in_the_files_order(tmp_path):
    folder = tmp_path / "words"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        flat(8, 4).save(folder / name)
    (tmp_path / "words.txt").write_text("b.png\tWomen's\na.png\ttwo words\n", encoding="utf-8")
    images, texts = crops.read_crops(folder)
    assert texts == ["Women's", "two words"] and [i.size for i in images] == [(8, 4)] * 2


def test_accuracy_uses_every_sample_of_an_uneven_last_batch():
    images = np.eye(5, dtype=np.float32)
    labels = np.array([0, 1, 2, 3, 0])
    assert (crops.accuracy(lambda batch: [batch], images, labels, batch_size=2)
            == pytest.approx(80.0))


def test_absent_packages_and_data_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("MRECG_SHARED_DATA", str(tmp_path))
    with pytest.raises(sources.Absent, match="MRECG_SHARED_DATA"):
        sources.shared_data("ocr/iiit5k_test")
    with pytest.raises(sources.Absent, match="pip install"):
        sources.package_path("no_such_package_here", "no-such-package==1")
