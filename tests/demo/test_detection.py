# SPDX-License-Identifier: Apache-2.0
"""Decoding, suppression and average precision, each on a case whose answer is known."""
import numpy as np
import pytest
from PIL import Image

from demo.detection import boxes, coco, detectors
from demo.detection.yolo_fastest import Head

HEAD = Head(np.float32([[32, 16], [8, 8]]), 2, 1.0)


def test_an_empty_head_gives_anchors_in_the_middle_of_their_cells():
    found, scores = boxes.decode_head(np.zeros((14, 2, 4), np.float32), HEAD, (32, 64))
    assert found.shape == (16, 4) and np.allclose(scores, 0.25)
    # second anchor, second row, third column: centre (2.5 / 4, 1.5 / 2), 8 of 64 wide, 8 of 32 high
    assert np.allclose(found[8 + 4 + 2],
                       [0.625 - 1 / 16, 0.75 - 1 / 8, 0.625 + 1 / 16, 0.75 + 1 / 8])


def test_every_number_of_a_head_has_its_place():
    output = np.zeros((14, 1, 1), np.float32)
    output[:7, 0, 0] = [np.log(3), -np.log(3), np.log(2), 0, 100, -100, np.log(4)]
    found, scores = boxes.decode_head(output, HEAD, (32, 64))
    assert np.allclose(found[0], [0.75 - 0.5, 0.25 - 0.25, 0.75 + 0.5, 0.25 + 0.25], atol=1e-6)
    assert np.allclose(scores[0], [0, 0.8])
    stretched, _ = boxes.decode_head(output, HEAD._replace(scale_xy=1.2), (32, 64))
    assert np.allclose(stretched[0] - found[0], [0.05, -0.05, 0.05, -0.05])


def test_suppression_is_by_class_and_keeps_the_best():
    # IoU 9/11, 1/3 with the first
    squares = np.float32([[0, 0, 10, 10], [1, 0, 11, 10], [5, 0, 15, 10], [50, 50, 60, 60]])
    scores = np.float32([[0.6, 0.5], [0.7, 0.0], [0.4, 0.0], [0.0, 0.001]])
    found = boxes.suppress(squares, scores, 0.01, 0.45)
    assert found.boxes[:, 0].tolist() == [1, 0, 5] and found.classes.tolist() == [0, 1, 0]
    assert found.scores == pytest.approx([0.7, 0.5, 0.4])
    # the third overlaps the second by 6/14
    assert len(boxes.suppress(squares, scores, 0.01, 0.3).scores) == 2
    assert len(boxes.suppress(squares, scores, 0.01, 0.45, keep=1).scores) == 1
    assert boxes.suppress(squares, scores, 0.9, 0.45).boxes.shape == (0, 4)


def test_detections_are_in_pixels_of_their_image_and_inside():
    output = np.zeros((2, 14, 1, 1), np.float32)
    output[0, 4:7, 0, 0] = [100, 100, -100]
    first, second = boxes.detect([output], [HEAD], (32, 32), [(100, 200), (10, 10)], threshold=0.5)
    assert np.allclose(first.boxes, [[0, 25, 200, 75]]) and first.classes.tolist() == [0]
    assert not len(second.scores)


def found(*rows):
    rows = np.float32(rows).reshape(-1, 6)
    return boxes.Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(int))


def test_average_precision_of_hits_near_misses_and_misses():
    pytest.importorskip("pycocotools")
    labels = [np.array([[3, 0.5, 0.5, 0.5, 0.5]]),
              np.array([[3, 0.25, 0.25, 0.5, 0.5], [7, 0.5, 0.5, 1.0, 1.0]])]
    sizes = [(100, 200), (100, 100)]
    perfect = [found([50, 25, 150, 75, 0.9, 3]),
               found([0, 0, 50, 50, 0.8, 3], [0, 0, 100, 100, 0.7, 7])]
    assert (coco.average_precision(perfect, labels, sizes)
            == pytest.approx({"mAP": 100.0, "AP50": 100.0}))
    # class 7 is found with IoU 0.72 and counts at 0.5, 0.55, 0.6, 0.65, 0.7:
    # half of the ten thresholds
    loose = [perfect[0], found([0, 0, 50, 50, 0.8, 3], [0, 0, 100, 72, 0.7, 7])]
    assert (coco.average_precision(loose, labels, sizes)
            == pytest.approx({"mAP": 75.0, "AP50": 100.0}))
    # class 3 finds one of two: precision 1 up to a recall of one half, which
    # is 51 of COCO's 101 points
    half = [perfect[0], found([0, 0, 100, 100, 0.7, 7])]
    assert (coco.average_precision(half, labels, sizes)["AP50"]
            == pytest.approx(100 * (51 / 101 + 1) / 2))
    assert coco.average_precision([found(), found()], labels, sizes) == {"mAP": 0.0, "AP50": 0.0}


