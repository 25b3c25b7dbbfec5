# SPDX-License-Identifier: Apache-2.0
"""The models of the deployment table: where they are, what they are
fed, and how they are scored.
"""
import dataclasses
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from demo import sources
from demo.classification import cifar10
from demo.detection import coco, detectors, models
from demo.detection.detectors import IMAGENET_MEAN, IMAGENET_STD
from demo.ocr import det, rec
from demo.quickstart import render

Feed = Dict[str, np.ndarray]
ALL = slice(None)


@dataclasses.dataclass
class Workload:
    """One model.

    Attributes:
        model_dir(callable): -> directory of the float model; raises ``sources.Absent``.
        calibration(callable): number and, optionally, a seed -> inputs for calibration: the first
            ones, or drawn by a seed other than 0 (PP-OCRv4 det has too few to draw from).
        evaluation(callable): number -> (inputs, score); ``score(outputs, rows=ALL)`` maps the list
            of outputs to a figure in percent, of all samples or of a slice of them.
        metric(str): what the score is.
        samples(int): for the score.
        shapes(tuple): input shapes for timing, one sample.
        calibrate(int): samples for calibration.
    """

    model_dir: Callable[[], str]
    calibration: Callable[..., Feed]
    evaluation: Optional[Callable]
    metric: str
    samples: int
    shapes: Tuple[Tuple[int, ...], ...]
    calibrate: int = 32

    @property
    def batch_size(self) -> int:
        """Samples that the model takes at once: one where an input tells the image's scale."""
        return 1 if len(self.shapes) > 1 else 8


def batches(feed: Feed, size: int) -> List[Feed]:
    """``feed`` in pieces of ``size`` samples."""
    count = len(next(iter(feed.values())))
    return [{n: v[k:k + size] for n, v in feed.items()} for k in range(0, count, size)]


def _drawn(items: Sequence, count: int, seed: int) -> list:
    """``count`` of the items: the first ones, or drawn by a seed other than 0."""
    rows = np.random.default_rng(seed).permutation(len(items)) if seed else range(len(items))
    return [items[k] for k in rows[:count]]


