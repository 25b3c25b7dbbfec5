# SPDX-License-Identifier: Apache-2.0
"""The image reader against hand-made images."""
import re

import numpy as np
import pytest
from PIL import Image

from paddle_mrecg.config import Data
from paddle_mrecg.data import images, open_loader
from paddle_mrecg.data.images import list_images, read_image
from paddle_mrecg.errors import DataError
from paddle_mrecg.graph.graph import TensorInfo

RAW = dict(scale=1.0, mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])


@pytest.fixture
def image(tmp_path):
    """(array uint8) -> path of a lossless file."""
    def write(pixels, name="a.png"):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / name)
        return tmp_path / name
    return write


@pytest.fixture
def folder(tmp_path):
    """Five 4x4 images; number k is 10 k everywhere. With a label file of both separators."""
    (tmp_path / "below").mkdir()
    names = ["0.png", "1.png", "below/2.png", "3 three.png", "4.bmp"]
    for k, name in enumerate(names):
        Image.new("RGB", (4, 4), (10 * k,) * 3).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    lines = [f"{name}{sep}{k}" for k, (name, sep) in enumerate(zip(names, " \t \t "))]
    (tmp_path / "labels.txt").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return tmp_path


def ramp(height, width):
    """Pixel = 10 * row + column in red, 1 in green, 2 in blue."""
    red = 10 * np.arange(height)[:, None] + np.arange(width)
    return np.stack([red, np.ones_like(red), 2 * np.ones_like(red)], -1)


def test_center_crop_takes_the_middle(image):
    pixels = read_image(image(ramp(5, 7)), Data(**RAW), (3, 3))
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels[0], ramp(5, 7)[1:4, 2:5, 0])


def test_the_227_images_lose_their_first_and_last_rows(image):
    pixels = read_image(image(np.full((227, 227, 3), np.arange(227)[:, None, None])), Data(**RAW),
                        (224, 224))
    assert pixels[0, 0, 0] == 1 and pixels[0, -1, 0] == 224


def test_channel_order_and_grey(image):
    path = image(ramp(3, 3))
    assert np.array_equal(read_image(path, Data(layout="BGR", **RAW), (3, 3))[:, 0, 0], [2, 1, 0])
    grey = read_image(path, Data(layout="GRAY", scale=1.0, mean=[0.0], std=[1.0]), (3, 3))
    assert grey.shape == (1, 3, 3)


def test_scale_mean_std_in_this_order(image):
    data = Data(scale=0.5, mean=[1.0, 2.0, 3.0], std=[2.0, 4.0, 8.0])
    pixels = read_image(image(np.full((2, 2, 3), 20)), data, (2, 2))
    assert np.allclose(pixels[:, 0, 0], [(10 - 1) / 2, (10 - 2) / 4, (10 - 3) / 8])


@pytest.mark.parametrize("size, kept", [((20, 10), (4, 2)), ((10, 20), (4, 8)), ((2, 1), (4, 2))])
def test_pad_keeps_the_ratio_and_fills_right_and_bottom(image, size, kept):
    pixels = read_image(image(np.full(size + (3,), 50)), Data(crop="pad", pad_value=-7.0, **RAW),
                        (4, 8))
    inside = np.zeros((4, 8), bool)
    inside[:kept[0], :kept[1]] = True
    assert np.all(pixels[:, inside] == 50) and np.all(pixels[:, ~inside] == -7)


def test_resize_squeezes_and_resize_short_keeps_the_ratio(image):
    wide = image(np.full((10, 40, 3), 9))
    assert read_image(wide, Data(crop="resize", **RAW), (4, 4)).shape == (3, 4, 4)
    assert read_image(wide, Data(resize_short=4, **RAW), (4, 16)).shape == (3, 4, 16)