def test_labels_lie_next_to_the_images(tmp_path):
    path = tmp_path / "images" / "val2017" / "a.jpg"
    assert coco.read_label(path).shape == (0, 5)  # nothing on the picture
    label = tmp_path / "labels" / "val2017" / "a.txt"
    label.parent.mkdir(parents=True)
    label.write_text("3 0.5 0.5 0.25 1\n7 0.1 0.2 0.3 0.4\n", encoding="utf-8")
    assert coco.read_label(path).tolist() == [[3, 0.5, 0.5, 0.25, 1], [7, 0.1, 0.2, 0.3, 0.4]]


def test_inputs_are_squeezed_and_picodet_learns_by_how_much(tmp_path):
    Image.new("RGB", (200, 104), (255, 0, 0)).save(tmp_path / "red.png")
    inputs, sizes = detectors.feed("yolo_fastest", [tmp_path / "red.png"])
    assert sizes == [(104, 200)] and inputs["image"].shape == (1, 3, 320, 320)
    assert inputs["image"][0, :, 5, 5].tolist() == [1, 0, 0]
    inputs, _ = detectors.feed("picodet", [tmp_path / "red.png"])
    assert inputs["image"][0, 0, 5, 5] == pytest.approx((1 - 0.485) / 0.229)
    assert inputs["scale_factor"].tolist() == [pytest.approx([4.0, 2.08])]


def test_training_sees_other_parts_of_the_same_photographs_for_another_seed(tmp_path, monkeypatch):
    gradient = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (60, 1, 3))
    for k in range(3):
        Image.fromarray(gradient + 100 * (k == 2)).save(tmp_path / f"{k}.png")
    monkeypatch.setattr(coco, "image_paths",
                        lambda part, count: [tmp_path / f"{k}.png" for k in range(count)])
    batches = [b["image"]
               for b in detectors.training_views("yolo_fastest", 3, views=2, seed=1, batch_size=2)]
    assert [len(b) for b in batches] == [2, 1, 2, 1] and batches[0].shape[1:] == (3, 320, 320)
    # what each part has on its left and on its right
    ends = 255 * np.concatenate(batches)[:, 0, 0][:, [0, -1]]
    wide = np.abs(ends[:, 1] - ends[:, 0])
    assert (wide > 55).all() and (wide < 99).any(), "parts are at least 60 % wide"
    assert sorted(ends.min(1) >= 100) == [False] * 4 + [True] * 2, (
        "every view shows every photograph once")
    again, other = (np.concatenate([b["image"]
                                    for b in detectors.training_views("yolo_fastest", 3, 2, seed,
                                                                      2)]) for seed in (1, 2))
    assert (again == np.concatenate(batches)).all() and (other != again).any()


def test_a_drawn_part_lies_inside_and_may_be_mirrored(tmp_path):
    Image.fromarray(np.tile(np.arange(100, dtype=np.uint8)[None, :, None],
                            (60, 1, 3))).save(tmp_path / "a.png")
    random = np.random.default_rng(0)
    for _ in range(20):
        left, top, right, bottom = coco.random_part(100, 60, random)
        assert (0 <= left and right <= 100 and right - left >= 60 and 0 <= top and bottom <= 60
                and bottom - top >= 36)
    rising = {bool(pixels[0, -1, 0] > pixels[0, 0, 0])
              for pixels, _ in (coco.squeezed(tmp_path / "a.png", (8, 8), random=random)
                                for _ in range(20))}
    assert rising == {True, False}
    pixels, size = coco.squeezed(tmp_path / "a.png", (60, 100))
    assert size == (60, 100) and (255 * pixels[0, :, 0]).round().tolist() == list(range(100)), (
        "all of it without a generator")


def test_rows_of_a_suppressing_network_are_dealt_to_their_images():
    rows = np.float32([[5, 0.9, 0, 0, 1, 1], [6, 0.001, 0, 0, 1, 1], [7, 0.8, 2, 2, 3, 3]])
    first, second, third = detectors.detections("picodet", [rows, np.array([2, 0, 1])],
                                                [(9, 9)] * 3)
    assert (first.classes.tolist() == [5] and not len(second.scores)
            and third.boxes.tolist() == [[2, 2, 3, 3]])
