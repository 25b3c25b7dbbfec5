# SPDX-License-Identifier: Apache-2.0
"""CTC decoding and word accuracy."""
import numpy as np
import pytest

from demo.ocr import rec

CHARACTERS = ["", "a", "b", " "]


def scores(*best):
    return np.eye(len(CHARACTERS), dtype=np.float32)[list(best)][None]


@pytest.mark.parametrize("best, text", [
    ((1, 1, 0, 1, 2), "aab"),  # repetition merged, blank separates a double letter
    ((0, 0, 0), ""),
    ((2, 3, 3, 1), "b a"),
    ((1, 0, 0, 1), "aa"),
])
def test_ctc_decode(best, text):
    assert rec.ctc_decode(scores(*best), CHARACTERS) == [text]


def test_characters_start_with_blank_and_end_with_space(tmp_path):
    path = tmp_path / "keys.txt"
    # an ideographic space is a character of its own
    path.write_text("x\n\u3000\ny\n", encoding="utf-8")
    assert rec.read_characters(path) == ["", "x", "\u3000", "y", " "]


def test_word_accuracy_ignores_case_and_punctuation():
    images = np.zeros((2, 3, 48, 320), np.float32)
    predict = lambda batch: [np.concatenate([scores(1, 2), scores(2, 1)])]  # noqa: E731
    assert rec.word_accuracy(predict, images, ["A-B!", "ab"], CHARACTERS) == pytest.approx(50.0)