def test_turned_photographs_are_turned_back(tmp_path):
    image = Image.fromarray(ramp(2, 4).astype(np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: the camera was held sideways
    image.save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png", Data(**RAW), (4, 2)).shape == (3, 4, 2)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_an_unreadable_image_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match="bad.png' cannot be read"):
        read_image(tmp_path / "bad.png", Data(), (2, 2))


def test_a_truncated_image_is_named(image):
    path = image(np.random.RandomState(0).randint(0, 255, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="cannot be read"):
        read_image(path, Data(), (2, 2))


def test_an_image_smaller_than_the_crop_names_the_cure(image):
    with pytest.raises(DataError, match="3x2, smaller than the crop 4x4: set resize_short"):
        read_image(image(ramp(2, 3)), Data(), (4, 4))


def test_a_folder_is_searched_recursively_by_suffix(folder):
    assert ([i.path.name for i in list_images(Data(image_dir=str(folder)))]
            == ["0.png", "1.png", "3 three.png", "4.bmp", "2.png"])


def test_hidden_files_are_not_images(folder):
    before = list_images(Data(image_dir=str(folder)))
    for name in ("._0.png", "below/._2.png", ".thumbnails/0.png", "__MACOSX/0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert list_images(Data(image_dir=str(folder))) == before
    hidden = folder / ".mine"
    folder.joinpath("below").rename(hidden)  # named by the user, it is meant
    assert [i.path.name for i in list_images(Data(image_dir=str(hidden)))] == ["2.png"]


def test_label_files_of_both_kinds(folder):
    for image_dir in (None, str(folder)):
        items = list_images(Data(image_dir=image_dir, label_file=str(folder / "labels.txt")))
        assert [(i.path.name, i.label) for i in items] == [("0.png", "0"), ("1.png", "1"),
                                                           ("2.png", "2"), ("3 three.png", "3"),
                                                            ("4.bmp", "4")]


@pytest.mark.parametrize("change, words", [
    (dict(image_dir="absent"), "is not a folder"),
    (dict(image_dir="empty"), "holds no image"),
    (dict(label_file="absent.txt"), "cannot be read"),
    (dict(label_file="blank.txt"), "is empty"),
    (dict(label_file="wrong.txt"), "line 2: file '.*' does not exist"),
])
def test_folders_and_label_files_of_no_use(folder, change, words):
    (folder / "empty").mkdir()
    (folder / "blank.txt").write_text("\n", encoding="utf-8")
    (folder / "wrong.txt").write_text("0.png 0\nnone.png 1\n", encoding="utf-8")
    with pytest.raises(DataError, match=words):
        list_images(Data(**{k: str(folder / v) for k, v in change.items()}))


def test_all_wrong_lines_of_a_label_file_are_named_at_once(folder):
    (folder / "labels.txt").write_text("0.png 0\nnone.png 1\n1.png cat\nalone\n\x00 2\n",
                                       encoding="utf-8")
    with pytest.raises(DataError) as caught:
        list_images(Data(label_file=str(folder / "labels.txt")), labelled=True)
    text = str(caught.value)
    assert "\n" not in text and "line 1" not in text
    for words in ("line 2: file '.*none.png' does not exist", "line 3: image .* has label 'cat'",
                  "line 4: file '.*alone' does not exist", "line 5: file "):
        assert re.search(words, text), text


def test_many_wrong_lines_are_counted(folder):
    (folder / "labels.txt").write_text("x.png 1\n" * 100, encoding="utf-8")
    with pytest.raises(DataError, match="line 8: [^;]*; and 92 more"):
        list_images(Data(label_file=str(folder / "labels.txt")))


def test_all_files_that_are_not_images_are_named_at_once(folder):
    for name in ("1.png", "4.bmp"):
        (folder / name).write_bytes(b"not an image")
    with pytest.raises(DataError, match="remove or replace these 2 files") as caught:
        opened(folder)
    assert all(f"{name}' cannot be read" in str(caught.value) for name in ("1.png", "4.bmp"))


def opened(folder, labelled=True, seed=0, **change):
    data = Data(**dict(dict(image_dir=str(folder), label_file=str(folder / "labels.txt"),
                            batch_size=2, **RAW), **change))
    return open_loader(data, [TensorInfo("x", (-1, 3, 4, 4))], seed, labelled)


@pytest.mark.parametrize("kinds", [("text", "empty", "cut", "cut"), ("cut", "cut")])
def test_truncated_images_are_named_together_with_the_others(kinds, image, tmp_path, monkeypatch):
    content = image(ramp(40, 40), "good.png").read_bytes()
    bad = {"text": b"not an image", "empty": b"", "cut": content[:len(content) // 2]}
    for k in range(9):
        image(ramp(40, 40), f"{k}.png")
    for k, kind in enumerate(kinds):
        (tmp_path / f"bad{k}.png").write_bytes(bad[kind])
    data = Data(image_dir=str(tmp_path), num_samples=64, batch_size=2)
    with pytest.raises(DataError, match=f"replace these {len(kinds)} files") as caught:
        list(open_loader(data, [TensorInfo("x", (-1, 3, 32, 32))], 0))
    assert all(f"bad{k}.png" in str(caught.value) for k in range(len(kinds)))
    for k in range(len(kinds)):
        (tmp_path / f"bad{k}.png").unlink()
    decoded, once = [], images._decoded
    monkeypatch.setattr(images, "_decoded", lambda *args: decoded.append(args[0]) or once(*args))
    assert len(list(open_loader(data, [TensorInfo("x", (-1, 3, 32, 32))], 0))) == 5
    assert len(decoded) == len(set(decoded)) == 10  # nothing twice


def test_every_image_comes_once_with_its_label_and_again_in_a_second_pass(folder):
    loader = opened(folder)
    assert len(loader) == 3
    for _ in range(2):
        pairs = [(int(x[0, 0, 0]), int(y)) for feed, labels in loader
                 for x, y in zip(feed["x"], labels)]
        assert sorted(pairs) == [(10 * k, k) for k in range(5)]


def test_the_seed_draws_and_orders(folder):
    def drawn(seed, count=3):
        return [float(x[0, 0, 0]) for feed in opened(folder, False, seed,
                                                     num_samples=count) for x in feed["x"]]
    assert drawn(0) == drawn(0) and len(drawn(0)) == 3
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 3
    assert drawn(0) == drawn(0, 5)[:3]


@pytest.mark.parametrize("label, words", [("cat", "label 'cat'"), ("", "no label")])
def test_scores_need_class_numbers(folder, label, words):
    (folder / "labels.txt").write_text(f"0.png {label}\n", encoding="utf-8")
    with pytest.raises(DataError, match=words):
        opened(folder)
    assert len(list(opened(folder, labelled=False))) == 1


@pytest.mark.parametrize("inputs, change, words", [
    ([TensorInfo("x", (-1, 3, -1, -1))], {}, "set Data.input_shape"),
    ([TensorInfo("x", (-1, 3, 8, 8))], dict(input_shape=[3, 4, 4]),
     "does not fit the model's input .*: give its C, H, W"),
    ([TensorInfo("x", (-1, 1, 8, 8))], {},
     "has 1 channels, Data.layout RGB gives 3: set Data.layout: GRAY"),
    ([TensorInfo("x", (-1, 3, 8, 8))], dict(layout="GRAY"), "gives 1: set Data.layout: RGB"),
    ([TensorInfo("x", (-1, 4, 8, 8))], {}, "has 4 channels, .* set Data.loader"),
    *[([TensorInfo("x", (-1, *shape))], change, r"wants \[N, H, W, C\] .* NCHW, or .* Data.loader")
      for shape, change in [((8, 8, 3), {}), ((-1, -1, 3), {}), ((8, 8, 1), dict(layout="GRAY")),
                            ((8, 8, 3), dict(input_shape=[3, 8, 8]))]],
    ([TensorInfo("x", (-1, 10))], {}, "no image"),
    *[([TensorInfo("x", (-1, 3, 8, 8), "uint8")], change,
       r"takes whole numbers \(uint8\), .*: set Data.scale=1, Data.mean=\[0,0,0\] and Data.std=")
      for change in ({}, dict(RAW, mean=[0, 0, 1]), dict(RAW, std=[1, 1, 2]))],
    ([TensorInfo("x", (-1, 3, 4, 4)), TensorInfo("y", (-1, 2))], {}, "set Data.loader"),
])
def test_models_that_an_image_folder_does_not_fit(folder, inputs, change, words):
    with pytest.raises(DataError, match=words):
        open_loader(Data(image_dir=str(folder), **change), inputs, 0)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16"])
def test_pixels_come_in_the_type_of_the_input(folder, dtype):
    data = Data(image_dir=str(folder), **RAW)
    pixels = {d: [feed["x"] for feed in open_loader(data, [TensorInfo("x", (-1, 3, 4, 4), d)], 0)]
              for d in ("float32", dtype)}
    assert pixels[dtype][0].dtype == dtype and len(pixels[dtype][0]) == 5
    np.testing.assert_array_equal(pixels[dtype], pixels["float32"])


def test_no_source_at_all():
    with pytest.raises(DataError, match="set Data.image_dir or Data.loader, or pass data_loader"):
        open_loader(Data(), [TensorInfo("x", (-1, 3, 4, 4))], 0)


@pytest.mark.parametrize("name, pixels", [
    ("a.png", lambda g: (g * 255).astype(np.uint8)), ("b.png", lambda g: (g * 65535).astype("u2")),
    ("b.tif", lambda g: (g * 65535).astype("u2")), ("c.tif", lambda g: g.astype(np.float32)),
    ("d.tif", lambda g: (g * 255).astype(np.float32))])
def test_pixels_of_more_than_8_bits_are_scaled(name, pixels, tmp_path):
    gray = np.linspace(0, 1, 64).reshape(8, 8)
    Image.fromarray(pixels(gray)).save(tmp_path / name)
    data = Data(crop="resize", mean=[0, 0, 0], std=[1, 1, 1])
    np.testing.assert_allclose(read_image(tmp_path / name, data, (8, 8)),
                               np.stack([gray] * 3), atol=1 / 255)


def test_pictures_of_an_earlier_result_are_not_images(tmp_path):
    for place in ("photo.png", "out/oscillation.png", "out/visualdl/x.png", ".partial/x.png",
                  "new.partial/result/oscillation.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / place)
    for name in ("out/report.json", "out/resolved_config.yaml", "new.partial/.paddle_mrecg"):
        (tmp_path / name).touch()
    found = list_images(Data(image_dir=str(tmp_path)))
    assert [i.path.name for i in found] == ["photo.png"]
