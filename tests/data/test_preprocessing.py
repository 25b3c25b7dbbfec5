# SPDX-License-Identifier: Apache-2.0
"""How a model wants its images, from the file that its exporter wrote."""
import numpy as np
import pytest
import yaml
from PIL import Image

from paddle_mrecg.config import Data
from paddle_mrecg.config.io import load_config
from paddle_mrecg.data.images import original_size, scale_factors
from paddle_mrecg.data.preprocessing import preprocessing
from paddle_mrecg.data.sources import open_loader
from paddle_mrecg.errors import DataError, ModelError
from paddle_mrecg.graph.graph import TensorInfo

IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
CLAS = {"PreProcess": {"transform_ops": [
    {"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}},
    {"NormalizeImage": dict(IMAGENET, channel_num=3, order="", scale=0.00392156862745098)},
    {"ToCHWImage": None}]}}
DET = {"arch": "PicoDet", "Preprocess": [
    {"type": "Resize", "interp": 2, "keep_ratio": False, "target_size": [320, 416]},
    dict(IMAGENET, type="NormalizeImage", is_scale=True), {"type": "Permute"}]}
PPYOLOE = {"Preprocess": [
    {"type": "Resize", "keep_ratio": True, "target_size": [640, 640]},
    {"type": "NormalizeImage", "mean": [0.0], "std": [1.0], "norm_type": "none"}]}
OCR_DET = {"PreProcess": {"transform_ops": [
    {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}, {"DetLabelEncode": None},
    {"DetResizeForTest": {"resize_long": 960}},
    {"NormalizeImage": dict(IMAGENET, order="hwc", scale="1./255.")}]}}
OCR_REC = {"PreProcess": {"transform_ops": [
    {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
    {"RecResizeImg": {"image_shape": [3, 48, 320]}}]}}
SEG = {"Deploy": {"transforms": [{"type": "Resize", "target_size": [512, 512]},
                                 {"type": "Normalize"}]}}


def read(tmp_path, content, name="inference.yml"):
    (tmp_path / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return preprocessing(str(tmp_path))


@pytest.mark.parametrize("content, name, wanted", [
    (CLAS, "inference.yml", dict(IMAGENET, resize_short=256, crop="center",
                                 input_shape=[3, 224, 224])),
    (DET, "infer_cfg.yml", dict(IMAGENET, crop="resize", input_shape=[3, 320, 416])),
    (PPYOLOE, "infer_cfg.yml", dict(crop="pad", input_shape=[3, 640, 640], mean=[0.0] * 3,
                                    std=[1.0] * 3)),
    (OCR_DET, "inference.yml", dict(IMAGENET, crop="resize", layout="BGR",
                                    input_shape=[3, 640, 640])),
    (OCR_REC, "inference.yml", dict(mean=[0.5] * 3, std=[0.5] * 3, crop="pad", layout="BGR",
                                    input_shape=[3, 48, 320])),
    (SEG, "deploy.yaml", dict(mean=[0.5] * 3, std=[0.5] * 3, crop="resize",
                              input_shape=[3, 512, 512]))])
def test_the_file_of_every_suite(tmp_path, content, name, wanted):
    found, source = read(tmp_path, content, name)
    assert source == str(tmp_path / name)
    data = load_config({"Data": found}).data
    assert {key: getattr(data, key) for key in wanted} == wanted
    assert data.scale == pytest.approx(1 / 255)


def test_pixels_that_are_not_scaled(tmp_path):
    content = {"Preprocess": [dict(type="NormalizeImage", mean=[123.0, 117.0, 104.0],
                                   std=[58.0, 57.0, 57.0], is_scale=False)]}
    found, _ = read(tmp_path, content)
    assert found["scale"] == 1.0 and found["mean"] == [123.0, 117.0, 104.0]


@pytest.mark.parametrize("name, keys", [
    ("ch_PP-OCRv4_det_infer", dict(layout="BGR", input_shape=[3, 640, 640])),
    ("ch_PP-OCRv4_rec_infer", dict(crop="pad", input_shape=[3, 48, 320])),
    ("ch_ppocr_mobile_v2.0_cls_infer", dict(input_shape=[3, 48, 192])),
    ("PPLCNet_x1_0_infer", dict(resize_short=256))])
def test_a_family_is_known_by_name(tmp_path, name, keys):
    (tmp_path / name).mkdir()
    found, _ = preprocessing(str(tmp_path / name / "inference"))
    assert keys.items() <= found.items()


def test_an_unknown_model_and_a_file_that_says_nothing(tmp_path):
    (tmp_path / "mine").mkdir()
    assert preprocessing(str(tmp_path / "mine")) is None
    assert read(tmp_path / "mine", {"Global": {"model_name": "x"}}) is None


@pytest.mark.parametrize("step", [{"CropImage": {"size": "large"}}, {"ResizeImage": [224]},
                                  {"NormalizeImage": {"scale": "__import__('os')"}},
                                  {"NormalizeImage": {"scale": "1/0"}}])
def test_a_step_that_is_not_understood_is_one_sentence(tmp_path, step):
    with pytest.raises(ModelError, match="cannot be understood"):
        read(tmp_path, {"PreProcess": {"transform_ops": [step]}})
    (tmp_path / "inference.yml").write_text("a: [", encoding="utf-8")
    with pytest.raises(ModelError, match="not valid YAML"):
        preprocessing(str(tmp_path))


def test_sizes_that_detectors_read_next_to_the_image(tmp_path):
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(tmp_path / "a.png")
    inputs = [TensorInfo("im_shape", (-1, 2)), TensorInfo("image", (-1, 3, 20, 20)),
              TensorInfo("scale_factor", (-1, 2))]
    feed = next(iter(open_loader(Data(image_dir=str(tmp_path), crop="resize"), inputs, 0)))
    assert feed["image"].shape == (1, 3, 20, 20) and feed["im_shape"].tolist() == [[20, 20]]
    assert feed["scale_factor"].tolist() == [[0.5, 0.25]]
    with pytest.raises(DataError, match="fills one"):
        open_loader(Data(image_dir=str(tmp_path)), inputs + [TensorInfo("more", (-1, 2))], 0)


def test_scale_factors_of_a_crop_and_of_an_image_on_its_side(tmp_path):
    assert scale_factors((200, 100), Data(crop="center", resize_short=50), (40, 40)) == (0.5, 0.5)
    image = Image.fromarray(np.zeros((4, 8, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert original_size(tmp_path / "a.jpg") == (8, 4)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read"):
        original_size(tmp_path / "b.jpg")
