# SPDX-License-Identifier: Apache-2.0
"""Rendered text lines: the same for the same seed, splits disjoint, labels
balanced, input in range.
"""
import numpy as np
import pytest

from demo.quickstart import render


def test_same_seed_same_bytes_and_other_seed_other_lines():
    first, again, other = (render.rendered_set("evaluation", 6, seed)[0] for seed in (0, 0, 1))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_lines_do_not_depend_on_how_many_are_asked_for():
    assert np.array_equal(render.rendered_set("calibration", 8, 3)[0][:4],
                          render.rendered_set("calibration", 4, 3)[0])


def test_splits_share_no_text_even_with_equal_seeds():
    texts = {split: {render.line(split, 0, i)[2].lower() for i in range(300)}
             for split in render.SPLITS}
    assert len(texts["evaluation"]) > 200
    assert not texts["calibration"] & texts["evaluation"]


def test_network_input_is_balanced_and_in_range():
    images, labels = render.rendered_set("evaluation", 20, 0)
    assert images.shape == (20, 3, 48, 192) and images.dtype == np.float32
    assert images.min() >= -1.0 and images.max() <= 1.0
    assert labels.sum() == 10


def test_a_turned_line_is_the_upright_one_turned_by_180_degrees(monkeypatch):
    turned, label, text = render.line("evaluation", 0, 1)
    assert label == 1
    rng = np.random.default_rng((1, 0, 1))
    assert render.split_text(rng, "evaluation") == text
    assert np.array_equal(np.asarray(turned)[::-1, ::-1], np.asarray(render.render_line(text, rng)))


def test_every_text_fits_its_split():
    rng = np.random.default_rng(0)
    for split in render.SPLITS:
        assert all(render.split_text(rng, split) for _ in range(50))


def test_evaluate_scores_in_percent():
    always_upright = render.evaluate(lambda batch: [np.tile([1.0, 0.0], (len(batch), 1))],
                                     num_samples=10)
    assert always_upright == {"direction accuracy": pytest.approx(50.0)}
