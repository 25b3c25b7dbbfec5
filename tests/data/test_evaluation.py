# SPDX-License-Identifier: Apache-2.0
"""Top-1 and top-5 against counting by hand, and evaluators named in YAML."""
import types

import numpy as np
import pytest
from PIL import Image

from paddle_mrecg.config import Data, Evaluation
from paddle_mrecg.data import images
from paddle_mrecg.errors import DataError
from paddle_mrecg.data.evaluation import classification_metrics, make_evaluator
from paddle_mrecg.graph.graph import TensorInfo


def metrics(scores, labels, offset=0):
    return classification_metrics(lambda feed: [np.asarray(scores, "float32")],
                                  [({}, np.asarray(labels))], offset)


def test_agrees_with_argsort_on_random_scores():
    random = np.random.RandomState(0)
    scores, labels = random.rand(200, 10), random.randint(0, 10, 200)
    order = np.argsort(-scores, 1)
    found = metrics(scores, labels)
    assert found["top1"] == (order[:, 0] == labels).mean()
    assert found["top5"] == (order[:, :5] == labels[:, None]).any(1).mean()


def test_equal_scores_go_to_the_first_class_as_in_argmax():
    assert metrics(np.zeros((10, 10)), np.arange(10)) == {"top1": 0.1, "top5": 0.5}


def test_scores_that_are_not_finite_are_misses():
    scores = np.eye(3, 6)
    scores[1, 5] = np.nan
    assert metrics(scores, [0, 1, 2])["top1"] == pytest.approx(2 / 3)


def test_label_offset_and_trailing_axes():
    assert metrics(np.eye(4, 6)[1:, :, None, None], [0, 1, 2], offset=1)["top1"] == 1.0


def test_batches_of_unequal_size_weigh_by_samples():
    def batches():
        for size, label in ((3, 0), (1, 1)):
            yield {"x": np.zeros(size)}, np.full(size, label)
    assert (classification_metrics(lambda feed: [np.eye(1, 6).repeat(len(feed["x"]), 0)],
                                   batches())["top1"] == 0.75)


@pytest.mark.parametrize("scores, labels, words", [
    (np.zeros((2, 3)), [0, 3], "labels reach from 0 to 3, the model has 3 classes"),
    (np.zeros((2, 3)), [-1, 0], "check label_file and Evaluation.label_offset"),
    (np.zeros((4, 3)), [0, 1], "no scores per class"),
    (np.zeros((2, 1)), [0, 0], "no scores per class"),
])
def test_outputs_and_labels_that_do_not_fit(scores, labels, words):
    with pytest.raises(DataError, match=words):
        metrics(scores, labels)


def test_no_sample():
    with pytest.raises(DataError, match="evaluation data is empty"):
        classification_metrics(lambda feed: [], [])


def test_an_empty_section_scores_nothing():
    assert make_evaluator(Evaluation(), 0) is None


class Brightness:
    """Two classes: dark and bright."""

    def __call__(self, feed):
        level = feed["x"].mean((1, 2, 3))
        return [np.stack([1 - level, level], 1)]


@pytest.mark.parametrize("knows",
                         [dict(inputs=[TensorInfo("x", (-1, 3, 4, 4))]), dict(input_names=["x"])])
def test_labelled_images(tmp_path, monkeypatch, knows):
    for k in range(6):
        Image.new("RGB", (4, 4), (255 * (k % 2),) * 3).save(tmp_path / f"{k}.png")
    (tmp_path / "labels.txt").write_text("".join(f"{k}.png {k % 2 if k else 1}\n"
                                                 for k in range(6)), encoding="utf-8")
    data = Data(label_file=str(tmp_path / "labels.txt"), batch_size=4, input_shape=[3, 4, 4],
                mean=[0.0] * 3, std=[1.0] * 3)
    looked_at, original_size = [], images.original_size
    monkeypatch.setattr(images, "original_size", lambda p: looked_at.append(p) or original_size(p))
    evaluator, predict = make_evaluator(Evaluation(data=data), 0), Brightness()
    vars(predict).update(knows)
    assert evaluator(predict) == evaluator(predict)
    assert evaluator(predict)["top1"] == pytest.approx(5 / 6)  # one label is wrong
    assert len(looked_at) == 6  # by make_evaluator, not again for each program


def test_evaluator_of_the_user(monkeypatch):
    module = types.ModuleType("my_scores")
    module.score = lambda predict, factor: {"sum": factor * predict(np.ones(2))[0].sum()}
    module.wrong = lambda predict: 3
    monkeypatch.setitem(__import__("sys").modules, "my_scores", module)

    def evaluate(name, **arguments):
        return make_evaluator(Evaluation(evaluator=f"my_scores:{name}", evaluator_args=arguments),
                              0)(lambda batch: [batch])

    assert evaluate("score", factor=3) == {"sum": 6.0}
    with pytest.raises(DataError, match="must return a mapping of metric names to numbers"):
        evaluate("wrong")
    with pytest.raises(DataError, match="Evaluation.evaluator_args"):
        evaluate("score", fctor=1)


def test_what_is_wrong_with_labels_shows_before_anything_is_scored(tmp_path):
    labels = tmp_path / "labels.txt"
    for text, words in ((None, "cannot be read"), ("no.png 1\n", "line 1: .*does not exist")):
        if text:
            labels.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=words):
            make_evaluator(Evaluation(data=Data(label_file=str(labels))), 0)


@pytest.mark.parametrize("evaluation", [Evaluation(evaluator="no_such_module:score"),
                                        Evaluation(data=Data(loader="no_such_module:load"))])
def test_a_function_that_is_not_there_shows_at_once(evaluation):
    with pytest.raises(DataError, match="no module named 'no_such_module'"):
        make_evaluator(evaluation, 0)