def _images(folder: str, count: int, seed: int, size: Tuple[int, int], mean, std) -> np.ndarray:
    """Photographs of a folder of the measuring data, squeezed to ``size``."""
    found = sorted(p for p in sources.shared_data(folder).rglob("*")
                   if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = _drawn(found, count, seed)
    result = []
    for path in paths:
        with Image.open(path) as image:
            pixels = (np.asarray(image.convert("RGB").resize(size[::-1], Image.BILINEAR),
                                 np.float32) / 255.0)
        result.append(((pixels - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1))
    return np.stack(result).astype(np.float32)


def _top1(labels):
    return lambda outputs, rows=ALL: 100.0 * float(
        (outputs[0].argmax(-1) == labels)[rows].mean())


def _imagenet(count: int, mean, std, shift: int = 0):
    """Centre crops of the validation images, and their labels."""
    lines = (sources.shared_data("imagenet")
             / "val.txt").read_text(encoding="utf-8").splitlines()[:count]
    folder, images, labels = sources.shared_data("imagenet/val"), [], []
    for line in lines:
        name, label = line.rsplit(" ", 1)
        with Image.open(folder / name) as image:
            pixels = np.asarray(image.convert("RGB"), np.float32)[1:225, 1:225] / 255.0
        images.append(((pixels - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1))
        labels.append(int(label) + shift)
    return np.stack(images).astype(np.float32), np.array(labels)


def _classifier(name, mean, std, shift=0):
    def evaluation(count):
        images, labels = _imagenet(count, mean, std, shift)
        return {name: images}, _top1(labels)

    return ((lambda count, seed=0: {name: _images("imagenet/calib", count, seed, (224, 224), mean,
                                                  std)}),
            evaluation)


def _direction_set(count):
    images, labels = render.rendered_set("evaluation", count, 0)
    return {"x": images}, _top1(labels)


def _recognizer(model):
    """Words read right."""
    def calibration(count, seed=0):
        images = rec.word_set("ocr/iiit5k_train", None if seed else count)[0]
        return {"x": np.stack(_drawn(images, count, seed))}

    def evaluation(count):
        images, texts = rec.word_set("ocr/iiit5k_test", count)
        characters = rec.read_characters(sources.characters_file(model))

        def score(outputs, rows=ALL):
            read = map(rec.alphanumeric, rec.ctc_decode(outputs[0], characters))
            right = [a == rec.alphanumeric(b) for a, b in zip(read, texts)]
            return 100.0 * float(np.mean(right[rows]))

        return {"x": images}, score

    return Workload(lambda: sources.model_dir(model), calibration, evaluation,
                    "word accuracy, IIIT5K", 64, ((1, 3, 48, 320),))


def _cifar(count):
    images, labels = cifar10.test_set(cifar10.DATA_DIR, count)
    return {"image": images}, _top1(labels)


def _exported(name):
    def directory():
        from demo.classification.models import inference_model
        return inference_model(name)

    return directory


def _detector(name):
    """AP50 of an object detector."""
    def evaluation(count):
        paths = coco.image_paths("val2017", count)
        feed, sizes = detectors.feed(name, paths)
        labels = [coco.read_label(path) for path in paths]

        def score(outputs, rows=ALL):
            found = detectors.detections(name, outputs, sizes)
            return coco.average_precision(found[rows], labels[rows], sizes[rows])["AP50"]

        return feed, score

    def calibration(count, seed=0):
        return detectors.feed(name, _drawn(coco.image_paths("train2017"), count, seed))[0]

    return calibration, evaluation


def _scenes(count, long_side=det.LONG_SIDE, own=False):
    """Photographs of one size with words on them: those that are labelled, or the float network's
    own findings.
    """
    paths, images, sizes = det.image_paths()[:count], [], []
    for path in paths:
        with Image.open(path) as image:
            images.append(det.preprocess(image, long_side))
            sizes.append((image.height, image.width))
    feed = {"x": np.stack(images)}

    def words(outputs, rows=ALL):
        return [det.find_words(scores[0], size)
                for scores, size in zip(outputs[0][rows], sizes[rows])]

    truth = [det.read_words(path) for path in paths]
    if own:
        from paddle_mrecg.deploy.predictor import Predictor
        predict = Predictor(f"{sources.model_dir('ppocr_det')}/inference")
        whole = np.concatenate([predict(batch)[0] for batch in batches(feed, 2)])
        truth = [[det.Word(corners, True) for corners in found] for found in words([whole])]

    def score(outputs, rows=ALL):
        pairs = zip(words(outputs, rows), truth[rows])
        return det.rates([det.match(*pair) for pair in pairs])["hmean"]

    return feed, score


def _text_detector(metric, long_side=det.LONG_SIDE, own=False):
    return Workload(
        lambda: sources.model_dir("ppocr_det"),
        lambda n, seed=0: {"x": np.concatenate(list(det.calibration(
            n, tile=(480, 640), long_side=long_side)))},
        lambda count: _scenes(count, long_side, own),
        metric,
        16,
        ((1, 3, 480, 640),),
        16,
    )


_LCNET = _classifier("x", IMAGENET_MEAN, IMAGENET_STD)
_V1 = _classifier("image", (0.5,) * 3, (0.5,) * 3, shift=1)
WORKLOADS = {
    "PP-OCRv2 cls": Workload(
        lambda: sources.model_dir("ppocr_cls"),
        lambda n, seed=0: {"x": render.rendered_set("calibration", n, 1000 + seed)[0]},
        _direction_set,
        "direction accuracy, rendered lines",
        200,
        ((1, 3, 48, 192),),
        64,
    ),
    "PP-OCRv4 rec": _recognizer("ppocr_rec"),
    "PP-OCRv4 det": _text_detector("hmean, ICDAR 2015"),
    "PP-LCNetV2": Workload(
        lambda: sources.model_dir("pplcnetv2"),
        *_LCNET,
        "top-1, ImageNet subset",
        48,
        ((1, 3, 224, 224),),
    ),
    "PicoDet-416": Workload(
        lambda: sources.model_dir("picodet"),
        *_detector("picodet"),
        "AP50, COCO subset",
        32,
        ((1, 3, 416, 416), (1, 2)),
        16,
    ),
    "Yolo-Fastest-xl": Workload(
        lambda: models.inference_model("yolo_fastest_xl"),
        *_detector("yolo_fastest_xl"),
        "AP50, COCO subset",
        32,
        ((1, 3, 320, 320),),
    ),
    "MobileNetV1": Workload(
        _exported("mobilenet_v1"), *_V1, "top-1, ImageNet subset", 48, ((1, 3, 224, 224),)
    ),
    "ResNet-20": Workload(
        _exported("cifar_resnet20"),
        lambda n, seed=0: {"image": cifar10.calibration_set(cifar10.DATA_DIR, n, seed)},
        _cifar,
        "top-1, CIFAR-10",
        200,
        ((1, 3, 32, 32),),
        64,
    ),
}
FULL_SIZE = 1280  # pixels of the photographs' long side
TEXT_DETECTORS = {  # other measures of the same network, for ``compare_analysis.py``
    "PP-OCRv4 det, full size": _text_detector("hmean, ICDAR 2015", FULL_SIZE),
    "PP-OCRv4 det, full size, own words": _text_detector(
        "hmean against the float network's words", FULL_SIZE, own=True),
}
RECOGNIZERS = {  # of other versions, for ``compare_steps.py``
    "PP-OCRv3 rec": _recognizer("ppocrv3_rec"),
    "PP-OCRv3 rec, English": _recognizer("ppocrv3_rec_en"),
    "PP-OCRv5 rec": _recognizer("ppocrv5_rec"),
}
