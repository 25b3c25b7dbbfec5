# SPDX-License-Identifier: Apache-2.0
"""The detection script: its recipes, its results file, its picture."""
import numpy as np
import pytest
from PIL import Image

from demo.detection import models, pictures, quant_post


@pytest.mark.parametrize("model", models.NAMES)
def test_every_model_has_a_recipe_that_takes_overrides_and_the_seed(model):
    config = quant_post.load(quant_post.parse_args(["--model", model, "--seed", "7",
                                                    "MRECG.num_iters=5"]))
    assert (config.global_.seed, config.mrecg.num_iters, config.quant_post.weight_bits) == (7, 5, 4)
    if not model.startswith("ppocr"):  # a loader of another network would feed other pixels
        assert (config.data.loader_args["model"] == config.evaluation.evaluator_args["model"]
                == model)


@pytest.mark.parametrize("model", models.YOLO)
def test_both_heads_of_a_yolo_have_8_bits(model, shared_data, tmp_path):
    shared_data("weights/yolo-fastest-1.1")
    from paddle_mrecg.graph.load import load_graph
    from paddle_mrecg.post.scheme import build_scheme
    from demo.detection import yolo_fastest
    kinds = [section.kind for section in yolo_fastest.parse_cfg(models._darknet(model, ".cfg"))]
    number = kinds[:kinds.index("yolo")].count("convolutional") - 1
    graph = load_graph(models.inference_model(model, str(tmp_path)))
    config = quant_post.load(quant_post.parse_args(["--model", model]))
    scheme = build_scheme(graph, config.quant_post, config.global_.target)
    bits = {name: spec.bits for name, spec in scheme.weights.items()}
    assert bits[f"conv2d_{number}.w_0"] == 8
    assert sorted(bits.values()) == [4] * (len(bits) - 3) + [8] * 3


def test_a_missing_folder_is_said_and_skipped(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MRECG_SHARED_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # no export of an earlier run
    assert quant_post.main(["--model", "yolo_fastest", "--save_dir", str(tmp_path / "out")]) == 1
    assert "skipped: yolo_fastest needs weights/yolo-fastest-1.1" in capsys.readouterr().out


def test_both_programs_are_drawn_side_by_side(tmp_path, monkeypatch):
    photographs = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in photographs:
        Image.new("RGB", (240, 120)).save(path)
    square = np.array([[20, 20], [100, 20], [100, 100], [20, 100]])
    monkeypatch.setattr(pictures, "shapes_on",
                        lambda model, predict, path: [pictures.Shape(square, "cat 0.90", 3)]
                        * predict)
    sheet = Image.open(pictures.side_by_side(tmp_path / "x.png", "picodet",
                                             {"float": 1, "quantized": 0}, photographs))
    assert sheet.size == (2 * pictures.WIDTH, 2 * (240 + pictures.CAPTION))
    side = (40, pictures.CAPTION + 100)  # on the left side of the square, at twice its size
    assert sheet.getpixel(side) == pictures.colour_of(3)
    assert sheet.getpixel((pictures.WIDTH + side[0], side[1])) == (0, 0, 0)


def test_what_is_drawn_is_what_the_network_finds(tmp_path, monkeypatch):
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures.coco, "class_names", lambda: ["person", "bicycle"])
    rows = np.float32([[1, 0.9, 10, 20, 30, 40], [0, 0.2, 0, 0, 5, 5]])
    shape, = pictures.shapes_on("picodet", lambda feed: [rows, np.array([2])], tmp_path / "a.png")
    assert (shape.label == "bicycle 0.90"
            and shape.outline.tolist() == [[10, 20], [30, 20], [30, 40], [10, 40]])
